"""Diagnostics of a log-likelihood: bound curve, images, weights, classes, the worst images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from dvae_core.text import count, decimals, fixed
from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.results import LikelihoodResult

from .samples import IMAGES_PER_ROW, mosaic
from .style import PALETTE, axes, column, count_axis, finite, histogram, legend_above, styled

MAX_BINS = 40
# Values beyond this range are drawn at its ends.
K_RANGE = (-0.5, 2.0)


@styled
def plot_bound_curve(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the bound against the number of importance samples K, with bars of ± 1 standard error."""
    ax = axes(ax)
    curve = result.diagnostics.get("bound_curve", {})
    n_samples, bound, std_err = (column(curve, name) for name in ("n_samples", "log_likelihood", "std_err"))
    ax.errorbar(
        n_samples, bound, std_err, fmt="o-", markersize=4, capsize=2.5, elinewidth=1, color=PALETTE["blue"]
    )
    if result.gap and np.isfinite(result.gap):
        digits = decimals(result.std_err_images, result.std_err_log_z)
        label = f"estimate for K → ∞: {fixed(result.log_likelihood + result.gap, digits)}"
        ax.axhline(result.log_likelihood + result.gap, color=PALETTE["orange"], linestyle="--", label=label)
        legend_above(ax, 1)
    ax.set_xscale("log")
    what = "importance samples K" if result.method == "importance" else "annealed chains K"
    ax.set(xlabel=what, ylabel="log p(x) ≥ (nats per image)")
    _count_log_axis(ax)
    return ax


@styled
def plot_log_likelihoods(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the images' log-likelihoods with their mean, nats."""
    ax = axes(ax)
    values = finite(column(result.per_image, "log_likelihood"))
    n_bins = min(MAX_BINS, np.histogram_bin_edges(values, "auto").size - 1)
    histogram(ax, values, n_bins)
    mean = float(np.mean(values))
    ax.axvline(mean, color=PALETTE["ink"], label=f"mean {fixed(mean, decimals(result.std_err_images))}")
    ax.set(xlabel="log-likelihood of one image (nats)", ylabel="images")
    legend_above(ax, 1)
    return ax


@styled
def plot_ess(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the images' effective sample sizes, on a logarithmic axis from 1 to K."""
    ax = axes(ax)
    values = finite(column(result.per_image, "ess"))
    bins = np.geomspace(1, max(2, result.n_samples), 32).tolist()
    histogram(ax, np.clip(values, 1, bins[-1]), bins)
    median = float(np.median(values))
    ax.axvline(median, color=PALETTE["ink"], label=f"median {count(round(median))}")
    ax.set_xscale("log")
    ax.set(xlabel=f"effective samples of {count(result.n_samples)}", ylabel="images")
    _count_log_axis(ax)
    legend_above(ax, 1)
    return ax


def has_tails(result: LikelihoodResult) -> bool:
    """Return whether the result has Pareto k, which a few samples do not give."""
    known = (k is not None and not np.isnan(k) for k in result.per_image.get("pareto_k") or [])
    return any(known) and "pareto_limit" in result.diagnostics


@styled
def plot_pareto_k(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the Pareto k of the images' weights, and its limit."""
    ax = axes(ax)
    values = column(result.per_image, "pareto_k")
    values = values[~np.isnan(values)].clip(*K_RANGE)
    low, high = min(0.0, float(values.min(initial=0))), max(1.0, float(values.max(initial=0)))
    histogram(ax, values, np.linspace(low, high, MAX_BINS + 1))
    limit = result.diagnostics["pareto_limit"]
    beyond = f"{count(int((values > limit).sum()))} of {count(len(values))} images above it"
    ax.axvline(limit, color=PALETTE["orange"], linestyle="--", label=f"limit {fixed(limit, 2)}: {beyond}")
    ax.set(xlabel="Pareto k of an image's weights", ylabel="images")
    legend_above(ax, 1)
    return ax


@styled
def plot_classes(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the mean log-likelihood of every class, with bars of ± 2 standard errors."""
    ax = axes(ax)
    table = result.diagnostics.get("per_class", {})
    label, mean, std_err = (column(table, name) for name in ("label", "log_likelihood", "std_err"))
    ax.errorbar(label, mean, 2 * np.nan_to_num(std_err), fmt="o", markersize=4, capsize=2.5, color=PALETTE["blue"])
    ax.axhline(result.log_likelihood, color=PALETTE["muted"], linewidth=1, label="all images")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    ax.set(xlabel="class", ylabel="log-likelihood (nats per image)")
    legend_above(ax, 1)
    return ax


@styled
def plot_worst_images(images: LikelihoodImages, *, ax: Axes | None = None) -> Axes:
    """Show the images with the lowest log-likelihoods (nats), each above its mean reconstruction."""
    return _pictured(images, slice(0, images.n_worst), (images.originals, images.means), ax)


@styled
def plot_typical_images(images: LikelihoodImages, *, ax: Axes | None = None) -> Axes:
    """Show images by increasing log-likelihood, each above one reconstruction and the mean of many."""
    return _pictured(images, slice(images.n_worst, None), (images.originals, images.draws, images.means), ax)


def _pictured(
    images: LikelihoodImages, shown: slice, rows: tuple[NDArray[np.uint8], ...], ax: Axes | None
) -> Axes:
    """Lay images out in strips of `IMAGES_PER_ROW`: log-likelihoods, and below them `rows` in order."""
    values = images.columns["log_likelihood"][images.shown[shown]]
    n, (height, width) = len(values), images.originals.shape[1:]
    gap = max(1, width // 9)
    # Height of the line of text above every strip, in pixels.
    head = max(4, round(0.45 * height))
    n_strips = -(-n // IMAGES_PER_ROW)
    strip = head + len(rows) * (height + gap)
    page = np.zeros((n_strips * strip, IMAGES_PER_ROW * (width + gap) - gap, 4), dtype=np.uint8)
    if ax is None:
        inches = 6.4
        ax = Figure(figsize=(inches, inches * page.shape[0] / page.shape[1])).add_axes((0.0, 0.0, 1.0, 1.0))
    for start in range(0, n, IMAGES_PER_ROW):
        top = start // IMAGES_PER_ROW * strip
        tiles = mosaic(np.stack([row[shown][start : start + IMAGES_PER_ROW] for row in rows]))
        page[top + head : top + head + tiles.shape[0], : tiles.shape[1]] = tiles
        for place, value in enumerate(values[start : start + IMAGES_PER_ROW]):
            x = place * (width + gap) + (width - 1) / 2
            # Pixel coordinates are those of centres: the first row starts at -0.5.
            ax.text(
                x, top + head - 0.5 - 0.08 * height, fixed(float(value), 1), ha="center", va="bottom", fontsize=6.5
            )
    ax.imshow(page, interpolation="nearest")
    ax.set_axis_off()
    return ax


def _count_log_axis(ax: Axes) -> None:
    """Label the powers of ten on the x axis in full, without exponents."""
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.xaxis.set_minor_locator(NullLocator())
    count_axis(ax.xaxis)
