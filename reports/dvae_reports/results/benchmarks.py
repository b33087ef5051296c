"""The runs of benchmarks, grouped for tables and figures by suite, method and machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from dvae_core.errors import ResultError
from dvae_eval.results import BenchmarkResult

Run = dict[str, Any]
# Per kind of benchmark: the cases, and the estimated quantity.
CASES = {"logz": "machines", "likelihood": "models"}
QUANTITIES = {"logz": "log Z", "likelihood": "log p(x)"}
# The sign of each verdict, readable without colour, from the worst verdict to the best.
SYMBOLS = {"wrong": "×", "failed": "!", "declined": "–", "right": "✓"}


@dataclass(frozen=True, slots=True)
class Score:
    """The scores of one method over its runs."""

    method: str
    runs: list[Run]

    def count(self, verdict: str) -> int:
        """Return the number of runs with a verdict."""
        return sum(run["verdict"] == verdict for run in self.runs)

    @property
    def median_error(self) -> float | None:
        """Median of |error| over the runs with an answer, nats."""
        return _median([abs(run["error"]) for run in self.runs if run["error"] is not None])

    @property
    def spread(self) -> float | None:
        """Root mean square of z over trusted answers with an error bar: 1 if error bars are calibrated."""
        z = trusted_z(self.runs)
        return math.sqrt(sum(value * value for value in z) / len(z)) if z else None

    @property
    def cpu_seconds(self) -> float | None:
        """Median of CPU seconds."""
        return _median([run["cpu_seconds"] for run in self.runs if run["verdict"] != "skipped"])

    @property
    def peak_memory(self) -> float | None:
        """Largest peak memory of a run, bytes."""
        return max((run["peak_memory"] for run in self.runs if run.get("peak_memory")), default=None)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def trusted_z(runs: Sequence[Run]) -> list[float]:
    """Return z of the trusted answers that have an error bar."""
    return [run["z"] for run in runs if run["verdict"] in ("right", "wrong") and run["z"] is not None]


def kind_of(result: BenchmarkResult) -> str:
    """Return the kind of a benchmark; the first versions recorded none."""
    kind = str(result.settings.get("kind", "logz"))
    if kind not in CASES:
        raise ResultError(f"kind: {kind[:60]!r} is none of {', '.join(CASES)}")
    return kind


def quantity(runs: Sequence[Run]) -> str:
    """Return the name of the quantity that the runs estimate."""
    return QUANTITIES["likelihood" if any("log_p_x" in run for run in runs) else "logz"]


def by_suite(results: Sequence[BenchmarkResult]) -> dict[str, list[Run]]:
    """Return the runs by suite and budget.

    Raises
    ------
    ResultError
        If two results have the same run, which would count twice.
    """
    suites: dict[str, list[Run]] = {}
    for result in results:
        cases = CASES[kind_of(result)]
        title = f"{result.settings['suite']} {cases}, {result.settings['budget']:g} CPU s per run"
        suites.setdefault(title, []).extend(run for run in result.runs if run["verdict"] != "skipped")
    for title, runs in suites.items():
        keys = [(run["method"], run["machine"], run["seed"]) for run in runs]
        if len(set(keys)) < len(keys):
            method, machine, seed = next(key for key in keys if keys.count(key) > 1)
            raise ResultError(
                f"{title}: {method} on {machine} with seed {seed} is in two files; give only one of them"
            )
    return suites


def scores(runs: Sequence[Run]) -> list[Score]:
    """Return the score of every method, in the order of the runs."""
    methods = dict.fromkeys(run["method"] for run in runs)
    return [Score(name, [run for run in runs if run["method"] == name]) for name in methods]


def short_names(runs: Sequence[Run]) -> dict[str, str]:
    """Return a short name of every method: as many of its last words as make it unique."""
    methods = list(dict.fromkeys(run["method"] for run in runs))
    taken = {method: method for method in methods if ":" not in method}
    for method in methods:
        module, _, function = method.rpartition(":")
        words = (function, f"{module.rpartition('.')[2]}:{function}", method)
        taken.setdefault(method, next(name for name in words if name not in taken.values()))
    return {method: taken[method] for method in methods}


def symbol(runs: Sequence[Run]) -> str:
    """Return the verdicts of runs as signs, with counts if they differ."""
    verdicts = [run["verdict"] for run in runs]
    found = {sign: verdicts.count(name) for name, sign in SYMBOLS.items() if name in verdicts}
    return next(iter(found), "") if len(found) == 1 else " ".join(f"{sign}{n}" for sign, n in found.items())


def worst(runs: Sequence[Run]) -> str:
    """Return the worst verdict of the runs."""
    verdicts = {run["verdict"] for run in runs}
    return next(name for name in SYMBOLS if name in verdicts)
