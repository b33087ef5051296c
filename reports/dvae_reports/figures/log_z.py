"""Diagnostics of log Z: schedule, replica flow, overlaps, running estimate, independent estimates (Figure 10)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dvae_core.text import decimals, error_text, fixed
from dvae_eval.results import LogZResult

from .style import PALETTE, axes, column, count_axis, finite, histogram, legend_above, styled

# Lines of splits: mark and stroke, and colour.
LINES = (("o-", "blue"), ("s--", "orange"), ("^:", "ink"))
# The paper's target rate, assumed for results that record none.
EXCHANGE_RATE = 0.5
# Matrices up to this size show their numbers.
MAX_NUMBERED = 12
# More histograms than this are drawn as a map.
MAX_HISTOGRAMS = 20
# Colours of those numbers, outside the palette: the cells behind them do not change in a dark theme.
ON_DARK, ON_LIGHT = "#ffffff", "#1e242a"


def exact_log_z(result: LogZResult) -> float | None:
    """Return the exact log Z: the result itself, or the value it was compared with; None if unknown."""
    if result.method == "exact":
        return result.log_z
    value = result.diagnostics.get("exact", {}).get("log_z")
    return None if value is None else float(value)


@styled
def plot_schedule(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot exchange rates and overlaps between neighbouring rungs against their inverse temperature.

    Ticks along the bottom mark the rungs, to show where the schedule is dense.
    """
    ax = axes(ax)
    betas = column(result.diagnostics, "betas")
    middles = (betas[1:] + betas[:-1]) / 2
    aim = float(result.settings.get("exchange_rate", EXCHANGE_RATE))
    ax.axhline(aim, color=PALETTE["muted"], linestyle="--", linewidth=1, label=f"target {aim:g}")
    look: dict[str, Any] = {"markersize": 4.5, "linewidth": 1.0}
    overlaps = column(result.diagnostics, "overlaps")
    ax.plot(middles, overlaps, "s:", color=PALETTE["orange"], mfc=PALETTE["paper"], label="overlap", **look)
    rates = column(result.diagnostics, "exchange_rates")
    ax.plot(middles, rates, "o-", color=PALETTE["blue"], label="exchange rate", **look)
    ax.plot(betas, np.zeros_like(betas), "|", color=PALETTE["ink"], markersize=9, clip_on=False)
    ax.set(xlabel="inverse temperature β (ticks: rungs)", ylabel="between neighbouring rungs")
    ax.set(xlim=(-0.02, 1.02), ylim=(0, 1.04))  # room for the mark of a rate of 1
    legend_above(ax, 3)
    return ax


