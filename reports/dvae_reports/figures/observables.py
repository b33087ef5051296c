"""Observables of a machine against inverse temperature, each with its 95% band."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from dvae_core.errors import ResultError
from dvae_eval.results import ObservablesResult

from .panels import DrawPanel
from .style import PALETTE, axes, column, legend_above, styled

# Names in a result, with the labels of the axis.
OBSERVABLES = {
    "energy": "energy ⟨E⟩ (nats)",
    "specific_heat": "specific heat C",
    "entropy": "entropy S (nats)",
    "log_z": "log Z (nats)",
}
# Marker, colour and line of the first, second, ... result; they are distinct without colour.
LOOKS = (("o", "blue", "-"), ("s", "orange", "--"), ("^", "green", ":"), ("D", "violet", "-."))
BAND = 1.96  # standard errors either side: 95%


def observables_panels(results: Sequence[tuple[str, ObservablesResult]]) -> dict[str, tuple[str, DrawPanel]]:
    """Return the panels of observables by name: title, and function that draws all results in axes."""
    return {
        name: ("log Z" if name == "log_z" else name.replace("_", " "), partial(_in, results, name))
        for name in OBSERVABLES
    }


def _in(results: Sequence[tuple[str, ObservablesResult]], name: str, ax: Axes) -> Axes:
    return plot_observable(results, name, ax=ax)


@styled
def plot_observable(
    results: Sequence[tuple[str, ObservablesResult]], name: str, *, ax: Axes | None = None
) -> Axes:
    """Plot one of `OBSERVABLES` of every result against β, with its 95% band.

    Raises
    ------
    ResultError
        If there are more results than `LOOKS`, or one lacks the numbers.
    """
    if len(results) > len(LOOKS):
        raise ResultError(f"{len(results)} results are too many for one figure; give at most {len(LOOKS)}")
    ax = axes(ax)
    for (title, result), (marker, colour, line) in zip(results, LOOKS, strict=False):
        beta, values, errors = (column(result.along_beta, key) for key in ("beta", name, f"{name}_std_err"))
        band = BAND * np.nan_to_num(errors)
        ax.fill_between(beta, values - band, values + band, color=PALETTE[colour], alpha=0.2, linewidth=0)
        ax.plot(beta, values, marker + line, color=PALETTE[colour], markersize=3, label=title)
    ax.set(xlabel="inverse temperature β", ylabel=OBSERVABLES[name])
    if len(results) > 1:
        legend_above(ax, 2)
    return ax
