"""What the tables have in common: the columns of numbers, measured and published rows, marks and what they mean.

Published numbers are shown as they were printed.  Measured ones get as many digits as their errors allow; one that
is not to be trusted is marked, and neither it nor a number that is not comparable is ever called the best.
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
GAP = Column("gap to paper", "gap_to_paper", meaning="the log-likelihood less that of the paper's discrete VAE")
SOURCE = Column("source", "source", is_number=False)
VERDICT = Column("verdict", "verdict", is_number=False)
ERRORS_OF_IMAGES = (
    "standard errors of the mean over images, whose choice moves all rows alike, and of log Z, "
    "the largest of the runs'"
)


def number_columns(groups: Sequence[Group]) -> list[Column]:
    """Return the columns of `group_cells`: a log-likelihood, its spread over runs, its errors."""
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
        Column("sd", "std_dev", meaning="standard deviation over runs that differ in their seeds alone"),
        Column("runs", "n_runs"),
        Column("± images", "std_err_images", meaning=ERRORS_OF_IMAGES),
        Column("± log Z", "std_err_log_z", meaning=ERRORS_OF_IMAGES),
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """A row and the numbers that are ranked, each None where there is none or it may not be called the best."""

    cells: list[Cell]
    elbo: float | None
    log_likelihood: float | None


def ranked_section(title: str, rows: Sequence[Row]) -> Section:
    """Return rows as a section in which the best bound and the best log-likelihood are marked.

    Their columns are the second and the third.
    """
    best = [_best([row.elbo for row in rows]), _best([row.log_likelihood for row in rows])]
    return Section(title, [_emphasised(row, best) for row in rows])


def _best(values: Sequence[float | None]) -> float | None:
    """Return the largest of several numbers; the best of one is no news."""
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
    """Return the bound at one sample."""
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
    """Return a log-likelihood less one of the paper's; nothing on another split than the test set.

    Images of a part of the test set are spread evenly over it: the gap is a rougher one, and its row is marked.
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
    """Return the mark of a number that may be wrong, or could be better."""
    return {"doubtful": NOT_TRUSTED, "loose": LOOSE}.get(level, "")


def verdict_cell(level: Level) -> Cell:
    """Return a verdict in words."""
    return Cell(WORDS[level], level)


def mark_notes(groups: Sequence[Group]) -> list[str]:
    """Return what the marks of measured rows mean, once for all rows of which the same is said."""
    names: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for said in _marked(group):
            names.setdefault(said, []).append(group.name)
    marks = [f"{sign} {', '.join(rows)}: {meaning}." for (sign, meaning), rows in sorted(names.items(), key=_rank)]
    return [*marks, *(f"{name}: {note}." for name, note in _log_z_notes(groups))]


def _log_z_notes(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Return the runs whose likelihood stands on another log Z than it was made with, and what to say of them."""
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
    """Return why a row's number has its verdict; where it is of several runs, with their names."""
    runs = [run for run in group.runs if run.result.verdict == group.verdict]
    return why_of({"" if len(group.runs) == 1 else _short_name(run): run.result for run in runs})


def _short_name(run: LoadedResult) -> str:
    """Return what tells a run from others of its row: its seed where the row has the user's name."""
    return f"seed {run.config.train.seed}" if run.label and run.config else run.place.name


def why_of(results: Mapping[str, Result]) -> str:
    """Return why results are no better than their verdicts say: what helps once, after all that it helps against.

    Each has a name, which is empty for a single one.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, result in results.items():
        for reason in result.reasons or result.warnings or ["no reason given"]:
            finding, _, remedy = reason.partition("; ")
            found.setdefault(remedy, {}).setdefault(name, []).append(finding)
    parts = []
    for remedy, findings in found.items():
        parts += [f"{name}: {'; '.join(said)}".removeprefix(": ") for name, said in findings.items()]
        parts += [remedy] if remedy else []
    return "; ".join(parts)


def _rank(said: tuple[tuple[str, str], list[str]]) -> int:
    """Return the place of a note: those of numbers that may be wrong come first, then of those that are loose."""
    return [NOT_TRUSTED, LOOSE, PART].index(said[0][0])
