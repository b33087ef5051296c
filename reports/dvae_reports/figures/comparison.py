"""Samples compared with a machine: energies, means of units and pairs, and both estimates of β."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dvae_core.errors import ResultError
from dvae_eval.results import ComparisonResult

from .panels import Panel
from .style import PALETTE, axes, column, legend_above, styled

BETAS = ("beta_energy", "beta_energy_ci95", "beta_pl", "beta_pl_ci95")


@styled
def plot_shares_of_energies(result: ComparisonResult, *, ax: Axes | None = None) -> Axes:
    """Plot the histogram of energies of the samples, and of the machine's states at the effective β.

    Raises
    ------
    ResultError
        If the result has no histogram.
    """
    ax = axes(ax)
    found = _part(result, "energies")
    edges = column(found, "edges")
    ax.stairs(column(found, "samples"), edges, fill=True, color=PALETTE["blue"], alpha=0.4, label="samples")
    if len(found["machine"]):
        ax.stairs(column(found, "machine"), edges, color=PALETTE["orange"], label="machine at effective β")
    ax.set(xlabel="energy E (nats)", ylabel="share")
    legend_above(ax, 1)
    return ax


@styled
def plot_means(result: ComparisonResult, *, ax: Axes | None = None) -> Axes:
    """Plot means of units and pairs in the samples against those of the machine at the effective β.

    Raises
    ------
    ResultError
        If the result has none.
    """
    ax = axes(ax)
    ax.plot((0, 1), (0, 1), color="0.6", linewidth=0.8)
    looks = (("unit_means", "units", "o", "blue", 2), ("bonds", "pairs", ".", "orange", 3))  # the smaller on top
    for name, label, marker, colour, zorder in looks:
        found = _part(result, name)
        x, y = column(found, "machine"), column(found, "samples")
        ax.plot(
            x, y, marker, color=PALETTE[colour], markersize=3, label=label, rasterized=len(x) > 2000, zorder=zorder
        )
    ax.set(xlabel="share, machine", ylabel="share, samples")
    legend_above(ax, 2)
    return ax


@styled
def plot_betas(result: ComparisonResult, *, ax: Axes | None = None) -> Axes:
    """Plot both estimates of β with their 95% intervals, for all samples and below for every class of reads."""
    ax = axes(ax)
    rows: list[dict[str, Any]] = [{name: getattr(result, name) for name in BETAS}, *result.classes]
    names = ["all", *(f"class {found['class']}" for found in result.classes)]
    looks = (("energy", "o", "blue", 0.12), ("pseudo-likelihood", "s", "orange", -0.12))
    for (label, marker, colour, shift), name in zip(looks, ("beta_energy", "beta_pl"), strict=True):
        found = {"x": [row[name] for row in rows], "ends": [row[f"{name}_ci95"] for row in rows]}
        values, ends = column(found, "x"), column(found, "ends")
        known = np.isfinite(values) & np.isfinite(ends).all(1)
        x, y = values[known], shift - np.arange(len(rows))[known]
        bars, own = np.abs(ends[known].T - x), PALETTE[colour]
        ax.errorbar(x, y, xerr=bars, fmt=marker, color=own, markersize=3, label=label)
    ax.axvline(1, color="0.6", linewidth=0.8)
    ax.set_yticks(-np.arange(len(rows)), names)
    ax.set_ylim(0.5 - len(rows), 0.5)
    ax.set(xlabel="effective β, 95%")
    legend_above(ax, 1)
    return ax


COMPARISON_PANELS: Sequence[Panel[ComparisonResult]] = (
    Panel("energies", "energies", plot_shares_of_energies),
    Panel("means", "means", plot_means),
    Panel("beta", "inverse temperature", plot_betas),
)


def _part(result: ComparisonResult, name: str) -> dict[str, list[float]]:
    """Return the diagnostics `name`; ResultError if they are missing."""
    found = result.diagnostics.get(name)
    if not isinstance(found, dict) or not {"samples", "machine"} <= set(found):
        raise ResultError(f"the comparison has no {name.replace('_', ' ')}; run dvae-eval compare-samples again")
    return found
