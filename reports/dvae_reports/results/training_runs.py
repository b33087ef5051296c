"""Courses of training by setting: runs that differ only in their seeds belong together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dvae_core.errors import ConfigError, ResultError
from dvae_core.training.metrics import read_metrics

from .labels import Label
from .run_directory import Course, read_settings
from .run_names import distinct_names


def read_courses(paths: Sequence[Path], labels: Sequence[Label] = ()) -> dict[str, list[Course]]:
    """Return the runs of every setting by name, in the given order.

    Parameters
    ----------
    paths : sequence of Path
        Run directories, or their metrics.jsonl; a file without a config.json is a setting by itself.
    labels : sequence of (str, str)
        Names of runs, given by the user.

    Raises
    ------
    ResultError
        If a run has no epoch, or two settings would have the same name.
    ConfigError
        If a label names none of the runs.
    """
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(_settings_of(path), []).append(path)
    places = [[_directory(path) for path in members] for members in groups.values()]
    names = [
        _label_of(name, members, labels) for name, members in zip(distinct_names(places), places, strict=True)
    ]
    _refuse_strangers(labels, names, places)
    if len({*names}) < len(names):
        raise ResultError(f"{', '.join(names)}: runs of two settings have the same name; name them with --label")
    return {
        name: [_course(path) for path in members] for name, members in zip(names, groups.values(), strict=True)
    }


def _directory(path: Path) -> Path:
    """Return the directory of a run."""
    return (path if path.is_dir() else path.parent).resolve()


def _settings_of(path: Path) -> str:
    """Return a text that is equal for runs that differ only in their seeds."""
    file = _directory(path) / "config.json"
    if not file.exists():
        return str(path)
    config, provenance = read_settings(file)
    settings = config.to_dict()
    settings["train"].pop("seed")
    return json.dumps([settings, provenance.get("data_sha256")], sort_keys=True)


def _label_of(name: str, places: Sequence[Path], labels: Sequence[Label]) -> str:
    """Return the label of a setting; `name` without one."""
    return next((label for run, label in labels if _is_of(run, name, places)), name)


def _is_of(run: str, name: str, places: Sequence[Path]) -> bool:
    """Return whether `run` names these runs."""
    return run == name or any(run == place.name or Path(run).resolve() == place for place in places)


def _refuse_strangers(labels: Sequence[Label], names: Sequence[str], places: Sequence[Sequence[Path]]) -> None:
    """Raise ConfigError if a label names none of the runs."""
    shown = distinct_names(places)
    for run, _ in labels:
        if not any(_is_of(run, name, members) for name, members in zip(shown, places, strict=True)):
            raise ConfigError(
                f"--label: {run} is none of the runs; give one of their paths, or {', '.join(shown)}"
            )


def _course(path: Path) -> Course:
    """Return the course of training at `path`; without changes if its config.json is missing."""
    file = path / "metrics.jsonl" if path.is_dir() else path
    epochs, _ = read_metrics(file)
    if not epochs:
        raise ResultError(f"{file}: contains no epoch; give a run directory in which dvae-train finished one")
    config = file.parent / "config.json"
    return Course(epochs, read_settings(config)[0].changes if config.exists() else ())
