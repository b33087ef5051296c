"""How the log-likelihood was found and how well: bound curve, images, effective sample sizes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from dvae_eval.results import LikelihoodResult

from ..rounding import count, fixed
from .style import PALETTE, axes, bars, column, count_axis, legend_above, styled

__all__ = ["plot_bound_curve", "plot_ess", "plot_log_likelihoods"]

MAX_BINS = 40


@styled
def plot_bound_curve(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the bound against the number of importance samples K, with one standard error either way."""
    ax = axes(ax)
    curve = result.diagnostics.get("bound_curve", {})
    n_samples, bound, std_err = (column(curve, name) for name in ("n_samples", "log_likelihood", "std_err"))
    ax.errorbar(
        n_samples, bound, std_err, fmt="o-", markersize=4, capsize=2.5, elinewidth=1, color=PALETTE["blue"]
    )
    ax.set_xscale("log")
    ax.set(xlabel="importance samples K", ylabel="log p(x) ≥ (nats an image)")
    _count_log_axis(ax)
    return ax


@styled
def plot_log_likelihoods(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the images' log-likelihoods with their mean, nats."""
    ax = axes(ax)
    values = column(result.per_image, "log_likelihood")
    values = values[np.isfinite(values)]
    n_bins = min(MAX_BINS, np.histogram_bin_edges(values, "auto").size - 1)
    bars(ax, values, n_bins)
    mean = float(np.mean(values))
    ax.axvline(mean, color=PALETTE["ink"], label=f"mean {fixed(mean, 1)}")
    ax.set(xlabel="log-likelihood of one image (nats)", ylabel="images")
    legend_above(ax, 1)
    return ax


@styled
def plot_ess(result: LikelihoodResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of the images' effective sample sizes, on a logarithmic axis from 1 to K."""
    ax = axes(ax)
    values = column(result.per_image, "ess")
    values = values[np.isfinite(values)]
    bins = np.geomspace(1, max(2, result.n_samples), 32).tolist()
    bars(ax, np.clip(values, 1, bins[-1]), bins)
    median = float(np.median(values))
    ax.axvline(median, color=PALETTE["ink"], label=f"median {count(round(median))}")
    ax.set_xscale("log")
    ax.set(xlabel=f"effective samples of {count(result.n_samples)}", ylabel="images")
    _count_log_axis(ax)
    legend_above(ax, 1)
    return ax


def _count_log_axis(ax: Axes) -> None:
    """Mark the powers of ten on the x axis, written out."""
    ax.xaxis.set_major_locator(LogLocator(10))
    ax.xaxis.set_minor_locator(NullLocator())
    count_axis(ax.xaxis)
