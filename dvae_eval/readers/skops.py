"""skops files of scikit-learn: the arrays of a BernoulliRBM, without making any object of what the file names.

A skops file is an archive of NPY files and `schema.json`, a tree of nodes that says which object each belongs to.
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
    """Return the one BernoulliRBM in a skops file, by itself or in a pipeline."""
    with open_archive(path) as archive:
        if archive.getinfo(SCHEMA).file_size > SCHEMA_BYTES:
            raise DataError(f"its {SCHEMA} has more than {SCHEMA_BYTES} bytes")
        machines = list(_machines(json.loads(archive.read(SCHEMA))))
        if len(machines) != 1:
            raise DataError(f"holds {len(machines)} fitted BernoulliRBM; save one")
        arrays = {}
        for name, member in machines[0].items():
            if member not in archive.namelist():
                raise DataError(f"holds no array for {name}")
            with archive.open(member) as stream:
                arrays[name] = read_array(stream, archive.getinfo(member).file_size, name)
    config.reject_unused("skops")
    return read_arrays(arrays, config, "scikit-learn BernoulliRBM (skops)")


def _machines(schema: Any) -> Iterator[dict[str, str]]:
    """Yield, for every fitted BernoulliRBM in a tree of nodes, the archive's members that hold its arrays."""
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
    """Return a node within a node, empty if it is none."""
    inner = node.get(name)
    return inner if isinstance(inner, dict) else {}
