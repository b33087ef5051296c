"""The ablations of App. J: the contribution of each part of the model, in the paper and in the user's runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dvae_core.config import ModelConfig
from dvae_core.text import decimals, signed
from dvae_eval.verdict import worst

from ..results import published
from ..results.groups import Group
from ..results.paired import Difference, mean_difference
from ..results.published import Number
from .architectures import widths
from .rows import (
    GAP,
    LOOSE,
    NOT_TRUSTED,
    SOURCE,
    error_cell,
    gap_cell,
    group_cells,
    mark,
    mark_notes,
    number_columns,
    printed,
    verdict_mark,
)
from .table import Cell, Column, Section, Table, number_cell

# The paper's rows: App. J uses statically binarized MNIST and the networks of App. H.
DATASET, FULL_UNITS = "mnist-static", 128
FULL, UNLINKED = "full", "unlinked"
# Meanings of the marks of a step.
RESTS_ON = {NOT_TRUSTED: "rests on a result that may be wrong", LOOSE: "rests on a bound that is loose"}
# Place of the column in the table of contributions.
STD_ERR_RUNS = 6
# Each part of the model, with the variant that has it and the variant that lacks it.
PARTS = (
    ("continuous layers", FULL, "deep"),
    ("hidden layers of the decoder", "deep", "linear"),
    ("lateral connections", "linear", "sbn"),
    ("hierarchical posterior", "sbn", "flat"),
    ("lateral connections of the full model", FULL, UNLINKED),
)
GAP_MEANING = (
    "log-likelihood minus the paper's for that variant, with the same number of RBM units if the paper gives "
    "several; for a full model, minus that of Table 1 on the same data set"
)
OF_THE_GAIN = (
    "standard errors of the gain: from the choice of images (paired, image by image), from both estimates of "
    "log Z, and from the seeds (if both have several runs)"
)
PAPER_MEANING = (
    "the same difference in the paper, if it gives both numbers; for the full model without lateral connections, "
    "the number of its Section 5"
)
CONTRIBUTIONS = [
    Column("part", "part", is_number=False),
    Column("with", "with", is_number=False),
    Column("without", "without", is_number=False),
    Column(
        "gain",
        "gain",
        meaning="log-likelihood with the part minus that without it, nats per image",
        errors=("std_err_images", "std_err_log_z", "std_err_runs"),
        error_name="all its known errors combined",
    ),
    Column("± images", "std_err_images", meaning=OF_THE_GAIN),
    Column("± log Z", "std_err_log_z", meaning=OF_THE_GAIN),
    Column("± runs", "std_err_runs", meaning=OF_THE_GAIN),
    Column("in errors", "in_errors", meaning="gain divided by all its errors combined"),
    Column("paper", "paper", meaning=PAPER_MEANING),
]


def ablation_table(groups: Sequence[Group]) -> Table:
    """Return the ablations of App. J, down to the simplest variant that the user has a run of.

    No number is marked as the best, because the variants differ by design.
    """
    sections = [
        Section(title, [*_paper_rows(variant), *_own_rows(_of_variant(groups, variant))])
        for variant, title in _down_to_the_simplest(groups).items()
    ]
    columns = [
        Column("run", "run", is_number=False),
        Column("data", "dataset", is_number=False),
        Column("RBM units", "n_units"),
        Column("posterior networks", "encoder_hidden"),
        *number_columns(groups),
        replace(GAP, meaning=GAP_MEANING),
        SOURCE,
    ]
    notes = mark_notes(groups)
    outside = [group.name for group in groups if _variant_of(group) is None]
    if outside:
        notes.append(
            f"Not shown, because the architecture is unknown or no variant of App. J: {', '.join(outside)}."
        )
    sections = [section for section in sections if section.rows]
    return Table("The contributions of the model's parts (App. J)", columns, sections, notes, name="variants")


def contribution_table(groups: Sequence[Group]) -> Table:
    """Return the gain from each part of the model: differences of neighbouring variants, with their errors.

    Compares runs on one data set, with the same number of RBM units if the neighbouring variant has such runs.
    """
    rows, strangers = [], []
    for step in _steps(groups):
        gain = mean_difference(step.richer.results, step.poorer.results)
        if gain is None:
            strangers.append(f"{step.richer.name} and {step.poorer.name}")
        else:
            rows.append(_step_row(step, gain))
    notes = []
    if any(not row[STD_ERR_RUNS].text for row in rows):
        notes.append(
            "Without ± runs, the errors do not include the variation between seeds: train both with several."
        )
    marks = {cell.mark for row in rows for cell in row}
    notes += [f"{sign} {meaning}, see the table of runs." for sign, meaning in RESTS_ON.items() if sign in marks]
    if strangers:
        notes.append(f"Not compared, because measured on different images: {'; '.join(strangers)}.")
    return Table("Gain from each part", CONTRIBUTIONS, [Section("", rows)], notes, name="gains")


# --- variants -------------------------------------------------------------------------------------------------


def _titles() -> dict[str, str]:
    """Return the variants with their names, from the richest model to the poorest."""
    names = {variant.variant: variant.name for variant in published.ablations()}
    return {FULL: "the full model", UNLINKED: "the full model without lateral connections", **names}


def _down_to_the_simplest(groups: Sequence[Group]) -> dict[str, str]:
    """Return the variants down to the simplest that has a run, with their names; all variants without runs."""
    titles = _titles()
    variants = list(titles)
    taken = [variants.index(variant) for variant in map(_variant_of, groups) if variant]
    return {variant: titles[variant] for variant in variants[: max(taken, default=len(variants)) + 1]}


def _of_variant(groups: Sequence[Group], variant: str) -> list[Group]:
    """Return the groups of a variant."""
    return [group for group in groups if _variant_of(group) == variant]


def _variant_of(group: Group) -> str | None:
    """Return a group's variant; None for other architectures and unknown ones."""
    return _variant(group.config.model) if group.config else None


