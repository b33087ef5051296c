"""The user's names for runs, which replace the names of directories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dvae_core.errors import ConfigError

from .groups import Group, group_runs
from .loaded import LoadedResult, named
from .run_directory import COMMANDS_OF_FILES

# A run (a directory, a file, or its name in tables), and the name to show.
Label = tuple[str, str]


def labelled(measured: Sequence[LoadedResult], labels: Sequence[Label]) -> list[LoadedResult]:
    """Return results with the user's labels.

    A label applies to all seeds of a run, which are one row of a table.

    Raises
    ------
    ConfigError
        If a label names no result, a run has two labels, or two rows would have the same name.
    """
    if not labels:
        return list(measured)
    names, groups = named(measured), group_runs(measured)
    found = list(measured)
    for run, label in labels:
        places = {one.place for name, one in names if name == run or _is_at(one, run)}
        places |= {one.place for group in groups if group.name == run for one in group.runs}
        places |= {
            one.place for group in groups if any(r.place in places for r in group.runs) for one in group.runs
        }
        if not places:
            shown = dict.fromkeys([*(group.name for group in groups), *(name for name, _ in names)])
            raise ConfigError(
                f"--label: {run} is none of the results; give one of their paths, or {', '.join(shown)}"
            )
        _refuse_two(found, places, label)
        found = [replace(one, label=label) if one.place in places else one for one in found]
    return found


def group_of(groups: Sequence[Group], run: str, option: str) -> Group:
    """Return the group with a path or a name in tables; ConfigError if there is none."""
    found = [group for group in groups if group.name == run or any(_is_at(one, run) for one in group.runs)]
    if not found:
        names = ", ".join(group.name for group in groups)
        raise ConfigError(f"{option}: {run} is none of the results; give one of their paths, or {names}")
    return found[0]


def _is_at(one: LoadedResult, run: str) -> bool:
    """Return whether a result is at a path."""
    path = Path(run).resolve()
    if path.name in COMMANDS_OF_FILES and one.config is not None:
        path = path.parent
    return path in (one.path.resolve(), one.place)


def _refuse_two(measured: Sequence[LoadedResult], places: set[Path], label: str) -> None:
    """Raise ConfigError if one of these places has a label already, or another place has this label."""
    for one in measured:
        if one.place in places and one.label not in ("", label):
            raise ConfigError(f"--label: {one.path} has two labels, {one.label} and {label}; give one")
        if one.place not in places and one.label == label:
            raise ConfigError(f"--label: {label} is the name of two rows; give each its own name")
