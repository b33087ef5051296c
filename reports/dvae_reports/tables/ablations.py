"""The ablations of App. J: what each part of the model contributes, in the paper and in the user's runs."""

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

# What the paper's rows are: App. J is about statically binarized MNIST, with App. H's networks.
DATASET, FULL_UNITS = "mnist-static", 128
FULL, UNLINKED = "full", "unlinked"
# What the marks of a step mean.
RESTS_ON = {NOT_TRUSTED: "rests on a result that may be wrong", LOOSE: "rests on a bound that is loose"}
# The place of its column in the table of contributions.
STD_ERR_RUNS = 6
# The parts that the variants differ in, with the variant that has it and the one that does not.
PARTS = (
    ("continuous layers", FULL, "deep"),
    ("hidden layers of the decoder", "deep", "linear"),
    ("lateral connections", "linear", "sbn"),
    ("hierarchical posterior", "sbn", "flat"),
    ("lateral connections of the full model", FULL, UNLINKED),
)
GAP_MEANING = (
    "the log-likelihood less the paper's of that variant, for as many RBM units where it gives several; of a full "
    "model, less Table 1's on that data set"
)
OF_THE_GAIN = (
    "standard errors of the gain from the choice of images (compared image by image), from both estimates of "
    "log Z, and from other seeds (where both have several runs)"
)
PAPER_MEANING = (
    "the same difference of the paper's numbers, where it gives both; for the full model without lateral "
    "connections, what it says in Section 5"
)
CONTRIBUTIONS = [
    Column("part", "part", is_number=False),
    Column("with", "with", is_number=False),
    Column("without", "without", is_number=False),
    Column(
        "gain",
        "gain",
        meaning="log-likelihood with the part less that without it, nats per image",
        errors=("std_err_images", "std_err_log_z", "std_err_runs"),
        error_name="all its known errors together",
    ),
    Column("± images", "std_err_images", meaning=OF_THE_GAIN),
    Column("± log Z", "std_err_log_z", meaning=OF_THE_GAIN),
    Column("± runs", "std_err_runs", meaning=OF_THE_GAIN),
    Column("in errors", "in_errors", meaning="gain over all its errors together"),
    Column("paper", "paper", meaning=PAPER_MEANING),
]


def ablation_table(groups: Sequence[Group]) -> Table:
    """Return the ablations of App. J, down to the simplest variant that one of the user's runs is of.

    No number is called the best: the variants are there to be compared.
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
        notes.append(f"No variant of App. J, or of unknown architecture: {', '.join(outside)}.")
    sections = [section for section in sections if section.rows]
    return Table("The contributions of the model's parts (App. J)", columns, sections, notes, name="variants")


def contribution_table(groups: Sequence[Group]) -> Table:
    """Return what each part of the model gains: the differences between neighbouring variants, with their errors.

    Runs of one data set are compared, with equally many RBM units if the neighbouring variant has such.
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
            "Seeds differ by chance, too: without ± runs, the errors lack what another training would give."
        )
    marks = {cell.mark for row in rows for cell in row}
    notes += [f"{sign} {meaning}, see the table of runs." for sign, meaning in RESTS_ON.items() if sign in marks]
    if strangers:
        notes.append(f"Measured on different images, and so not compared: {'; '.join(strangers)}.")
    return Table("What each part gains", CONTRIBUTIONS, [Section("", rows)], notes, name="gains")


# --- variants -------------------------------------------------------------------------------------------------


def _titles() -> dict[str, str]:
    """Return the variants with their names, from the richest model to the poorest."""
    names = {variant.variant: variant.name for variant in published.ablations()}
    return {FULL: "the full model", UNLINKED: "the full model without lateral connections", **names}


def _down_to_the_simplest(groups: Sequence[Group]) -> dict[str, str]:
    """Return the variants down to the simplest that there is a run of, with their names; all if there is none."""
    titles = _titles()
    variants = list(titles)
    taken = [variants.index(variant) for variant in map(_variant_of, groups) if variant]
    return {variant: titles[variant] for variant in variants[: max(taken, default=len(variants)) + 1]}


def _of_variant(groups: Sequence[Group], variant: str) -> list[Group]:
    """Return the groups of a variant."""
    return [group for group in groups if _variant_of(group) == variant]


def _variant_of(group: Group) -> str | None:
    """Return a group's variant; None if it is of none, or nothing is known of its architecture."""
    return _variant(group.config.model) if group.config else None


def _variant(model: ModelConfig) -> str | None:
    """Return the variant that an architecture is, None for one that the paper does not look at."""
    if model.n_layers:
        return {"rbm": FULL, "independent": UNLINKED}.get(model.prior)
    if model.prior == "rbm":
        return "deep" if model.decoder_hidden else "linear"
    if model.prior == "graph" or model.decoder_hidden:
        return None
    return "flat" if model.n_groups == 1 else "sbn"


def _n_units(group: Group) -> int:
    """Return how many units a group's prior has; 0 if unknown."""
    return group.config.model.n_left + group.config.model.n_right if group.config else 0


# --- the paper's numbers --------------------------------------------------------------------------------------


def _paper_number(group: Group) -> Number | None:
    """Return the paper's log-likelihood for a group's variant and data set, None if it gives none.

    Of several of a variant, that of as many units; the only one whatever the units, since small models are to be
    compared as well.
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
    """Return groups of runs of known architecture as rows."""
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
    """Yield the steps between variants that have runs on either side."""
    for part, above, below in PARTS:
        pairs = [
            (richer, poorer)
            for richer in _of_variant(groups, above)
            for poorer in _of_variant(groups, below)
            if richer.data == poorer.data
        ]
        # Runs that have a neighbour of their own size are compared with no other.
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
