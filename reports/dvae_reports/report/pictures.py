"""The figures and pictures of the report, each with its alternative text and its caption."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dvae_core.text import count, estimate, fixed, short
from dvae_core.types import Float
from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.results import LikelihoodResult, ObservablesResult
from dvae_eval.samples.grid import SampleGrid
from dvae_eval.states.sampled import SampledStates

from ..figures.observables import OBSERVABLES_PANELS
from ..figures.panels import Panel
from ..figures.samples import IMAGES_PER_ROW, mosaic, pair_mosaic
from ..figures.side_by_side import plot_side_by_side
from ..figures.states import plot_state_energies, plot_unit_means, tiles_of
from ..figures.training import plot_runs
from ..results.run_directory import Course, RunRecord
from .svg import figure_svg, png_uri

T = TypeVar("T")

# On the screen, in pixels: tiles are shown at integer multiples of their size, so that pixels stay square.
SMALLEST_TILE, LARGEST_TILE = 24, 36
PAGE_WIDTH, GAP = 992, 20


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure as inlined SVG; `alt` describes it for screen readers, `caption` says how to read it."""

    svg: Markup
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A pixel image as a data URI, with its width on the screen."""

    uri: str
    alt: str
    caption: str
    width: int


def panel_plots(panels: Sequence[Panel[T]], result: T, prefix: str) -> list[Plot]:
    """Return panels, which `dvae-eval figure` draws as well, as figures of the page."""
    return [
        Plot(
            # Drawn first: that names what a damaged result lacks.
            _svg(partial(panel.plot, result), f"{prefix}-{panel.name}"),
            panel.alt(result),
            panel.caption if isinstance(panel.caption, str) else panel.caption(result),
        )
        for panel in panels
    ]


def side_by_side_plots(records: Mapping[str, RunRecord], prefix: str) -> list[Plot]:
    """Return the figures of the log-likelihoods and of the validation bounds, if two runs have them."""
    plots = []
    measured = {name: r.likelihood for name, r in records.items() if r.likelihood is not None}
    if len(measured) > 1:
        plots.append(_likelihoods(measured, prefix))
    trained = {name: record.course for name, record in records.items() if record.epochs}
    if len(trained) > 1:
        plots.append(_validation(trained, prefix))
    return plots


def _likelihoods(measured: Mapping[str, LikelihoodResult], prefix: str) -> Plot:
    rows = [(name, r.log_likelihood, r.std_err_images or 0.0, r.trustworthy) for name, r in measured.items()]
    said = "; ".join(f"{name} {estimate(value, error)}" for name, value, error, _ in rows)
    return Plot(
        _svg(partial(plot_side_by_side, rows), f"{prefix}-likelihoods"),
        f"Log-likelihoods with their standard errors over images: {said} nats.",
        "Log-likelihoods with their standard errors over images. For runs on the same images, the paired "
        "differences in the table below have smaller errors.",
    )


def _validation(trained: Mapping[str, Course], prefix: str) -> Plot:
    said = "; ".join(f"{name} {fixed(course.epochs[-1].valid.elbo, 2)}" for name, course in trained.items())
    return Plot(
        _svg(partial(plot_runs, trained), f"{prefix}-validation"),
        f"Validation bounds by epoch. At the last one: {said} nats.",
        "The evidence lower bound on the validation set during training, with training's rough estimate of log Z.",
    )


def observables_plots(result: ObservablesResult, prefix: str) -> list[Plot]:
    """Return the averages against β, if there are several values of it, and the means of all units at β = 1."""
    panels = OBSERVABLES_PANELS if len(result.along_beta["beta"]) > 1 else ()
    means, errors = (np.array(values, np.float64) for values in (result.unit_means, result.unit_means_std_err))
    return [
        *panel_plots(panels, [("", result)], prefix),
        _unit_means(means, errors, str(result.model.get("units", "01")), f"{prefix}-means", "at β = 1"),
    ]


def states_plots(found: SampledStates, prefix: str) -> list[Plot]:
    """Return the histogram of the energies of states and the means of their units."""
    energies = -(found.log_p + found.log_z)
    mean = fixed(float(energies.mean()), 3)
    means = found.states.mean(0, dtype=np.float64)
    return [
        Plot(
            _svg(partial(plot_state_energies, energies), f"{prefix}-state-energies"),
            f"Histogram of the energies of {count(found.n_states)} states, mean {mean} nats.",
            f"Energies of the samples, mean {mean} nats. E is minus the log of the unnormalised probability.",
        ),
        _unit_means(means, None, found.units, f"{prefix}-state-means", "in the samples"),
    ]


def states_pictures(found: SampledStates, n_left: int | None) -> list[Picture]:
    """Return some states as pictures: squares if the units, or the first `n_left`, fill one, else one row each."""
    tiles = tiles_of(found.states, n_left)
    n_rows, n_columns, height, width = tiles.shape
    if n_rows * n_columns > 1 or height == width:
        said = f"{count(n_rows * n_columns)} states, with their units as the pixels of a square."
    else:
        said = f"{count(height)} states of {count(width)} units, one per row."
    return _pictures([mosaic(tiles)], min(width, LARGEST_TILE), [said], [f"Black: 1. {said}"])


def _unit_means(means: Float, std_errs: Float | None, units: str, name: str, where: str) -> Plot:
    """Return the figure of the means of units."""
    low, high = (short(float(end)) for end in (means.min(), means.max()))
    return Plot(
        _svg(partial(plot_unit_means, means, std_errs, units), name),
        f"Means of {count(len(means))} units {where}, from {low} to {high}.",
        f"The mean of every unit {where}, in the values and the order of the file.",
    )


def sample_pictures(grid: SampleGrid) -> list[Picture]:
    """Return one picture per chain, with its samples in rows, from the first state at the top to the last."""
    n_rows, n_chains, n_draws, _, tile = grid.samples.shape
    images = [mosaic(grid.samples[:, chain]) for chain in range(n_chains)]
    alts = [f"Samples of chain {chain + 1}: {n_rows} rows of {n_draws} images." for chain in range(n_chains)]
    return _pictures(images, tile, alts, [f"Chain {chain + 1}" for chain in range(n_chains)])


def reconstruction_pictures(grid: SampleGrid) -> list[Picture]:
    """Return strips of test images above their reconstructions."""
    images, alts, pairs = [], [], IMAGES_PER_ROW
    for start in range(0, len(grid.originals), pairs):
        originals, made = (array[start : start + pairs] for array in (grid.originals, grid.reconstructions))
        images.append(pair_mosaic(originals, made))
        alts.append(f"Test images {start + 1} to {start + len(originals)}, each above its reconstruction.")
    return _pictures(images, grid.originals.shape[-1], alts, [""] * len(images))


def worst_pictures(images: LikelihoodImages) -> list[Picture]:
    """Return strips of the images with the lowest log-likelihoods, each above its mean reconstruction."""
    strips, alts, captions = [], [], []
    for start in range(0, images.n_worst, IMAGES_PER_ROW):
        part = slice(start, min(start + IMAGES_PER_ROW, images.n_worst))
        values = images.columns["log_likelihood"][images.shown[part]]
        strips.append(pair_mosaic(images.originals[part], images.means[part]))
        alts.append(
            f"Images {start + 1} to {part.stop} by increasing log-likelihood, each above its mean reconstruction."
        )
        captions.append(f"{fixed(float(values[0]), 1)} to {fixed(float(values[-1]), 1)} nats")
    return _pictures(strips, images.originals.shape[-1], alts, captions)


def _svg(draw: Callable[[], Axes], name: str) -> Markup:
    """Draw a figure and return it inlined; `name` must be unique on the page."""
    figure = draw().figure
    if not isinstance(figure, Figure):
        raise TypeError(f"{name}: axes without a figure")
    return Markup(figure_svg(figure, name))


def _pictures(images: list[NDArray[np.uint8]], tile: int, alts: list[str], captions: list[str]) -> list[Picture]:
    """Return images with tiles `tile` pixels wide, enlarged so that all fit side by side if that is legible."""
    widest = max((image.shape[1] for image in images), default=1)
    fitting = (PAGE_WIDTH - GAP * (len(images) - 1)) // (widest * max(1, len(images)))
    scale = min(max(fitting, math.ceil(SMALLEST_TILE / tile)), math.ceil(LARGEST_TILE / tile))
    return [
        Picture(png_uri(image), alt, caption, image.shape[1] * scale)
        for image, alt, caption in zip(images, alts, captions, strict=True)
    ]
