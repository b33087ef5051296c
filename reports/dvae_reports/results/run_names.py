"""Names of runs: as many of the last parts of their paths as make them distinct."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def distinct_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """Return a name for every group of paths; names are distinct unless the paths are equal.

    Parameters
    ----------
    groups : sequence of sequences of Path
        Absolute paths of run directories, or of files without suffix; at least one per group.

    Returns
    -------
    list of str
        The common part of a group's last path components: `run`, or `first/run` and `second/run`.
    """
    depths = [1] * len(groups)
    while True:
        names = [_common_name(paths, depth) for paths, depth in zip(groups, depths, strict=True)]
        owners: dict[str, set[frozenset[Path]]] = {}
        for name, paths in zip(names, groups, strict=True):
            owners.setdefault(name, set()).add(frozenset(paths))
        shared = [
            i
            for i, (name, paths) in enumerate(zip(names, groups, strict=True))
            if len(owners[name]) > 1 and depths[i] < max(len(path.parts) for path in paths)
        ]
        if not shared:
            return names
        for i in shared:
            depths[i] += 1


def _common_name(paths: Sequence[Path], depth: int) -> str:
    """Return the common part of the last `depth` components of paths, without a seed or number at its end."""
    names = ["/".join(path.parts[-depth:]) for path in paths]
    if len(names) == 1:
        return names[0]
    n_common = next((i for i, c in enumerate(zip(*names, strict=False)) if len(set(c)) > 1), min(map(len, names)))
    common = re.sub(r"([-_=./ ]*(seed|run)?[-_=./ ]*\d*)$", "", names[0][:n_common])
    return common or f"{names[0]} … {names[-1]}"
