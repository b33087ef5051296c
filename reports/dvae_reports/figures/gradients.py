"""The variance of estimators of the bound's gradient."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator

from dvae_core.errors import ResultError
from dvae_eval.results import GradientResult

from .style import PALETTE, axes, legend_above, styled

# Marker, colour, filling and label of every term; the markers distinguish them without colour.
TERMS = {
    "elbo": ("o", "ink", True, "bound"),
    "rbm": ("s", "blue", False, "KL of RBM"),
    "rest": ("^", "orange", False, "rest"),
}


@styled
def plot_gradient_variance(result: GradientResult, *, ax: Axes | None = None) -> Axes:
    """Plot the variance of every estimator and term on a logarithmic axis, the lowest at the top."""
    ax = axes(ax)
    names = sorted(result.estimators, key=lambda name: -_variance(result, name, "elbo"))
    rows = np.arange(len(names))
    for shift, (term, (marker, colour, filled, label)) in zip((0.0, 0.22, -0.22), TERMS.items(), strict=True):
        values = [_variance(result, name, term) for name in names]
        face = PALETTE[colour] if filled else PALETTE["paper"]
        ax.plot(values, rows + shift, marker, color=PALETTE[colour], mfc=face, markersize=5, label=label)
    ax.set_xscale("log")
    ax.yaxis.set_major_locator(FixedLocator(rows.tolist()))
    marks = ["" if result.estimators[name]["is_unbiased"] else " (biased)" for name in names]
    ax.yaxis.set_major_formatter(FixedFormatter([name + mark for name, mark in zip(names, marks, strict=True)]))
    ax.set(xlabel="variance of one draw (nats²)", ylabel="estimator")
    ax.grid(True, axis="x")
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.xaxis.set_minor_locator(NullLocator())
    legend_above(ax, 3)
    return ax


def _variance(result: GradientResult, name: str, term: str) -> float:
    """Return a variance of a result; ResultError if it is missing."""
    try:
        return float(result.estimators[name]["terms"][term]["variance"])
    except (KeyError, TypeError) as error:
        raise ResultError(f"the result has no variance of {name}, {term}; make the result again") from error
