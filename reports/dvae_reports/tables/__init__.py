"""Comparison tables: results with those of the paper, Table 2, the ablations of App. J, any results."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_eval.results import BenchmarkResult

from ..results.groups import group_runs
from ..results.labels import group_of
from ..results.loaded import LoadedResult
from .ablations import ablation_table, contribution_table
from .architectures import architecture_table
from .benchmark import benchmark_tables
from .commands import command_table
from .paper import paper_table
from .results import results_tables
from .table import Table

__all__ = [
    "ablation_table",
    "architecture_table",
    "benchmark_tables",
    "command_table",
    "contribution_table",
    "make_tables",
    "paper_table",
    "results_tables",
]


def make_tables(
    kind: str,
    measured: Sequence[LoadedResult],
    *,
    with_later: bool = False,
    references: bool = False,
    baseline: str = "",
) -> list[Table]:
    """Return the tables of a kind of `dvae_reports.names.TABLES`.

    `with_later` and `references` apply to `table1`; `baseline`, the run to compare others with, to `results`.

    Raises
    ------
    ResultError
        If one model was measured twice under the same settings.
    ConfigError
        If `baseline` names none of the results.
    """
    if kind == "table2":
        return [architecture_table(measured)]
    if kind == "benchmark":
        return benchmark_tables([one.result for one in measured if isinstance(one.result, BenchmarkResult)])
    groups = group_runs(measured)
    if kind == "ablation":
        contributions = contribution_table(groups)
        return [ablation_table(groups), *([contributions] if contributions.sections[0].rows else [])]
    if kind == "results":
        return results_tables(measured, groups, group_of(groups, baseline, "--baseline") if baseline else None)
    return [paper_table(groups, with_later=with_later, references=references)]
