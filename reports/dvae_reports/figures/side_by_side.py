"""Log-likelihoods of several runs in one figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from .style import PALETTE, axes, legend_above, styled

MAX_NAME = 18
# Marker, colour and label, by whether the number is trustworthy.
MARKS = {True: ("o", "blue", "checked or loose"), False: ("X", "orange", "may be wrong")}


@styled
def plot_side_by_side(rows: Sequence[tuple[str, float, float, bool]], *, ax: Axes | None = None) -> Axes:
    """Plot runs' log-likelihoods with their errors, the first run on top.

    Parameters
    ----------
    rows : sequence of (str, float, float, bool)
        Name, log-likelihood and standard error over images (nats), and whether the number is trustworthy.
    """
    ax = axes(ax)
    places = np.arange(len(rows))[::-1]
    for trusted, (mark, color, label) in MARKS.items():
        chosen = [
            (value, error, place)
            for (_, value, error, ok), place in zip(rows, places, strict=True)
            if ok is trusted
        ]
        if chosen:
            x, error, y = np.array(chosen, dtype=float).T
            ax.errorbar(
                x,
                y,
                xerr=error,
                fmt=mark,
                color=PALETTE[color],
                markersize=5,
                capsize=3,
                elinewidth=1,
                label=label,
            )
    ax.yaxis.set_major_locator(FixedLocator(places.tolist()))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FixedFormatter([_short(name) for name, *_ in rows]))
    ax.set(xlabel="log p(x) ≥ (nats per image)", ylim=(-0.6, len(rows) - 0.4), ylabel="run")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(True, axis="x")
    legend_above(ax, 2)
    return ax


def _short(name: str) -> str:
    """Return a name, or the end of a long one, which is its most distinctive part."""
    return name if len(name) <= MAX_NAME else "…" + name[1 - MAX_NAME :]
