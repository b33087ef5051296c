"""The report: one self-contained HTML page, rendered from run records.

The same records give the same bytes, and the page makes no network requests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvae_eval.results import LikelihoodResult, LogZResult

from ..figures.diagnostics import panels_of
from ..figures.log_z import exact_log_z
from ..figures.training import TRAINING_PANELS
from ..page import page_template
from ..results import published
from ..results.groups import group_runs
from ..results.loaded import LoadedResult
from ..results.paired import differences_from_first
from ..results.run_directory import RunRecord
from ..results.run_names import distinct_names
from ..tables import paper_table
from ..tables.table import table_notes, without_empty_columns
from . import pictures, tables
from .contents import contents
from .verdict import certificate, command_for, distance_from_exact, exact_route, next_step, summary, verdict_of

METHODS = {
    "pt-bar": "parallel tempering + Bennett's acceptance ratio",
    "ais": "annealed importance sampling",
    "reverse-ais": "reverse annealed importance sampling",
}


Run = RunRecord | str | os.PathLike[str]


def render_report(records: Run | Sequence[Run]) -> str:
    """Return the report on one run, or on several side by side, as a self-contained HTML page.

    Parameters
    ----------
    records : RunRecord or the path of a run directory, or a sequence of them
        At least one; shown in this order.

    Raises
    ------
    ValueError
        If there is no record.
    ResultError
        If a result lacks the numbers that its figures need.
    """
    given = [records] if isinstance(records, RunRecord | str | os.PathLike) else list(records)
    if not given:
        raise ValueError("no run to report on; give at least one run directory")
    return _rendered([run if isinstance(run, RunRecord) else RunRecord.load(Path(run)) for run in given])


def _rendered(records: Sequence[RunRecord]) -> str:
    """Return the report on these runs as HTML."""
    labels = _labels(records)
    runs = [
        _run(record, label, f"run-{i}") for i, (record, label) in enumerate(zip(records, labels, strict=True), 1)
    ]
    return page_template("report.html.j2").render(
        title=labels[0] if len(runs) == 1 else f"{len(runs)} runs side by side",
        runs=runs,
        single=len(runs) == 1,
        summary=summary([run["verdict"] for run in runs]),
        next_step=next_step([run["verdict"] for run in runs]),
        level=2 if len(runs) == 1 else 3,
        differences=tables.differences(records),
        gaps=differences_from_first(records),
        shared_plots=_shared_plots(dict(zip(labels, records, strict=True))),
        comparison=_comparison(records),
        contents=json.dumps(contents(records)),
    )


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Return the runs' names, with as many parent directories as make them distinct."""
    return distinct_names([[record.directory.resolve()] for record in records])


def _run(record: RunRecord, label: str, prefix: str) -> dict[str, Any]:
    """Return the values that the template shows for one run."""
    return {
        "id": prefix,
        "label": label,
        "record": record,
        "verdict": verdict_of(record),
        "notes": record.notes,
        "makers": {file: command_for(record, file) for file in ("logz.json", "ll.json", "samples.npz")},
        "log_z": log_z_of(record.log_z, prefix),
        "likelihood": _likelihood(record.likelihood, prefix),
        "worst": pictures.worst_pictures(record.images) if record.images else [],
        "samples": pictures.sample_pictures(record.samples) if record.samples else [],
        "reconstructions": pictures.reconstruction_pictures(record.samples) if record.samples else [],
        "last_epoch": tables.last_epoch(record.epochs),
        "training": pictures.panel_plots(TRAINING_PANELS if record.epochs else (), record.course, prefix),
        "settings": tables.settings(record),
        "provenance": tables.provenance(record),
    }


def _shared_plots(records: Mapping[str, RunRecord]) -> list[pictures.Plot]:
    """Return the figures that compare runs, one set per data set that several runs share."""
    datasets: dict[str, dict[str, RunRecord]] = {}
    for label, record in records.items():
        datasets.setdefault(record.config.dataset, {})[label] = record
    return [
        plot
        for i, members in enumerate(datasets.values())
        for plot in pictures.side_by_side_plots(members, f"data-{i}")
    ]


def _comparison(records: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Return Table 1 with the runs added; None if no run has a log-likelihood on its data sets."""
    measured = {
        record.likelihood.model.get("sha256"): LoadedResult.of_run(
            record.directory, record.likelihood, record.config, record.provenance
        )
        for record in records
        if record.likelihood is not None and record.config.dataset in published.DATASETS
    }
    if not measured:
        return None
    table = without_empty_columns(paper_table(group_runs(list(measured.values()))))
    return {"table": table, "notes": table_notes(table, "Bold: best")}


def log_z_of(result: LogZResult | None, prefix: str) -> dict[str, Any] | None:
    """Return the values that the page shows for log Z; None without a result."""
    if result is None:
        return None
    return {
        "result": result,
        "method": f"exactly{exact_route(result)}" if result.method == "exact" else _method(result),
        "is_exact": result.method == "exact",
        "exact": exact_log_z(result),
        "against_exact": distance_from_exact(result),
        "plots": pictures.panel_plots(panels_of(result), result, prefix),
        "certificate": certificate(result),
        "route": tables.route(result),
        "rows": tables.schedule(result),
        "checks": result.checks,
    }


def _method(result: LogZResult) -> str:
    """Return the full name of a method."""
    return METHODS.get(result.method, result.method)


def _likelihood(result: LikelihoodResult | None, prefix: str) -> dict[str, Any] | None:
    """Return the values that the page shows for the log-likelihood; None without a result."""
    if result is None:
        return None
    return {
        "result": result,
        "parts": tables.bound_parts(result),
        "plots": pictures.panel_plots(panels_of(result), result, prefix),
        "checks": result.checks,
    }
