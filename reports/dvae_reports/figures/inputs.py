"""Results for figures, read from paths, each with its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvae_core.errors import ResultError
from dvae_eval.results import LogZResult, ObservablesResult

from ..results.labels import Label, labelled
from ..results.loaded import IGNORED_SETTINGS, LoadedResult, load_results, named
from .log_z import exact_log_z


def read_results(paths: Sequence[Path], labels: Sequence[Label] = ()) -> list[LoadedResult]:
    """Return all results at these paths, with the user's labels."""
    return labelled([one for path in paths for one in load_results(path)], labels)


def log_z_results(paths: Sequence[Path], labels: Sequence[Label] = ()) -> list[tuple[str, LogZResult]]:
    """Return the estimates of log Z at these paths with their names; ResultError for a path without one."""
    found = []
    for path in paths:
        results = load_results(path)
        if not any(isinstance(one.result, LogZResult) for one in results):
            raise ResultError(f"{path}: contains no logz result; make one with dvae-eval logz")
        found += results
    ones = [one for one in labelled(found, labels) if isinstance(one.result, LogZResult)]
    return [(name, one.result) for name, one in named(ones) if isinstance(one.result, LogZResult)]


def observables_of(paths: Sequence[Path], labels: Sequence[Label] = ()) -> list[tuple[str, ObservablesResult]]:
    """Return the observables at these paths with their names; ResultError for a path without any."""
    files = [path / "observables.json" if path.is_dir() else path for path in paths]
    found = [one for file in files for one in load_results(file)]
    for file, one in zip(files, found, strict=True):
        if not isinstance(one.result, ObservablesResult):
            raise ResultError(f"{file}: contains no observables; make them with dvae-eval observables")
    named_ones = named(labelled(found, labels))
    return [(name, one.result) for name, one in named_ones if isinstance(one.result, ObservablesResult)]


def pooled(found: Sequence[tuple[str, LogZResult]]) -> list[tuple[str, LogZResult]]:
    """Return one result per model, method and settings, with the estimates of all seeds and the exact value.

    Raises
    ------
    ResultError
        If two files have the same estimates, which would count twice.
    """
    exact = {prior_of(r): v for _, r in found if (v := exact_log_z(r)) is not None}
    groups: dict[tuple[str, str], list[tuple[str, LogZResult]]] = {}
    for name, result in found:
        if len(result.repeats) > 1:
            settings = {key: value for key, value in result.settings.items() if key not in IGNORED_SETTINGS}
            key = (prior_of(result), json.dumps([result.method, settings], sort_keys=True))
            groups.setdefault(key, []).append((name, result))
    one_each = [_pool(members, exact.get(prior)) for (prior, _), members in groups.items()]
    titles = [_title(members, groups) for members in groups.values()]
    return list(zip(titles, one_each, strict=True))


def _pool(members: Sequence[tuple[str, LogZResult]], exact: float | None) -> LogZResult:
    """Return the estimates of several seeds as one result."""
    if len({result.seed for _, result in members}) < len(members):
        names = ", ".join(name for name, _ in members)
        raise ResultError(f"{names}: the same model, settings and seed; give only one of them")
    first = members[0][1]
    repeats = [value for _, result in members for value in result.repeats]
    known = {} if exact is None else {"exact": {"log_z": exact}}
    return replace(first, repeats=repeats, diagnostics={**first.diagnostics, **known})


def _title(members: Sequence[tuple[str, LogZResult]], groups: dict[tuple[str, str], Any]) -> str:
    """Return a panel's title: the run's name, and the method if a model has several panels."""
    name, result = members[0]
    several = sum(prior == prior_of(result) for prior, _ in groups) > 1
    return f"{name}, {result.method}" if several else name


def prior_of(result: LogZResult) -> str:
    """Return a text that identifies a prior."""
    return str(result.model.get("prior_sha256") or result.model.get("sha256"))
