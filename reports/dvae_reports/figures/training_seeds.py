"""The course of training over several seeds of a setting: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dvae_core.types import Float, Index

from ..results.run_directory import Course
from .style import PALETTE, axes, legend_above, styled
from .training import LINE_STYLES, dress, focus


@styled
def plot_seeds(settings: Mapping[str, Sequence[Course]], *, ax: Axes | None = None) -> Axes:
    """Plot the mean validation bound over seeds of every setting against epochs, nats per image.

    The band is ± 1 standard deviation of the runs.  A setting's line ends with its shortest run.

    Parameters
    ----------
    settings : mapping from str to sequence of Course
        The runs of every setting by its name, one per seed.
    """
    ax = axes(ax)
    settled = []
    for (name, runs), (color, line) in zip(settings.items(), cycle(LINE_STYLES), strict=False):
        numbers, values = _bounds(runs)
        mean = values.mean(0)
        spread = values.std(0, ddof=1) if len(values) > 1 else np.zeros_like(mean)
        ax.fill_between(numbers, mean - spread, mean + spread, color=PALETTE[color], alpha=0.2, linewidth=0)
        marker = "o" if len(numbers) == 1 else ""
        dashes: Any = line
        ax.plot(numbers, mean, linestyle=dashes, marker=marker, color=PALETTE[color], label=name)
        settled += [(mean + sign * spread)[len(mean) // 10 :] for sign in (-1, 1)]
    focus(ax, np.concatenate(settled))
    dress(ax, "validation ELBO (nats per image)\nmean ± sd of seeds")
    if len(settings) > 1:
        legend_above(ax, 2)
    return ax


def _bounds(runs: Sequence[Course]) -> tuple[Index, Float]:
    """Return the epochs that all runs have, and the bounds at these epochs, one row per run."""
    tables = [{epoch.epoch: epoch.valid.elbo for epoch in run.epochs} for run in runs]
    numbers = sorted(set.intersection(*(set(table) for table in tables)))
    return np.array(numbers), np.array([[table[n] for n in numbers] for table in tables], dtype=float)
