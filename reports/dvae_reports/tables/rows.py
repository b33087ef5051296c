"""Parts that the tables share: columns of numbers, measured and published rows, marks and their meanings.

Published numbers are shown as they were printed.  Measured ones are rounded to the digits that their errors allow.
Doubtful numbers are marked; neither they nor incomparable numbers can be the best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvae_core.text import count, decimals, error_text
from dvae_eval.results import LikelihoodResult, Result
from dvae_eval.verdict import WORDS, Level

from ..results.groups import Group, error_name
from ..results.loaded import LoadedResult
from ..results.log_z_in_use import applied_note
from ..results.published import Number
from .table import Cell, Column, Section, number_cell

NOT_TRUSTED, LOOSE, PART = "†", "¶", "§"

ELBO = Column("ELBO", "elbo")
GAP = Column("gap to paper", "gap_to_paper", meaning="log-likelihood minus that of the paper's discrete VAE")
SOURCE = Column("source", "source", is_number=False)
VERDICT = Column("verdict", "verdict", is_number=False)
ERRORS_OF_IMAGES = (
    "standard errors from the choice of images, which is the same for all rows, and from log Z; "
    "the largest of the runs"
)


def number_columns(groups: Sequence[Group]) -> list[Column]:
    """Return the columns of `group_cells`: log-likelihood, standard deviation, number of runs, errors."""
    likelihood = Column(
        "LL",
        "log_likelihood",
        meaning="log-likelihood, nats per image, a lower bound in expectation",
        latex=r"$\log p(x)$",
        errors=("std_dev", "std_err_images", "std_err_log_z"),
        error_name=error_name(groups) or "sd of runs",
    )
    return [
        likelihood,
        Column("sd", "std_dev", meaning="standard deviation over runs that differ only in their seeds"),
        Column("runs", "n_runs"),
        Column("± images", "std_err_images", meaning=ERRORS_OF_IMAGES),
        Column("± log Z", "std_err_log_z", meaning=ERRORS_OF_IMAGES),
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """A row and the numbers to rank; None for a missing number and for one that cannot be the best."""

    cells: list[Cell]
    elbo: float | None
    log_likelihood: float | None


def ranked_section(title: str, rows: Sequence[Row]) -> Section:
    """Return rows as a section with the best ELBO and the best log-likelihood marked.

    These are the second and the third column.
    """
    best = [_best([row.elbo for row in rows]), _best([row.log_likelihood for row in rows])]
    return Section(title, [_emphasised(row, best) for row in rows])


def _best(values: Sequence[float | None]) -> float | None:
    """Return the largest of several numbers; None for a single value: nothing to compare."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def _emphasised(row: Row, best: Sequence[float | None]) -> list[Cell]:
    """Return the cells of a row with the best ones marked."""
    cells = list(row.cells)
    for i, (value, top) in enumerate(zip((row.elbo, row.log_likelihood), best, strict=True), start=1):
        if value is not None and value == top:
            cells[i] = dataclasses.replace(cells[i], is_best=True)
    return cells


def elbo_cell(group: Group) -> Cell:
    """Return the ELBO, the bound with one sample."""
    return number_cell(group.elbo, group.decimals)


def group_cells(group: Group) -> list[Cell]:
    """Return the cells under `number_columns`."""
    n = len(group.runs)
    return [
        number_cell(group.log_likelihood, group.decimals, error=group.error),
        Cell() if group.std_dev is None else error_cell(group.std_dev),
        Cell(str(n), n),
        error_cell(group.std_err_images),
        error_cell(group.std_err_log_z),
    ]


def error_cell(std_err: float | None) -> Cell:
    """Return a standard error."""
    return Cell(error_text(std_err), std_err, digits=decimals(std_err))


