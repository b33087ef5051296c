"""Log-likelihood against one setting of the model or its training, from sets of runs (Figures 6 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from dvae_core.text import count

from .style import MARKERS, PALETTE, axes, legend_above, styled

# Ticks closer than this share of the axis have overlapping labels.
CLOSEST = 0.07


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A mean log-likelihood, nats per image, at a value of the setting.

    Attributes
    ----------
    x : float
        The value of the setting.
    log_likelihood, error : float
        Mean, and standard deviation over runs, or the standard error over images of a single run.
    trustworthy : bool
        If False, drawn as a cross.
    n_runs : int
        Number of seeds in the mean.
    """

    x: float
    log_likelihood: float
    error: float
    trustworthy: bool = True
    n_runs: int = 1


@dataclass(frozen=True, slots=True)
class SweepLine:
    """Points that differ only in the setting; `style` and `is_dashed` distinguish the line from others."""

    label: str
    points: list[SweepPoint]
    style: int = 0
    is_dashed: bool = False


@styled
def plot_sweep(lines: Sequence[SweepLine], xlabel: str, errors: str, *, ax: Axes | None = None) -> Axes:
    """Plot log-likelihoods with their errors against a setting, with ticks at its values.

    A line whose points are all means over seeds has a band of ± 1 standard deviation.

    Parameters
    ----------
    lines : sequence of SweepLine
        At least one; several are named in a legend.
    xlabel : str
        Name of the setting.
    errors : str
        Name of the error that the bars show.
    """
    ax = axes(ax)
    for line in lines:
        marker, color = MARKERS[line.style % len(MARKERS)]
        points = sorted(line.points, key=lambda point: point.x)
        x, y, error = np.array([(p.x, p.log_likelihood, p.error) for p in points], dtype=float).T
        if all(point.n_runs > 1 for point in points):
            ax.fill_between(x, y - error, y + error, color=PALETTE[color], alpha=0.15, linewidth=0)
        ax.errorbar(
            x,
            y,
            error,
            fmt=marker + ("--" if line.is_dashed else "-"),
            color=PALETTE[color],
            mfc=PALETTE["paper"] if line.is_dashed else PALETTE[color],
            markersize=4.5,
            capsize=2.5,
            elinewidth=1,
            label=line.label,
        )
    distrusted = [(p.x, p.log_likelihood) for line in lines for p in line.points if not p.trustworthy]
    if distrusted:
        ax.plot(*zip(*distrusted, strict=True), "x", color=PALETTE["ink"], markersize=8, label="may be wrong")
    _ticks(ax, list(dict.fromkeys(point.x for line in lines for point in line.points)))
    ax.set(xlabel=xlabel, ylabel=f"log-likelihood (nats)\n± {errors}")
    if len(lines) > 1 or distrusted:
        legend_above(ax, 2)
    return ax


def _ticks(ax: Axes, values: Sequence[float]) -> None:
    """Put ticks at the settings, on a logarithmic axis if they span more than a factor of four.

    Settings of earlier lines come first; a later one whose label would overlap has no tick.
    """
    low, high = min(values), max(values)
    is_log = low > 0 and high > 4 * low
    if is_log:
        ax.set_xscale("log")
    scale = np.log if is_log else np.asarray
    marked: list[float] = []
    for value in values:
        if all(abs(scale(value) - scale(other)) > CLOSEST * (scale(high) - scale(low)) for other in marked):
            marked.append(value)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(marked))
    ax.xaxis.set_major_formatter(FixedFormatter([count(round(value)) for value in marked]))
