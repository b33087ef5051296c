"""Log-likelihoods minus that of a baseline, with the error of the difference."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.text import decimals

from ..results.groups import Group
from ..results.paired import Difference, mean_difference
from .rows import error_cell
from .table import Cell, Column, number_cell


def gain_columns(baseline: Group) -> list[Column]:
    """Return the columns of `gain_cells`."""
    meaning = f"log-likelihood minus that of {baseline.name}, on the same images"
    error = "its standard error: paired over images, with those of log Z and, if both have several runs, of seeds"
    return [
        Column("gain", "gain", meaning=meaning, errors=("std_err_gain",), error_name=error),
        Column("± gain", "std_err_gain", meaning=error),
    ]


def gain_cells(group: Group, baseline: Group) -> list[Cell]:
    """Return the gain over the baseline and its error; empty cells for the baseline and for other images."""
    found = _gain(group, baseline)
    if found is None:
        return [Cell(), Cell()]
    gain = number_cell(found.log_likelihood, decimals(found.std_err), error=found.std_err, is_signed=True)
    return [gain, error_cell(found.std_err)]


def gain_notes(groups: Sequence[Group], baseline: Group) -> list[str]:
    """Return notes on the gains: rows without one, and a baseline that may be wrong."""
    others = [group for group in groups if group is not baseline]
    strangers = [group.name for group in others if _gain(group, baseline) is None]
    notes = [f"No gain, because measured on other images than {baseline.name}: {', '.join(strangers)}."]
    doubts = [f"All gains are relative to {baseline.name}, which may be wrong: measure it again first."]
    return [*(notes if strangers else []), *(doubts if not baseline.trustworthy else [])]


def _gain(group: Group, baseline: Group) -> Difference | None:
    """Return the difference of a group from the baseline; None for the baseline and for other images."""
    if group is baseline or group.data != baseline.data:
        return None
    return mean_difference(group.results, baseline.results)
