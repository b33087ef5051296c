"""Tables of a benchmark: the scores of every method, and its verdicts by machine."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.text import byte_size, count, short
from dvae_eval.benchmark.rules import EXACT, FLOOR, MAX_Z
from dvae_eval.results import BenchmarkResult

from ..results.benchmarks import (
    CASES,
    QUANTITIES,
    SYMBOLS,
    Run,
    Score,
    by_suite,
    kind_of,
    scores,
    short_names,
    symbol,
)
from .table import Cell, Column, Section, Table

COLUMNS = [
    Column("method", "method", is_number=False),
    Column("runs", "n_runs"),
    Column("right", "n_right"),
    Column("declined", "n_declined"),
    Column("wrong", "n_wrong"),
    Column("failed", "n_failed"),
    Column("|error|", "median_error"),
    Column("spread of z", "z_rms"),
    Column("CPU s", "cpu_seconds"),
    Column("memory", "peak_memory"),
]
RULE = (
    f"wrong: trusted, but the error exceeds {MAX_Z:g} claimed standard errors and {FLOOR:g} nats (for an answer "
    f"that claims to be exact: {EXACT:g} of log Z); declined: the method itself does not trust its answer."
)
LEGEND = (
    "|error|: median, nats; spread of z: root mean square of error / claimed error over trusted answers, 1 if the "
    "claimed errors are calibrated; CPU s: median; memory: largest peak of a run's process."
)
GAP = (
    "A lower bound may be too low by the gap that it reports: verdicts and z count only the part of the error "
    "beyond the gap."
)
SIGNS = ", ".join(f"{sign} {name}" for name, sign in SYMBOLS.items())


def benchmark_tables(results: Sequence[BenchmarkResult]) -> list[Table]:
    """Return a table of methods, and one of machines and methods for each suite and budget.

    Raises
    ------
    ResultError
        If two results have the same run.
    """
    kinds = [kind for kind in CASES if any(kind_of(result) == kind for result in results)]
    by_kind = [[result for result in results if kind_of(result) == kind] for kind in kinds]
    return [table for kind, some in zip(kinds, by_kind, strict=True) for table in _tables(kind, some)]


def _tables(kind: str, results: Sequence[BenchmarkResult]) -> list[Table]:
    """Return the tables of results of one kind."""
    suites, cases, quantity = by_suite(results), CASES[kind], QUANTITIES[kind]
    sections = [Section(title, [_row(score) for score in scores(runs)]) for title, runs in suites.items()]
    notes = [LEGEND, RULE.replace("log Z", quantity), *([GAP] if kind == "likelihood" else [])]
    summary = Table(f"Estimators of {quantity} on {cases} whose {quantity} is known", COLUMNS, sections, notes)
    return [summary, *(_matrix(title, runs, cases.removesuffix("s")) for title, runs in suites.items())]


def _row(score: Score) -> list[Cell]:
    """Return the scores of a method as a row."""
    counts = [len(score.runs), *(score.count(name) for name in ("right", "declined", "wrong", "failed"))]
    memory = score.peak_memory
    return [
        Cell(score.method),
        *(Cell(count(n), n) for n in counts),
        *map(_number, (score.median_error, score.spread, score.cpu_seconds)),
        Cell() if memory is None else Cell(byte_size(memory), memory),
    ]


def _number(value: float | None) -> Cell:
    return Cell() if value is None else Cell(short(float(f"{value:.2g}")), value)


def _matrix(title: str, runs: Sequence[Run], case: str) -> Table:
    """Return the verdicts of all methods on all machines as signs."""
    methods = short_names(runs)
    rows = [
        [
            Cell(machine),
            *(_verdicts([r for r in runs if (r["machine"], r["method"]) == (machine, m)]) for m in methods),
        ]
        for machine in dict.fromkeys(run["machine"] for run in runs)
    ]
    columns = [
        Column(case, case, is_number=False),
        *(Column(text, name, is_number=False) for name, text in methods.items()),
    ]
    return Table(
        f"Verdicts: {title}", columns, [Section("", rows)], [f"{SIGNS}; numbers: seeds with that verdict."]
    )


def _verdicts(runs: Sequence[Run]) -> Cell:
    text = symbol(runs)
    return Cell(text, text)
