"""Plots of results and samples for notebooks and scripts: the figures of the reports, one function each.

Without `ax` a function returns a Figure, which a notebook shows at the end of a cell and which pyplot does not
track.  With `ax` it draws into these axes and returns them.  It changes no setting of matplotlib.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from dvae_core.errors import DataError, ResultError
from dvae_eval.results import ComparisonResult, LikelihoodResult, LogZResult, ObservablesResult
from dvae_eval.samples.grid import SampleGrid
from dvae_eval.states.sampled import SampledStates

from .figures.comparison import COMPARISON_PANELS
from .figures.diagnostics import panels_of
from .figures.observables import OBSERVABLES_PANELS
from .figures.panels import Panel, panel_figure, titled
from .figures.registry import draw
from .figures.samples import IMAGES_PER_ROW, mosaic, samples_image
from .figures.shown import ShownFigure
from .figures.states import tiles_of
from .figures.style import PALETTE
from .names import WIDTHS

T = TypeVar("T")

# Inches of one panel.
ONE = 4.8


def plot_log_z(result: LogZResult, *, ax: Axes | None = None) -> Figure | Axes:
    """Plot the independent estimates of log Z with mean, standard deviation and exact value (Figure 10).

    Parameters
    ----------
    result : LogZResult
        An estimate with replicates; an exact value has none.
    ax : Axes, optional

    Raises
    ------
    ResultError
        If the result has no replicates.
    """
    return plot_diagnostics(result, "repeats", ax=ax)


def plot_schedule(result: LogZResult, *, ax: Axes | None = None) -> Figure | Axes:
    """Plot exchange rates and overlaps between neighbouring rungs against their β.

    Parameters and errors are those of `plot_log_z`.
    """
    return plot_diagnostics(result, "schedule", ax=ax)


def plot_diagnostics(
    result: LogZResult | LikelihoodResult, panel: str | None = None, *, ax: Axes | None = None
) -> Figure | Axes:
    """Plot the diagnostics of a result.

    Parameters
    ----------
    result : LogZResult or LikelihoodResult
    panel : str, optional
        A single panel: `schedule`, `flow`, `energies`, `overlap`, `running`, `repeats` or `trajectory` for log Z;
        `bound`, `images`, `ess`, `pareto` or `classes` for a likelihood.
    ax : Axes, optional
        For a single panel only.

    Raises
    ------
    ResultError
        If the result lacks the panel's numbers, or `ax` is given for several panels.
    """
    return _drawn(panels_of(result), result, panel, ax)


def plot_observables(
    results: ObservablesResult | Mapping[str, ObservablesResult],
    panel: str | None = None,
    *,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Plot observables of a machine against β, each with its 95% band.

    Parameters
    ----------
    results : ObservablesResult, or mapping of names to at most four
    panel : str, optional
        A single panel: `energy`, `specific_heat`, `entropy` or `log_z`.
    ax : Axes, optional
        For a single panel only.

    Raises
    ------
    ResultError
        If there is no such panel, or `ax` is given for several.
    """
    named = {"": results} if isinstance(results, ObservablesResult) else results
    return _drawn(OBSERVABLES_PANELS, list(named.items()), panel, ax)


def plot_comparison(
    result: ComparisonResult, panel: str | None = None, *, ax: Axes | None = None
) -> Figure | Axes:
    """Plot a comparison of samples with a machine: energies, means of units and pairs, both estimates of β.

    Parameters
    ----------
    result : ComparisonResult
    panel : str, optional
        A single panel: `energies`, `means` or `beta`.
    ax : Axes, optional
        For a single panel only.

    Raises
    ------
    ResultError
        If there is no such panel, or `ax` is given for several.
    """
    return _drawn(COMPARISON_PANELS, result, panel, ax)


def plot_training(runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Figure:
    """Plot the course of training: bound and KL of one run, or the validation bounds of several.

    Parameters
    ----------
    runs : path, or sequence of paths
        Run directories, or their metrics.jsonl.

    Raises
    ------
    ResultError
        If a run has no finished epoch.
    """
    paths = [runs] if isinstance(runs, str | os.PathLike) else runs
    return draw("training", [Path(path) for path in paths], WIDTHS["page"])


def plot_samples(samples: SampledStates | SampleGrid | ArrayLike, *, ax: Axes | None = None) -> Figure | Axes:
    """Show samples as pictures, dark where they are 1.

    Parameters
    ----------
    samples : SampledStates, SampleGrid, or array of shape (n, height, width)
        States are shown as square pictures if the number of all units, or of the visible ones, is a square; else
        as one picture whose rows are states.  An array has intensities from 0 to 1, as `model.generate` returns.
    ax : Axes, optional

    Raises
    ------
    DataError
        If an array has another shape, or values outside 0 to 1.
    """
    image = _image_of(samples)
    if ax is None:
        # A grey background, so that gaps are visible between white pictures.
        figure = ShownFigure(figsize=(ONE, ONE * image.shape[0] / image.shape[1]), facecolor=PALETTE["faint"])
        _show(image, figure.add_axes((0.0, 0.0, 1.0, 1.0)))
        return figure
    _show(image, ax)
    return ax


def _drawn(panels: Sequence[Panel[T]], result: T, name: str | None, ax: Axes | None) -> Figure | Axes:
    """Return the figure of all panels or of the named one; with `ax`, draw that one into it and return it."""
    if not panels:
        raise ResultError("the result has nothing to plot; an exact value has neither replicates nor a schedule")
    names = ", ".join(panel.name for panel in panels)
    shown = [panel for panel in panels if name in (None, panel.name)]
    if not shown:
        raise ResultError(f"panel {name!r}: the result has no such panel; give one of {names}")
    if ax is None:
        figure = panel_figure(titled(shown, result), ONE if len(shown) == 1 else WIDTHS["page"])
        figure.set_facecolor("white")
        return figure
    if len(shown) > 1:
        raise ResultError(f"ax: only one panel fits in; give its name, one of {names}")
    return shown[0].plot(result, ax=ax)


def _image_of(samples: SampledStates | SampleGrid | ArrayLike) -> NDArray[np.uint8]:
    """Return samples as one RGBA picture."""
    if isinstance(samples, SampleGrid):
        return samples_image(samples)
    if isinstance(samples, SampledStates):
        return mosaic(tiles_of(samples.states, samples.model.get("n_left")))
    images = np.asarray(samples, dtype=np.float64)
    if images.ndim != 3 or not images.size:
        raise DataError(f"samples: the shape is {images.shape}; give (n, height, width)")
    if not ((images >= 0) & (images <= 1)).all():
        raise DataError("samples: values outside 0 to 1; give intensities")
    n_rows = -(-len(images) // IMAGES_PER_ROW)
    n_columns = -(-len(images) // n_rows)
    tiles = np.zeros((n_rows * n_columns, *images.shape[1:]), np.uint8)
    tiles[: len(images)] = np.round(255 * images)
    page = mosaic(tiles.reshape(n_rows, n_columns, *images.shape[1:]))
    n_last = len(images) - (n_rows - 1) * n_columns
    # Transparent like the gaps: white would look like a picture.
    page[-images.shape[1] :, n_last * page.shape[1] // n_columns :] = 0
    return page


def _show(image: NDArray[np.uint8], ax: Axes) -> None:
    """Show a picture without interpolation."""
    ax.imshow(image, interpolation="nearest")
    ax.set_axis_off()
