"""Log-likelihoods less that of a baseline, with the error of the difference."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.text import decimals

from ..results.groups import Group
from ..results.paired import Difference, mean_difference
from .rows import error_cell
from .table import Cell, Column, number_cell


def gain_columns(baseline: Group) -> list[Column]:
    """Return the columns of `gain_cells`."""
    meaning = f"log-likelihood less that of {baseline.name}, on the same images"
    error = "its standard error, image by image, with those of log Z and of seeds where both have several"
    return [
        Column("gain", "gain", meaning=meaning, errors=("std_err_gain",), error_name=error),
        Column("± gain", "std_err_gain", meaning=error),
    ]


def gain_cells(group: Group, baseline: Group) -> list[Cell]:
    """Return a gain over the baseline and its error; empty for the baseline and on other images."""
    found = _gain(group, baseline)
    if found is None:
        return [Cell(), Cell()]
    gain = number_cell(found.log_likelihood, decimals(found.std_err), error=found.std_err, is_signed=True)
    return [gain, error_cell(found.std_err)]


def gain_notes(groups: Sequence[Group], baseline: Group) -> list[str]:
    """Return what a reader should know of the gains: rows that have none, and a baseline that may be wrong."""
    others = [group for group in groups if group is not baseline]
    strangers = [group.name for group in others if _gain(group, baseline) is None]
    notes = [f"Measured on other images than {baseline.name}, without a gain: {', '.join(strangers)}."]
    doubts = [f"All gains rest on {baseline.name}, which may be wrong."]
    return [*(notes if strangers else []), *(doubts if not baseline.trustworthy else [])]


def _gain(group: Group, baseline: Group) -> Difference | None:
    """Return how much better a group is than the baseline, None if that is unknown, or it is the baseline."""
    if group is baseline or group.data != baseline.data:
        return None
    return mean_difference(group.results, baseline.results)
