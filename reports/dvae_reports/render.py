"""The report: one HTML page that holds all it shows, from run records to a string.

The same records give the same bytes; nothing on the page asks the network for anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dvae_eval.results import LikelihoodResult, LogZResult

from . import pictures, rounding, tables
from .figures.log_z import exact_log_z
from .judgement import against_exact, checks, judge, maker, shift
from .run_directory import RunRecord

__all__ = ["render_report"]

METHODS = {"exact": "exact enumeration", "pt-bar": "parallel tempering + Bennett's acceptance ratio"}


def render_report(records: Sequence[RunRecord]) -> str:
    """Return the report on one run, or on several side by side, as a self-contained HTML page.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; shown in this order.

    Raises
    ------
    ValueError
        If there is no record.
    ResultError
        If a result lacks what its figures need.
    """
    if not records:
        raise ValueError("no run to report on; give at least one run directory")
    labels = _labels(records)
    runs = [
        _run(record, label, f"run-{i}") for i, (record, label) in enumerate(zip(records, labels, strict=True), 1)
    ]
    return _template().render(
        runs=runs,
        single=len(runs) == 1,
        level=2 if len(runs) == 1 else 3,
        differences=tables.differences(records),
    )


@cache
def _template() -> Template:
    """Return the page's template, with escaping on and missing names an error."""
    environment = Environment(
        loader=PackageLoader("dvae_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions = ("count", "decimals", "duration", "error_text", "estimate", "fixed", "short")
    environment.filters.update({name: getattr(rounding, name) for name in functions})
    return environment.get_template("report.html.j2")


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Return the runs' names, or their whole paths where two share a name."""
    names = [record.name for record in records]
    return names if len(set(names)) == len(names) else [str(record.directory) for record in records]


def _run(record: RunRecord, label: str, prefix: str) -> dict[str, Any]:
    """Return all that the template shows of one run."""
    return {
        "id": prefix,
        "label": label,
        "record": record,
        "verdict": judge(record),
        "notes": [*record.notes, *filter(None, [shift(record.log_z, record.likelihood)])],
        "makers": {file: maker(record, file) for file in ("logz.json", "ll.json", "samples.npz")},
        "log_z": _log_z(record.log_z, prefix),
        "likelihood": _likelihood(record.likelihood, prefix),
        "worst": pictures.worst_pictures(record.images) if record.images else [],
        "samples": pictures.sample_pictures(record.samples) if record.samples else [],
        "reconstructions": pictures.reconstruction_pictures(record.samples) if record.samples else [],
        "last_epoch": tables.last_epoch(record.epochs),
        "training": pictures.training_plots(record.epochs, prefix),
        "settings": tables.settings(record),
        "provenance": tables.provenance(record),
    }


def _log_z(result: LogZResult | None, prefix: str) -> dict[str, Any] | None:
    """Return what the page says of log Z."""
    if result is None:
        return None
    return {
        "result": result,
        "method": METHODS.get(result.method, result.method),
        "is_exact": result.method == "exact",
        "exact": exact_log_z(result),
        "against_exact": against_exact(result),
        "plots": pictures.log_z_plots(result, prefix),
        "rows": tables.ladder(result),
        "checks": checks(result),
    }


def _likelihood(result: LikelihoodResult | None, prefix: str) -> dict[str, Any] | None:
    """Return what the page says of the log-likelihood."""
    if result is None:
        return None
    return {
        "result": result,
        "parts": tables.bound_parts(result),
        "plots": pictures.likelihood_plots(result, prefix),
        "checks": checks(result),
    }
