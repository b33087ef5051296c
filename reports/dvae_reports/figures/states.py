"""Samples of a machine and means of its units: histogram of energies, means by unit, states as pixels."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dvae_core.types import Float

from .style import PALETTE, axes, histogram, styled

N_BINS = 40
SMALLEST_SIDE = 4  # of a picture, in units
MAX_ROWS, MAX_COLUMNS = 32, 1024


@styled
def plot_state_energies(energies: Float, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the energies of states, nats."""
    ax = axes(ax)
    histogram(ax, energies, N_BINS)
    ax.set(xlabel="energy E (nats)", ylabel="states")
    return ax


@styled
def plot_unit_means(means: Float, std_errs: Float | None, units: str, *, ax: Axes | None = None) -> Axes:
    """Plot the mean of every unit against its number, with bars of ± 2 standard errors if known."""
    ax = axes(ax)
    number = np.arange(len(means))
    if std_errs is not None and np.any(std_errs > 0):
        ax.vlines(number, means - 2 * std_errs, means + 2 * std_errs, color=PALETTE["muted"], linewidth=0.8)
    ax.plot(number, means, "o", color=PALETTE["blue"], markersize=3 if len(means) < 200 else 1.5)
    low = -1.0 if units == "pm1" else 0.0
    ax.set(xlabel="unit", ylabel="mean", ylim=(low - 0.05, 1.05))
    return ax


def tiles_of(states: NDArray[np.int8], n_left: int | None) -> NDArray[np.uint8]:
    """Return some states as images, shape (n_rows, n_columns, height, width), intensities 0..255.

    Parameters
    ----------
    states : int8, shape (n, n_units)
    n_left : int or None
        Number of the first units, the visible ones of an RBM, which may be pixels.

    Returns
    -------
    uint8
        Square pictures if the number of units, or `n_left`, is a square; else one picture whose rows are
        states.
    """
    on = np.where(states > 0, 255, 0).astype(np.uint8)
    for n_pixels in (n_left, states.shape[1]):
        side = math.isqrt(n_pixels or 0)
        if side >= SMALLEST_SIDE and side * side == n_pixels:
            n_columns = min(12 if side <= 16 else 8, len(on))
            n_rows = min(3, len(on) // n_columns)
            return on[: n_rows * n_columns, :n_pixels].reshape(n_rows, n_columns, side, side)
    return on[None, None, :MAX_ROWS, :MAX_COLUMNS]
