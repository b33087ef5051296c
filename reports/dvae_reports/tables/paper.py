"""Table 1 of the paper, with the user's results."""

from __future__ import annotations

from collections.abc import Sequence

from ..results import published
from ..results.groups import Group
from ..results.published import Published
from .rows import (
    ELBO,
    GAP,
    SOURCE,
    Row,
    elbo_cell,
    gap_cell,
    group_cells,
    mark,
    mark_notes,
    number_columns,
    printed,
    ranked_section,
)
from .table import Cell, Column, Table

UNVERIFIED, AUTOREGRESSIVE = "‡", "‖"


def paper_table(groups: Sequence[Group], *, with_later: bool = False, references: bool = False) -> Table:
    """Return Table 1 with the user's results in it.

    Shows the data sets of the results; without results, all data sets of the paper.

    Parameters
    ----------
    groups : sequence of Group
    with_later : bool
        Add results that were published after the paper.
    references : bool
        List the full references below the table.
    """
    datasets = list(dict.fromkeys(group.dataset for group in groups)) or list(published.DATASETS)
    listed = [*published.table_1(), *(published.later() if with_later else [])]
    listed = [row for row in listed if row.dataset in datasets]
    sections = [
        ranked_section(
            published.DATASETS.get(dataset, f"{dataset} (not in the paper)"),
            [
                *(_published_row(row) for row in listed if row.dataset == dataset),
                *(_measured_row(group) for group in groups if group.dataset == dataset),
            ],
        )
        for dataset in sorted(datasets, key=_paper_order)
    ]
    notes = [*mark_notes(groups), *_unverified(listed), *_autoregressive(listed), *_read_in(listed)]
    notes += [f"{row.model}, {row.dataset}: {row.note}." for row in listed if row.note]
    notes += _absent() if with_later else []
    notes += _references(listed) if references else []
    columns = [Column("model", "model", is_number=False), ELBO, *number_columns(groups), GAP, SOURCE]
    return Table("Test log-likelihoods with those of Table 1", columns, sections, notes, name="table-1")


def _published_row(row: Published) -> Row:
    """Return a published result as a row; one that was read in no paper's table cannot be the best."""
    cells = [
        Cell(row.model, mark=UNVERIFIED * bool(row.unverified) + AUTOREGRESSIVE * row.is_autoregressive),
        printed(row.elbo),
        printed(row.log_likelihood, row.std_dev),
        printed(row.std_dev),
        Cell(str(row.n_runs), row.n_runs) if row.std_dev else Cell(),
        *(Cell(), Cell(), Cell(), Cell(row.cite, cite=row.reported_by)),
    ]
    if row.unverified:
        return Row(cells, None, None)
    return Row(cells, *(number.value if number else None for number in (row.elbo, row.log_likelihood)))


def _measured_row(group: Group) -> Row:
    """Return a group of runs as a row; a doubtful or incomparable number cannot be the best."""
    gap = gap_cell(group, published.discrete_vae(group.dataset))
    cells = [Cell(group.name, mark=mark(group)), elbo_cell(group), *group_cells(group), gap, Cell("measured")]
    if not (group.trustworthy and group.is_comparable):
        return Row(cells, None, None)
    return Row(cells, group.elbo, group.log_likelihood)


def _paper_order(dataset: str) -> int:
    """Return a sorting key: the paper's data sets in its order, then others."""
    names = list(published.DATASETS)
    return names.index(dataset) if dataset in names else len(names)


def _unverified(rows: Sequence[Published]) -> list[str]:
    """Return the notes on unverified numbers."""
    reasons = dict.fromkeys((row.model, row.unverified) for row in rows if row.unverified)
    return [f"{UNVERIFIED} {model}: {reason}." for model, reason in reasons]


def _autoregressive(rows: Sequence[Published]) -> list[str]:
    """Return the note on autoregressive models, with their names."""
    names = dict.fromkeys(row.model for row in rows if row.is_autoregressive)
    meaning = "autoregressive over the pixels: each depends on others even if the latents are known"
    return [f"{AUTOREGRESSIVE} {', '.join(names)}: {meaning}."] if names else []


def _read_in(rows: Sequence[Published]) -> list[str]:
    """Return a note per publication on the tables in which later numbers were read."""
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.read_in:
            places.setdefault(row.reported_by, {})[row.read_in.removeprefix("Table ")] = None
    return [
        f"{published.bibliography()[key].cite}: numbers of Tables {', '.join(sorted(tables))} there; an upper "
        "bound on the negative log-likelihood is in the column ELBO."
        for key, tables in places.items()
    ]


def _absent() -> list[str]:
    """Return notes on later models without a row."""
    return [f"Not listed: {'; '.join(models)}: {reason}." for reason, models in published.absent().items()]


def _references(rows: Sequence[Published]) -> list[str]:
    """Return the full references of these rows."""
    sources = published.bibliography()
    keys = dict.fromkeys(key for row in rows for key in (row.source, row.reported_by))
    return [f"{sources[key].cite}: {sources[key].reference}." for key in keys]
