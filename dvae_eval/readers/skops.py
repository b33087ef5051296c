"""skops files of scikit-learn: the arrays of a BernoulliRBM, read without constructing any object of the file.

A skops file is an archive of NPY files and `schema.json`, a tree of nodes that assigns the files to objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvae_core.errors import DataError
from dvae_core.io.containers import open_archive, read_array

from .arrays import read_arrays
from .options import ReadConfig, Reading

SCHEMA = "schema.json"
SCHEMA_BYTES = 1 << 24
NAMES = ("components_", "intercept_visible_", "intercept_hidden_")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the single BernoulliRBM in a skops file, alone or in a pipeline."""
    with open_archive(path) as archive:
        if archive.getinfo(SCHEMA).file_size > SCHEMA_BYTES:
            raise DataError(f"its {SCHEMA} has more than {SCHEMA_BYTES} bytes; save the BernoulliRBM alone")
        machines = list(_machines(json.loads(archive.read(SCHEMA))))
        if len(machines) != 1:
            raise DataError(f"contains {len(machines)} fitted BernoulliRBM; save exactly one")
        arrays = {}
        for name, member in machines[0].items():
            if member not in archive.namelist():
                raise DataError(f"has no array for {name}; save it again")
            with archive.open(member) as stream:
                arrays[name] = read_array(stream, archive.getinfo(member).file_size, name)
    config.reject_unused("skops")
    return read_arrays(arrays, config, "scikit-learn BernoulliRBM (skops)")


def _machines(schema: Any) -> Iterator[dict[str, str]]:
    """Yield the archive members with the arrays of each fitted BernoulliRBM in a tree of nodes."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        if not isinstance(node, dict):
            continue
        waiting.extend(node.values())
        if node.get("__class__") == "BernoulliRBM":
            attributes = _inner(_inner(node))
            members = {name: _inner(attributes, name).get("file") for name in NAMES}
            if all(isinstance(member, str) for member in members.values()):
                yield {name: str(member) for name, member in members.items()}


def _inner(node: dict[str, Any], name: str = "content") -> dict[str, Any]:
    """Return the node under a name of a node; empty if there is none."""
    inner = node.get(name)
    return inner if isinstance(inner, dict) else {}
