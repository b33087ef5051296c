"""The ladder of App. J: what each part of the model contributes, in the paper and in the user's runs."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.config import ModelConfig

from .. import published
from ..measured import Group
from ..published import Number
from ..typeset import Cell, Column, Section, Table
from .architectures import widths
from .rows import LEGEND, NUMBERS, SOURCE, group_cells, mark, mark_notes, printed

__all__ = ["ablation_table"]

# What the paper's rows are: App. J is about statically binarized MNIST, with App. H's networks.
DATASET, FULL_UNITS = "mnist-static", 128


def ablation_table(groups: Sequence[Group]) -> Table:
    """Return the ladder of App. J with the user's runs on the rungs that their architectures put them on.

    No number is called the best: the rungs are there to be told apart.
    """
    rungs = {"full": "the full model", **{rung.rung: rung.name for rung in published.ablations()}}
    sections = [
        Section(
            title,
            [*_paper_rows(rung), *(_own_row(g, g.config.model) for g in groups if g.config and _is(g, rung))],
        )
        for rung, title in rungs.items()
    ]
    columns = [
        Column("run", "run", is_number=False),
        Column("data", "dataset", is_number=False),
        Column("RBM units", "n_units"),
        Column("posterior networks", "encoder_hidden"),
        *NUMBERS,
        SOURCE,
    ]
    outside = [group.name for group in groups if not any(_is(group, rung) for rung in rungs)]
    notes = [LEGEND, *mark_notes(groups)]
    if outside:
        notes.append(f"On no rung of the ladder, or of unknown architecture: {', '.join(outside)}.")
    return Table("The contributions of the model's parts (App. J)", columns, sections, notes)


def _is(group: Group, rung: str) -> bool:
    """Whether a group's architecture stands on a rung."""
    return group.config is not None and _rung(group.config.model) == rung


def _rung(model: ModelConfig) -> str | None:
    """Return the rung of an architecture, None for one that the paper does not look at."""
    if model.n_layers:
        return "full" if model.prior == "rbm" else None
    if model.prior == "rbm":
        return "deep" if model.decoder_hidden else "linear"
    if model.prior == "graph" or model.decoder_hidden:
        return None
    return "flat" if model.n_groups == 1 else "sbn"


def _paper_rows(rung: str) -> list[list[Cell]]:
    """Return the paper's rows of a rung."""
    if rung == "full":
        own = [row for row in published.table_1() if (row.dataset, row.model) == (DATASET, "Discrete VAE")]
        return [_paper_row(FULL_UNITS, row.log_likelihood, row.std_dev, row.n_runs, "Table 1") for row in own]
    return [
        _paper_row(row.n_units, row.log_likelihood, None, None, "App. J")
        for row in published.ablations()
        if row.rung == rung
    ]


def _paper_row(
    n_units: int, number: Number | None, std_dev: Number | None, n_runs: int | None, where: str
) -> list[Cell]:
    """Return one of the paper's numbers as a row."""
    cells = [Cell("Rolfe 2017"), Cell(DATASET), Cell(str(n_units), n_units), Cell("2000, 2000"), printed(number)]
    runs = Cell() if n_runs is None else Cell(str(n_runs), n_runs)
    return [*cells, printed(std_dev), runs, Cell(), Cell(), Cell(where)]


def _own_row(group: Group, model: ModelConfig) -> list[Cell]:
    """Return a group of runs as a row."""
    n_units = model.n_left + model.n_right
    cells = [Cell(group.name, mark=mark(group)), Cell(group.dataset), Cell(str(n_units), n_units)]
    return [*cells, Cell(widths(model.encoder_hidden)), *group_cells(group), Cell("measured")]
