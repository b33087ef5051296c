"""Figures of a benchmark: errors against CPU seconds, calibration, and verdicts by machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..results.benchmarks import Run, Score, quantity, scores, short_names, symbol, trusted_z, worst
from .mathematics import set_mathematics
from .panels import DPI, label_panels
from .style import MARKERS, PALETTE, axes, legend_above, styled

# Those of methods beyond `MARKERS`, which are not filled.
UNFILLED = (("o", "orange"), ("s", "blue"), ("^", "violet"), ("D", "green"))
# Background of the signs in a matrix; "wrong and trusted" must stand out.
COLORS = {"wrong": "#c62828", "failed": "#f2c14e", "declined": "#c4cad0", "right": "#e4f2ec"}
LEAST_ERROR = 1e-6  # nats; smaller errors are drawn there
MOST_Z = 6.0  # larger |z| is drawn at the edge
WIDE = 5.0  # inches from which two panels fit side by side
ROW = 0.165  # height of a row in a matrix, inches


@styled
def plot_errors(methods: Sequence[Score], *, ax: Axes | None = None) -> Axes:
    """Plot |error| of every run against its CPU seconds, with a large marker at the medians of every method."""
    ax, names = axes(ax), _names(methods)
    what = quantity([run for score in methods for run in score.runs])
    for score, mark in zip(methods, _marks(methods), strict=True):
        answered = [run for run in score.runs if run["error"] is not None]
        if not answered:
            continue
        seconds = np.array([max(run["cpu_seconds"], 1e-3) for run in answered])
        errors = np.array([max(abs(run["error"]), LEAST_ERROR) for run in answered])
        ax.plot(seconds, errors, **mark, ls="", ms=2.2, alpha=0.35)
        ax.plot(np.median(seconds), np.median(errors), **mark, ls="", ms=6.5, label=names[score.method])
    ax.set(xscale="log", yscale="log", xlabel="CPU seconds", ylabel=f"|error| of {what} (nats)")
    _legend(ax)
    return ax


@styled
def plot_calibration(methods: Sequence[Score], *, ax: Axes | None = None) -> Axes:
    """Plot z = error / claimed error of trusted answers, sorted, against the quantiles of a normal distribution.

    Calibrated errors lie on the line.  The band contains each z with probability 95%, for the number of runs of
    the method that has the fewest.
    """
    from scipy.stats import beta, norm

    ax, names = axes(ax), _names(methods)
    ax.axline((0, 0), slope=1, color=PALETTE["muted"], lw=0.8)
    found = [
        (score, mark, np.sort(trusted_z(score.runs))) for score, mark in zip(methods, _marks(methods), strict=True)
    ]
    found = [entry for entry in found if len(entry[2]) > 1]
    if found:
        n = min(len(z) for *_, z in found)
        k = np.arange(1, n + 1)
        low, high = (norm.ppf(beta.ppf(p, k, n - k + 1)) for p in (0.025, 0.975))
        ax.fill_between(norm.ppf((k - 0.5) / n), low, high, color=PALETTE["wash"], alpha=0.5, lw=0)
    for score, mark, z in found:
        normal = norm.ppf((np.arange(len(z)) + 0.5) / len(z))
        ax.plot(normal, np.clip(z, -MOST_Z, MOST_Z), **mark, ls="", ms=3, label=names[score.method])
    ax.set(ylim=(-MOST_Z - 0.3, MOST_Z + 0.3), xlabel="quantile of a normal distribution")
    ax.set_ylabel(f"error / claimed error\n(at the edge: beyond {MOST_Z:g})")
    _legend(ax)
    return ax


@styled
def plot_verdicts(runs: Sequence[Run], *, ax: Axes | None = None) -> Axes:
    """Draw the worst verdict of every method on every machine as a coloured cell with its sign.

    Where seeds differ a number says how many of them have that verdict.
    """
    ax = axes(ax)
    methods = short_names(runs)
    machines = list(dict.fromkeys(run["machine"] for run in runs))
    for i, machine in enumerate(machines):
        for j, method in enumerate(methods):
            there = [run for run in runs if (run["machine"], run["method"]) == (machine, method)]
            if there:
                verdict = worst(there)
                ax.add_patch(Rectangle((j, i), 1, 1, fc=COLORS[verdict], ec=PALETTE["paper"], lw=1))
                color = PALETTE["paper"] if verdict == "wrong" else PALETTE["ink"]
                ax.text(
                    j + 0.5,
                    i + 0.52,
                    symbol(there).split()[0],
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=6.5,
                )
    ax.set(xlim=(0, len(methods)), ylim=(len(machines), 0))
    ax.set_xticks(
        np.arange(len(methods)) + 0.5, list(methods.values()), rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.set_yticks(np.arange(len(machines)) + 0.5, machines)
    ax.tick_params(length=0, labelsize=7)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("✓ right   – declined\n× wrong and trusted   ! failed", fontsize=7)
    return ax


@styled
def benchmark_figure(runs: Sequence[Run], width: float) -> Figure:
    """Return errors, calibration and verdicts in one figure of `width` inches."""
    methods = scores(runs)
    n_machines = len({run["machine"] for run in runs})
    matrix, panel = ROW * n_machines + 1.1, 2.9
    is_wide = width >= WIDE
    heights = [panel, matrix] if is_wide else [panel, panel, matrix]
    figure = Figure(figsize=(width, sum(heights)), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(len(heights), 2 if is_wide else 1, height_ratios=heights)
    first, second = grid[0, 0], grid[0, 1] if is_wide else grid[1, 0]
    panels = [figure.add_subplot(place) for place in (first, second, grid[-1, :])]
    plot_errors(methods, ax=panels[0])
    plot_calibration(methods, ax=panels[1])
    plot_verdicts(runs, ax=panels[2])
    for ax in panels:
        set_mathematics(ax)
    label_panels(panels, ["errors", "calibration of trusted answers", "verdicts"])
    entries = panels[0].get_legend_handles_labels()
    for ax in panels[:2]:  # one legend for both
        if legend := ax.get_legend():
            legend.remove()
    if entries[1]:
        figure.legend(*entries, loc="outside upper left", ncols=4 if is_wide else 2, markerscale=0.8)
    return figure


def _names(methods: Sequence[Score]) -> dict[str, str]:
    return short_names([run for score in methods for run in score.runs])


def _legend(ax: Axes) -> None:
    """Add a legend of the methods, if the axes have any."""
    if ax.get_legend_handles_labels()[1]:
        legend_above(ax, 2)


def _marks(methods: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the marker properties of every method."""
    filled = [{"marker": marker, "color": PALETTE[color], "mfc": PALETTE[color]} for marker, color in MARKERS]
    others = [{"marker": marker, "color": PALETTE[color], "mfc": PALETTE["paper"]} for marker, color in UNFILLED]
    return list(islice(cycle(filled + others), len(methods)))
