"""Names of runs: the last parts of their paths, as many as it takes to tell each from the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def distinct_names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """Return a name for every group of paths, no two alike unless their paths are.

    Parameters
    ----------
    groups : sequence of sequences of Path
        Absolute paths of run directories, or of files without their suffix; a group holds at least one.

    Returns
    -------
    list of str
        What the last parts of a group's paths have in common: `run`, or `first/run` and `second/run`.
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
    """Return what the last `depth` parts of paths have in common, without a seed or number at the end."""
    names = ["/".join(path.parts[-depth:]) for path in paths]
    if len(names) == 1:
        return names[0]
    n_common = next((i for i, c in enumerate(zip(*names, strict=False)) if len(set(c)) > 1), min(map(len, names)))
    common = re.sub(r"([-_=./ ]*(seed|run)?[-_=./ ]*\d*)$", "", names[0][:n_common])
    return common or f"{names[0]} … {names[-1]}"