@styled
def plot_trajectory(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot log Z of the machines along a training against their steps, with 95% bars (1.96 standard errors)."""
    ax = plot_log_z_curve(result.diagnostics.get("trajectory", {}), ax=ax)
    _exact_line(ax.axhline, result)
    return ax


@styled
def plot_log_z_curve(curve: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Plot log Z against training steps, with 95% bars, and a cross on doubtful values.

    `curve` has the lists `steps`, `log_z` and `std_err`, of one length, and optionally `trustworthy`.
    """
    ax = axes(ax)
    steps, log_z, std_err = (column(curve, name) for name in ("steps", "log_z", "std_err"))
    ax.errorbar(steps, log_z, 1.96 * std_err, fmt="o-", markersize=3, color=PALETTE["blue"], label="estimate")
    doubtful = ~np.array(curve.get("trustworthy", [True] * len(steps)), bool)
    if doubtful.any():
        look: dict[str, Any] = {"color": PALETTE["orange"], "zorder": 3, "label": "may be wrong"}
        ax.plot(steps[doubtful], log_z[doubtful], "x", markersize=7, **look)
        legend_above(ax, 2)
    ax.set(xlabel="training step", ylabel="log Z (nats)")
    count_axis(ax.xaxis)
    return ax


@styled
def plot_likelihood_curve(curve: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Plot the mean log-likelihood of data against training steps, one line per split.

    The 95% bars combine the errors of log Z and of the choice of images, which all steps share.  `curve` has
    `steps`, `std_err` of log Z, and `log_likelihood`, which has the lists `mean` and `std_err_images` per split.
    """
    ax = axes(ax)
    steps, of_log_z = column(curve, "steps"), column(curve, "std_err")
    for (name, found), style in zip(curve["log_likelihood"].items(), LINES, strict=False):
        mean, of_images = column(found, "mean"), column(found, "std_err_images")
        bars = 1.96 * np.hypot(of_images, of_log_z)
        label = "data" if name == "all" else name
        ax.errorbar(steps, mean, bars, fmt=style[0], markersize=3.5, color=PALETTE[style[1]], label=label)
    legend_above(ax, len(LINES))
    ax.set(xlabel="training step", ylabel="log p(x) (nats per image)")
    count_axis(ax.xaxis)
    return ax


@styled
def plot_running(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot the estimate during the run, with its 95% band (1.96 standard errors) and the exact value."""
    ax = axes(ax)
    running = result.diagnostics.get("running", {})
    n_sweeps, log_z, std_err = (column(running, name) for name in ("n_sweeps", "log_z", "std_err"))
    band = 1.96 * std_err
    ax.fill_between(
        n_sweeps, log_z - band, log_z + band, color=PALETTE["blue"], alpha=0.2, linewidth=0, label="95% band"
    )
    ax.plot(n_sweeps, log_z, "o-", markersize=3, color=PALETTE["blue"], label="estimate")
    _exact_line(ax.axhline, result)
    ax.set(xlabel="sweeps per replicate", ylabel="log Z (nats)")
    count_axis(ax.xaxis)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    legend_above(ax, 3)
    return ax


@styled
def plot_repeats(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the independent estimates with mean, standard deviation and exact value.

    They are the replicates of one run, or whole runs with --repeats.
    """
    one = "estimate" if "repeats_std_err" in result.diagnostics else "replicate"
    ax = axes(ax)
    values = finite(result.repeats)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if values.size > 1 else 0.0
    top = 1.08 * histogram(ax, values, "auto")
    ax.plot(values, np.zeros_like(values), "|", color=PALETTE["ink"], markersize=9, clip_on=False)
    label = f"mean {fixed(mean, decimals(spread))}, sd {error_text(spread)}"
    ax.axvline(mean, color=PALETTE["ink"], linewidth=1)
    ax.errorbar(mean, top, xerr=spread, fmt="o", markersize=4, capsize=3, color=PALETTE["ink"], label=label)
    _exact_line(ax.axvline, result)
    ax.set(xlabel=f"log Z of one {one} (nats)", ylabel=f"{one}s")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    legend_above(ax, 2)
    return ax


@styled
def plot_flow(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot the share of replicas that visited β = 0 last, by rung; a straight line is ideal."""
    ax = axes(ax)
    share = column(result.diagnostics, "from_hot_end")
    rungs = np.arange(len(share))
    ideal = 1 - rungs / max(1, len(share) - 1)
    ax.plot(rungs, ideal, "--", color=PALETTE["muted"], linewidth=1, label="ideal")
    trips = column(result.diagnostics, "round_trips")
    label = f"measured ({trips.mean():.0f} round trips per replicate)"
    ax.plot(rungs, share, "o-", markersize=4, color=PALETTE["blue"], label=label)
    ax.set(xlabel="rung (0: β = 0)", ylabel="share of replicas from β = 0", ylim=(-0.03, 1.03))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax, 2)
    return ax


@styled
def plot_energies(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot histograms of d log p̃/dβ on every rung: neighbours must overlap for exchanges and BAR.

    Many rungs are drawn as rows of a map, shaded relative to the rung's highest bin, because stacked histograms
    would hide one another.
    """
    ax = axes(ax)
    found = result.diagnostics.get("energy_histograms", {})
    edges, counts = column(found, "edges"), column(found, "counts")
    if len(counts) > MAX_HISTOGRAMS:
        shares = counts / np.maximum(1, counts.max(axis=1, keepdims=True))
        rungs = np.arange(len(counts) + 1) - 0.5
        ax.pcolormesh(edges, rungs, shares, cmap="Blues", vmin=0, vmax=1, rasterized=True)
        ax.grid(False)
        counts = counts[:0]
    for k, rung in enumerate(counts):
        heights = k + 1.4 * rung / max(1.0, rung.max())
        ax.stairs(heights, edges, baseline=k, fill=True, color=PALETTE["blue"], alpha=0.25, zorder=2 * (50 - k))
        ax.stairs(heights, edges, baseline=k, color=PALETTE["blue"], linewidth=1, zorder=2 * (50 - k) + 1)
    ax.set(xlabel="d log p̃/dβ of the samples (nats)", ylabel="rung (0: β = 0)")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


@styled
def plot_overlap(result: LogZResult, *, ax: Axes | None = None) -> Axes:
    """Plot MBAR's overlap matrix: the probability that a sample of one rung belongs to another."""
    ax = axes(ax)
    matrix = column(result.diagnostics, "overlap_matrix")
    # With many rungs every entry is small, since each row adds up to 1.
    highest = 1.0 if len(matrix) <= MAX_NUMBERED else float(np.nanmax(matrix))
    image = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=highest, origin="lower")
    if len(matrix) > MAX_NUMBERED:
        # Above the axes, where it does not make the panel narrower than its neighbours.
        ax.figure.colorbar(image, ax=ax, label="overlap (rows add up to 1)", location="top", fraction=0.06)
    else:
        for (i, j), value in np.ndenumerate(matrix):
            ink = ON_DARK if value > 0.6 else ON_LIGHT
            if value >= 0.005:
                ax.text(j, i, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6, color=ink)
    ax.set(xlabel="rung (rows add up to 1)", ylabel="rung of the sample")
    ax.grid(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _exact_line(draw: Callable[..., object], result: LogZResult) -> None:
    """Draw the exact value, if known, as a dashed line with `draw` (axhline or axvline)."""
    value = exact_log_z(result)
    if value is not None:
        label = f"exact {fixed(value, decimals(result.std_err))}"
        draw(value, color=PALETTE["orange"], linestyle=(0, (4, 2)), label=label)
