"""Observables of a machine against inverse temperature, each with its 95% band."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from dvae_core.errors import ResultError
from dvae_core.text import short
from dvae_eval.results import ObservablesResult

from .panels import Panel
from .style import MARKERS, PALETTE, axes, column, legend_above, styled

Named = Sequence[tuple[str, ObservablesResult]]

# Names in a result, with their words and the labels of the axis.
OBSERVABLES = {
    "energy": ("energy", "energy ⟨E⟩ (nats)"),
    "specific_heat": ("specific heat", "specific heat C"),
    "entropy": ("entropy", "entropy S (nats)"),
    "log_z": ("log Z", "log Z (nats)"),
}
# Lines of the first, second, ... result.
LINES = ("-", "--", ":", "-.")
BAND = 1.96  # standard errors either side: 95%


@styled
def plot_observable(results: Named, name: str, *, ax: Axes | None = None) -> Axes:
    """Plot one of `OBSERVABLES` of every result against β, with its 95% band.

    Raises
    ------
    ResultError
        If there are more results than `LINES`, or one lacks the numbers.
    """
    if len(results) > len(LINES):
        raise ResultError(f"{len(results)} results are too many for one figure; give at most {len(LINES)}")
    ax = axes(ax)
    for (title, result), (marker, colour), line in zip(results, MARKERS, LINES, strict=False):
        beta, values, errors = (column(result.along_beta, key) for key in ("beta", name, f"{name}_std_err"))
        band = BAND * np.nan_to_num(errors)
        ax.fill_between(beta, values - band, values + band, color=PALETTE[colour], alpha=0.2, linewidth=0)
        ax.plot(beta, values, marker + line, color=PALETTE[colour], markersize=3, label=title)
    ax.set(xlabel="inverse temperature β", ylabel=OBSERVABLES[name][1])
    if len(results) > 1:
        legend_above(ax, 2)
    return ax


def _panel(name: str, title: str) -> Panel[Named]:
    """Return the panel of one of `OBSERVABLES`, which draws all results."""
    start = title if name == "log_z" else title.capitalize()
    return Panel(
        name,
        title,
        partial(plot_observable, name=name),
        lambda results: f"Line chart of {title} against inverse temperature, {_ends(results)}.",
        lambda results: f"{start} against inverse temperature{_bands(results)}.",
    )


def _ends(results: Named) -> str:
    """Return the range of β."""
    betas = [beta for _, result in results for beta in result.along_beta["beta"]]
    return f"from {short(min(betas))} to {short(max(betas))}"


def _bands(results: Named) -> str:
    return "" if all(result.method == "exact" for _, result in results) else ", with 95% bands"


OBSERVABLES_PANELS = [_panel(name, title) for name, (title, _) in OBSERVABLES.items()]
