"""Tables of log-likelihoods and of estimates of log Z."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.text import count, decimals
from dvae_eval.results import LogZResult
from dvae_eval.verdict import WORDS

from ..figures.log_z import exact_log_z
from ..results.groups import Group
from ..results.loaded import LoadedResult, named
from .gains import gain_cells, gain_columns, gain_notes
from .rows import (
    ELBO,
    PART,
    VERDICT,
    Row,
    elbo_cell,
    error_cell,
    group_cells,
    log_z_cell,
    mark_notes,
    number_columns,
    ranked_section,
    verdict_cell,
    verdict_mark,
    why_of,
)
from .table import Cell, Column, Section, Table, number_cell


def results_tables(
    measured: Sequence[LoadedResult], groups: Sequence[Group], baseline: Group | None = None
) -> list[Table]:
    """Return a table of the log-likelihoods and a table of the estimates of log Z, each if there are any.

    With a baseline, the log-likelihoods have a column with the paired gain over it.
    """
    estimates = [(name, one.result) for name, one in named(measured) if isinstance(one.result, LogZResult)]
    return [
        *([_likelihoods(groups, baseline)] if groups else []),
        *([log_z_table(estimates)] if estimates else []),
    ]


def _likelihoods(groups: Sequence[Group], baseline: Group | None) -> Table:
    """Return a table of log-likelihoods with one section per set of images, within which they are comparable."""
    images: dict[str, list[Group]] = {}
    for group in groups:
        part = "" if group.is_whole_split else ", part of the set"
        images.setdefault(f"{group.dataset}: {count(group.n_images)} {group.split} images{part}", []).append(group)
    sections = [
        ranked_section(title, [_row(group, baseline) for group in members]) for title, members in images.items()
    ]
    columns = [Column("run", "run", is_number=False), ELBO, *number_columns(groups)]
    columns += gain_columns(baseline) if baseline else []
    columns += [Column("samples", "n_samples"), Column("log Z", "log_z", errors=("std_err_log_z",)), VERDICT]
    notes = [note for note in mark_notes(groups) if not note.startswith(PART)]
    notes += gain_notes(groups, baseline) if baseline else []
    return Table("Log-likelihoods", columns, sections, notes, name="log-likelihoods")


def _row(group: Group, baseline: Group | None) -> Row:
    """Return a group of runs as a row."""
    first = group.results[0]
    log_z = Cell() if len(group.runs) > 1 else log_z_cell(first.log_z, first.std_err_log_z)
    name = Cell(group.name, mark=verdict_mark(group.verdict))
    cells = [name, elbo_cell(group), *group_cells(group)]
    cells += gain_cells(group, baseline) if baseline else []
    cells += [Cell(count(first.n_samples), first.n_samples), log_z, verdict_cell(group.verdict)]
    return Row(cells, group.elbo, group.log_likelihood) if group.trustworthy else Row(cells, None, None)


def log_z_table(estimates: Sequence[tuple[str, LogZResult]]) -> Table:
    """Return a table of estimates of log Z, each with its run's name."""
    columns = [
        Column("model", "model", is_number=False),
        Column(
            "log Z",
            "log_z",
            meaning="log partition function of the prior, nats",
            errors=("std_err",),
            error_name="standard error",
        ),
        Column("±", "std_err", meaning="standard error"),
        Column("LL", "log_likelihood", meaning=_likelihood_meaning(estimates), latex=r"$\log p(x)$"),
        Column("exact", "exact"),
        Column("method", "method", is_number=False),
        Column("replicates", "n_repeats"),
        VERDICT,
    ]
    notes = [
        f"{sign} {name}: {WORDS[result.verdict]}: {why_of({'': result})}."
        for name, result in estimates
        if (sign := verdict_mark(result.verdict))
    ]
    rows = [_log_z_row(name, result) for name, result in estimates]
    return Table("log Z", columns, [Section("", rows)], notes, name="log-z")


def _likelihood_meaning(estimates: Sequence[tuple[str, LogZResult]]) -> str:
    """Return the meaning of the log-likelihoods: of which data."""
    splits = {name for _, result in estimates if (name := _shown_split(result))}
    which = " or ".join(f"{name} images" if name != "all" else "data" for name in sorted(splits))
    return f"mean log-likelihood of the {which}, nats" if splits else ""


def _shown_split(result: LogZResult) -> str:
    """Return the split whose log-likelihood the table shows, the last one; empty if there is none."""
    return next(reversed(result.diagnostics.get("log_likelihood", {}).get("splits", {})), "")


def _likelihood_cell(result: LogZResult) -> Cell:
    """Return the mean log-likelihood of data; an empty cell if it was not measured."""
    if not (split := _shown_split(result)):
        return Cell()
    found = result.diagnostics["log_likelihood"]["splits"][split]
    return number_cell(found["mean"], decimals(found["std_err_images"], found["std_err_log_z"]))


def _log_z_row(name: str, result: LogZResult) -> list[Cell]:
    """Return an estimate of log Z as a row."""
    exact, n = exact_log_z(result), len(result.repeats)
    return [
        Cell(name, mark=verdict_mark(result.verdict)),
        log_z_cell(result.log_z, result.std_err),
        error_cell(result.std_err),
        _likelihood_cell(result),
        Cell() if exact is None else log_z_cell(exact, result.std_err),
        Cell(result.method),
        Cell(count(n), n) if n else Cell(),
        verdict_cell(result.verdict),
    ]