def gap_cell(group: Group, number: Number | None) -> Cell:
    """Return a log-likelihood minus one of the paper's; an empty cell for other splits than the test set.

    For a part of the test set, whose images are evenly spread, the gap is less precise; the row is marked.
    """
    if number is None or group.split != "test":
        return Cell()
    gap = group.log_likelihood - number.value
    return number_cell(gap, min(group.decimals, number.decimals), is_signed=True)


def log_z_cell(log_z: float, std_err: float | None) -> Cell:
    """Return a log Z with the digits that its error allows."""
    return number_cell(log_z, decimals(std_err), error=std_err or None)


def printed(number: Number | None, error: Number | None = None) -> Cell:
    """Return a published number as it was printed, with its error if there is one."""
    if number is None:
        return Cell()
    return Cell(number.text.replace("-", "−"), number.text, error=error.text if error else None)


def mark(group: Group) -> str:
    """Return the marks of a measured row."""
    return verdict_mark(group.verdict) + PART * (not group.is_comparable)


def verdict_mark(level: Level) -> str:
    """Return the mark of a verdict: doubtful or loose; empty for others."""
    return {"doubtful": NOT_TRUSTED, "loose": LOOSE}.get(level, "")


def verdict_cell(level: Level) -> Cell:
    """Return a verdict in words."""
    return Cell(WORDS[level], level)


def mark_notes(groups: Sequence[Group]) -> list[str]:
    """Return the notes on the marks of measured rows, combined for rows with the same note."""
    names: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for said in _marked(group):
            names.setdefault(said, []).append(group.name)
    marks = [f"{sign} {', '.join(rows)}: {meaning}." for (sign, meaning), rows in sorted(names.items(), key=_rank)]
    return [*marks, *(f"{name}: {note}." for name, note in _log_z_notes(groups))]


def _log_z_notes(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Return the runs whose log-likelihood uses another log Z than its file, each with a note."""
    runs = [(run.place.name, run.result) for group in groups for run in group.runs]
    return [(name, note) for name, r in runs if isinstance(r, LikelihoodResult) and (note := applied_note(r))]


def _marked(group: Group) -> list[tuple[str, str]]:
    """Return the marks of a measured row, each with its meaning."""
    marks = []
    if sign := verdict_mark(group.verdict):
        marks.append((sign, f"{WORDS[group.verdict]}: {_reasons(group)}"))
    if group.split != "test":
        marks.append((PART, f"on the {group.split} set"))
    elif not group.is_whole_split:
        marks.append((PART, f"on {count(group.n_images)} of the test images"))
    if group.trained_on is not None:
        marks.append((PART, f"trained on {group.trained_on}"))
    return marks


def _reasons(group: Group) -> str:
    """Return the reasons of a row's verdict, with the names of the runs if there are several."""
    runs = [run for run in group.runs if run.result.verdict == group.verdict]
    return why_of({"" if len(group.runs) == 1 else _short_name(run): run.result for run in runs})


def _short_name(run: LoadedResult) -> str:
    """Return a run's name within its row: its seed if the row has a label of the user."""
    return f"seed {run.config.train.seed}" if run.label and run.config else run.place.name


def why_of(results: Mapping[str, Result]) -> str:
    """Return the reasons of verdicts as one text, each remedy once, after the findings that it applies to.

    `results` has a name per result, which is empty for a single one.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, result in results.items():
        for reason in result.reasons or result.warnings or ["no reason recorded; measure again"]:
            finding, _, remedy = reason.partition("; ")
            found.setdefault(remedy, {}).setdefault(name, []).append(finding)
    parts = []
    for remedy, findings in found.items():
        parts += [f"{name}: {'; '.join(said)}".removeprefix(": ") for name, said in findings.items()]
        parts += [remedy] if remedy else []
    return "; ".join(parts)


def _rank(said: tuple[tuple[str, str], list[str]]) -> int:
    """Return the sorting key of a note: doubtful first, then loose, then parts of a set."""
    return [NOT_TRUSTED, LOOSE, PART].index(said[0][0])