def _variant(model: ModelConfig) -> str | None:
    """Return the variant of an architecture; None for one that is not in App. J."""
    if model.n_layers:
        return {"rbm": FULL, "independent": UNLINKED}.get(model.prior)
    if model.prior == "rbm":
        return "deep" if model.decoder_hidden else "linear"
    if model.prior == "graph" or model.decoder_hidden:
        return None
    return "flat" if model.n_groups == 1 else "sbn"


def _n_units(group: Group) -> int:
    """Return the number of units of a group's prior; 0 if unknown."""
    return group.config.model.n_left + group.config.model.n_right if group.config else 0


# --- the paper's numbers --------------------------------------------------------------------------------------


def _paper_number(group: Group) -> Number | None:
    """Return the paper's log-likelihood for a group's variant and data set, None if it gives none.

    If the paper gives several for a variant, the one with the same number of units; a single one applies to any
    number of units, so that small models can be compared too.
    """
    variant = _variant_of(group)
    if variant == FULL:
        return published.discrete_vae(group.dataset)
    if group.dataset != DATASET:
        return None
    numbers = {row.n_units: row.log_likelihood for row in published.ablations() if row.variant == variant}
    return next(iter(numbers.values())) if len(numbers) == 1 else numbers.get(_n_units(group))


def _paper_gain(step: Step) -> Cell:
    """Return the paper's difference for a step."""
    if _variant_of(step.poorer) == UNLINKED:
        number = published.without_rbm(step.richer.dataset)
        return Cell() if number is None else Cell(f"+{number.text}", number.text)
    richer, poorer = _paper_number(step.richer), _paper_number(step.poorer)
    if richer is None or poorer is None:
        return Cell()
    digits = min(number.decimals for number in (richer, poorer))
    gain = round(richer.value - poorer.value, 6)
    return Cell(signed(gain, digits), gain)


def _paper_rows(variant: str) -> list[list[Cell]]:
    """Return the paper's rows of a variant."""
    if variant == FULL:
        own = [row for row in published.table_1() if (row.dataset, row.model) == (DATASET, "Discrete VAE")]
        return [_paper_row(FULL_UNITS, row.log_likelihood, row.std_dev, row.n_runs, "Table 1") for row in own]
    return [
        _paper_row(row.n_units, row.log_likelihood, None, None, "App. J")
        for row in published.ablations()
        if row.variant == variant
    ]


def _paper_row(
    n_units: int, number: Number | None, std_dev: Number | None, n_runs: int | None, where: str
) -> list[Cell]:
    """Return one of the paper's numbers as a row."""
    cells = [Cell("Rolfe 2017", cite="rolfe2017"), Cell(DATASET), Cell(str(n_units), n_units), Cell("2000, 2000")]
    runs = Cell() if n_runs is None else Cell(str(n_runs), n_runs)
    return [*cells, printed(number, std_dev), printed(std_dev), runs, Cell(), Cell(), Cell(), Cell(where)]


# --- the user's -----------------------------------------------------------------------------------------------


def _own_rows(groups: Sequence[Group]) -> list[list[Cell]]:
    """Return the groups of runs with known architecture as rows."""
    return [_own_row(group, group.config.model) for group in groups if group.config]


def _own_row(group: Group, model: ModelConfig) -> list[Cell]:
    """Return a group of runs as a row."""
    n_units = _n_units(group)
    cells = [Cell(group.name, mark=mark(group)), Cell(group.dataset), Cell(str(n_units), n_units)]
    numbers = [*group_cells(group), gap_cell(group, _paper_number(group))]
    return [*cells, Cell(widths(model.encoder_hidden)), *numbers, Cell("measured")]


@dataclass(frozen=True, slots=True)
class Step:
    """Two neighbouring variants: the runs with a part of the model, and those without it."""

    part: str
    richer: Group
    poorer: Group


def _steps(groups: Sequence[Group]) -> Iterator[Step]:
    """Yield the steps between variants that both have runs."""
    for part, above, below in PARTS:
        pairs = [
            (richer, poorer)
            for richer in _of_variant(groups, above)
            for poorer in _of_variant(groups, below)
            if richer.data == poorer.data
        ]
        # Runs with a neighbour of the same size are compared only with it.
        matched = {id(group) for pair in pairs if len({*map(_n_units, pair)}) == 1 for group in pair}
        for richer, poorer in pairs:
            if _n_units(richer) == _n_units(poorer) or not matched & {id(richer), id(poorer)}:
                yield Step(part, richer, poorer)


def _step_row(step: Step, gain: Difference) -> list[Cell]:
    """Return a step with its gain as a row."""
    verdict = worst([step.richer.verdict, step.poorer.verdict])
    in_errors = gain.log_likelihood / gain.std_err if gain.std_err else None
    return [
        Cell(step.part, mark=verdict_mark(verdict)),
        Cell(step.richer.name),
        Cell(step.poorer.name),
        number_cell(gain.log_likelihood, decimals(gain.std_err), error=gain.std_err, is_signed=True),
        error_cell(gain.std_err_images),
        error_cell(gain.std_err_log_z),
        Cell() if gain.std_err_runs is None else error_cell(gain.std_err_runs),
        Cell() if in_errors is None else Cell(signed(in_errors, 1), in_errors),
        _paper_gain(step),
    ]
