"""Every picture of the report with the words that belong to it: what it shows, and what to see in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dvae_core.text import count, decimals, estimate, fixed, short
from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.results import LikelihoodResult, LogZResult
from dvae_eval.samples.grid import SampleGrid

from .. import figures
from ..figures.log_z import exact_log_z
from ..figures.samples import PAIRS_A_STRIP
from ..results.metrics import Epoch
from ..results.run_directory import RunRecord
from .svg import figure_svg, png_uri

__all__ = [
    "Picture",
    "Plot",
    "likelihood_plots",
    "log_z_plots",
    "reconstruction_pictures",
    "sample_pictures",
    "side_by_side_plots",
    "training_plots",
    "worst_pictures",
]

# On the screen, in pixels: tiles are shown at whole multiples of their own size, which keeps every pixel square.
SMALLEST_TILE, LARGEST_TILE = 24, 36
PAGE_WIDTH, GAP = 992, 20


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure as inlined SVG: `alt` says it to those who do not see it, `caption` says how to read it."""

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


def training_plots(epochs: list[Epoch], prefix: str) -> list[Plot]:
    """Return the bound and its KL parts over the epochs; none before the first epoch."""
    if not epochs:
        return []
    last = epochs[-1]
    return [
        _plot(
            lambda: figures.plot_elbo(epochs),
            f"{prefix}-elbo",
            f"Line chart of the ELBO over {count(len(epochs))} epochs; at the last, "
            f"{fixed(last.train.elbo, 2)} nats in training and {fixed(last.valid.elbo, 2)} in validation.",
            "The evidence lower bound. Validation falling away from training means overfitting.",
        ),
        _plot(
            lambda: figures.plot_kl(epochs),
            f"{prefix}-kl",
            f"Line chart of the KL parts over the epochs; at the last, {fixed(last.valid.kl_rbm, 2)} nats for the "
            f"Boltzmann machine and {fixed(sum(last.valid.kl_continuous), 2)} for the continuous layers.",
            "What each part of the latent space costs on validation images, and so the most it can tell about "
            "them: a part at 0 is not used.",
        ),
    ]


def side_by_side_plots(records: Mapping[str, RunRecord], prefix: str) -> list[Plot]:
    """Return the runs' log-likelihoods and their validation bounds, each where at least two runs have them."""
    plots = []
    measured = {name: r.likelihood for name, r in records.items() if r.likelihood is not None}
    if len(measured) > 1:
        plots.append(_likelihoods(measured, prefix))
    trained = {name: record.epochs for name, record in records.items() if record.epochs}
    if len(trained) > 1:
        plots.append(_validation(trained, prefix))
    return plots


def _likelihoods(measured: Mapping[str, LikelihoodResult], prefix: str) -> Plot:
    rows = [(name, r.log_likelihood, r.std_err_images or 0.0, r.trustworthy) for name, r in measured.items()]
    said = "; ".join(f"{name} {estimate(value, error)}" for name, value, error, _ in rows)
    return _plot(
        lambda: figures.plot_side_by_side(rows),
        f"{prefix}-likelihoods",
        f"Log-likelihoods with their errors over images: {said} nats.",
        "Log-likelihoods with their standard errors over images. Runs that share their images are compared more "
        "sharply by their differences image by image.",
    )


def _validation(trained: Mapping[str, list[Epoch]], prefix: str) -> Plot:
    said = "; ".join(f"{name} {fixed(epochs[-1].valid.elbo, 2)}" for name, epochs in trained.items())
    return _plot(
        lambda: figures.plot_runs(trained),
        f"{prefix}-validation",
        f"Validation bounds over the epochs, at the last: {said} nats.",
        "The evidence lower bound on the validation set while the runs were trained, with training's rough log Z.",
    )


def log_z_plots(result: LogZResult, prefix: str) -> list[Plot]:
    """Return ladder, flow, energies, running estimate and Figure 10, each where the result holds its arrays."""
    plots = []
    if len(_finite(result.diagnostics.get("exchange_rates", []))):
        plots.append(_ladder(result, prefix))
    if result.diagnostics.get("from_hot_end"):
        plots.append(_flow(result, prefix))
    if result.diagnostics.get("energy_histograms"):
        plots.append(_energies(result, prefix))
    if result.diagnostics.get("running"):
        plots.append(_running(result, prefix))
    if len(_finite(result.repeats)) > 1:
        plots.append(_repeats(result, prefix))
    return plots


def _flow(result: LogZResult, prefix: str) -> Plot:
    trips = _finite(result.diagnostics.get("round_trips", []))
    return _plot(
        lambda: figures.plot_flow(result),
        f"{prefix}-flow",
        f"Share of replicas that come from β = 0, from 1 at the hot end to 0 at the cold one; "
        f"{float(np.mean(trips)) if len(trips) else 0:.0f} round trips a ladder.",
        "Replica flow. A straight line is ideal; a cliff is a temperature that replicas hardly cross.",
    )


def _energies(result: LogZResult, prefix: str) -> Plot:
    n_rungs = len(result.diagnostics["energy_histograms"]["counts"])
    return _plot(
        lambda: figures.plot_energies(result),
        f"{prefix}-energies",
        f"Histograms of the derivative of log p in β on {n_rungs} rungs, from β = 0 below to β = 1 above.",
        "Energies on every rung. Neighbours must overlap, or no exchange and no ratio between them can be had.",
    )


def likelihood_plots(result: LikelihoodResult, prefix: str) -> list[Plot]:
    """Return the bound curve and the histograms over images, each where the result holds its arrays."""
    plots = []
    if result.diagnostics.get("bound_curve"):
        plots.append(_bound_curve(result, prefix))
    if len(_finite(result.per_image.get("log_likelihood", []))):
        plots.append(_log_likelihoods(result, prefix))
    if len(_finite(result.per_image.get("ess", []))):
        plots.append(_ess(result, prefix))
    if len(_finite(result.per_image.get("pareto_k", []))):
        plots.append(_pareto_k(result, prefix))
    if result.diagnostics.get("per_class"):
        plots.append(_classes(result, prefix))
    return plots


def sample_pictures(grid: SampleGrid) -> list[Picture]:
    """Return one picture a chain: its rows of samples, from the first state down to the last."""
    n_rows, n_chains, n_draws, _, tile = grid.samples.shape
    images = [figures.mosaic(grid.samples[:, chain]) for chain in range(n_chains)]
    alts = [f"Samples of chain {chain + 1}: {n_rows} rows of {n_draws} images." for chain in range(n_chains)]
    return _pictures(images, tile, alts, [f"Chain {chain + 1}" for chain in range(n_chains)])


def reconstruction_pictures(grid: SampleGrid) -> list[Picture]:
    """Return strips of test images above their reconstructions."""
    images, alts, pairs = [], [], PAIRS_A_STRIP
    for start in range(0, len(grid.originals), pairs):
        originals, made = (array[start : start + pairs] for array in (grid.originals, grid.reconstructions))
        images.append(figures.pair_mosaic(originals, made))
        alts.append(f"Test images {start + 1} to {start + len(originals)} above their reconstructions.")
    return _pictures(images, grid.originals.shape[-1], alts, [""] * len(images))


def worst_pictures(images: LikelihoodImages) -> list[Picture]:
    """Return strips of the images with the lowest likelihoods above their mean reconstructions."""
    strips, alts, captions = [], [], []
    for start in range(0, images.n_worst, PAIRS_A_STRIP):
        part = slice(start, min(start + PAIRS_A_STRIP, images.n_worst))
        values = images.columns["log_likelihood"][images.shown[part]]
        strips.append(figures.pair_mosaic(images.originals[part], images.means[part]))
        alts.append(f"Images {start + 1} to {part.stop} from the worst, above their mean reconstructions.")
        captions.append(f"{fixed(float(values[0]), 1)} to {fixed(float(values[-1]), 1)} nats")
    return _pictures(strips, images.originals.shape[-1], alts, captions)


def _ladder(result: LogZResult, prefix: str) -> Plot:
    rates = _finite(result.diagnostics["exchange_rates"])
    return _plot(
        lambda: figures.plot_ladder(result),
        f"{prefix}-ladder",
        f"Exchange rates between the {len(result.diagnostics['betas'])} rungs of the ladder, "
        f"from {short(rates.min())} to {short(rates.max())}, and their overlaps, against inverse temperature.",
        "The ladder. States must travel between β = 0, where Z is known, and β = 1: "
        "a rate or an overlap near 0 is a gap that they cannot cross.",
    )


def _running(result: LogZResult, prefix: str) -> Plot:
    return _plot(
        lambda: figures.plot_running(result),
        f"{prefix}-running",
        f"The estimate of log Z as the run went on, ending at {estimate(result.log_z, result.std_err)} nats"
        f"{_exact(result)}.",
        "The estimate as the run went on. It should settle within its own band; a drift means too short a run.",
    )


def _repeats(result: LogZResult, prefix: str) -> Plot:
    values, digits = _finite(result.repeats), decimals(result.std_err)
    return _plot(
        lambda: figures.plot_repeats(result),
        f"{prefix}-repeats",
        f"Histogram of {len(values)} independent estimates of log Z, from {fixed(values.min(), digits)} to "
        f"{fixed(values.max(), digits)} nats{_exact(result)}.",
        f"{len(values)} independent estimates (the paper's Figure 10) with mean and standard deviation. "
        "The error of log Z comes from this spread.",
    )


def _bound_curve(result: LikelihoodResult, prefix: str) -> Plot:
    curve = result.diagnostics["bound_curve"]
    return _plot(
        lambda: figures.plot_bound_curve(result),
        f"{prefix}-bound",
        f"The bound on the log-likelihood rising from {fixed(curve['log_likelihood'][0], 2)} nats at "
        f"{count(curve['n_samples'][0])} samples to {fixed(curve['log_likelihood'][-1], 2)} at "
        f"{count(curve['n_samples'][-1])}.",
        "The bound against the number of samples. Where it is flat, more samples would gain nothing. All points "
        "share their images, so their errors move together.",
    )


def _log_likelihoods(result: LikelihoodResult, prefix: str) -> Plot:
    values = _finite(result.per_image["log_likelihood"])
    return _plot(
        lambda: figures.plot_log_likelihoods(result),
        f"{prefix}-images",
        f"Histogram of the log-likelihoods of {count(len(values))} images, "
        f"from {fixed(values.min(), 1)} to {fixed(values.max(), 1)} nats.",
        "How likely each image is. A long tail to the left holds images that the model does not know.",
    )


def _ess(result: LikelihoodResult, prefix: str) -> Plot:
    values = _finite(result.per_image["ess"])
    return _plot(
        lambda: figures.plot_ess(result),
        f"{prefix}-ess",
        f"Histogram of the effective sample sizes of {count(len(values))} images, median "
        f"{count(round(float(np.median(values))))} of {count(result.n_samples)}.",
        "How many of an image's samples carry its weight. Images near 1 hang on a single sample, and their "
        "bound is loose.",
    )


def _pareto_k(result: LikelihoodResult, prefix: str) -> Plot:
    return _plot(
        lambda: figures.plot_pareto_k(result),
        f"{prefix}-pareto",
        f"Histogram of the shapes of the tails of {count(result.n_images)} images' weights, of which "
        f"{count(result.n_suspect or 0)} lie beyond the limit.",
        "How heavy the tail of an image's weights is. Beyond the limit, a few samples that were not drawn could "
        "outweigh all that were, and the image's estimate is not to be relied on: it is low as a rule.",
    )


def _classes(result: LikelihoodResult, prefix: str) -> Plot:
    table = result.diagnostics["per_class"]
    worst = min(range(len(table["label"])), key=table["log_likelihood"].__getitem__)
    return _plot(
        lambda: figures.plot_classes(result),
        f"{prefix}-classes",
        f"Mean log-likelihood of {len(table['label'])} classes, the lowest "
        f"{fixed(table['log_likelihood'][worst], 1)} nats of class {table['label'][worst]}.",
        "The likelihood of every class of images, with two standard errors either way.",
    )


def _finite(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return the finite ones of a result's numbers; its file holds null for the others."""
    array = np.array(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _exact(result: LogZResult) -> str:
    """Say the exact value, where there is one."""
    value = exact_log_z(result)
    return "" if value is None else f"; the exact value is {fixed(value, decimals(result.std_err))}"


def _plot(draw: Callable[[], Axes], name: str, alt: str, caption: str) -> Plot:
    """Draw a figure and inline it; `name` is unique on the page."""
    figure = draw().figure
    if not isinstance(figure, Figure):
        raise TypeError(f"{name}: axes without a figure")
    return Plot(Markup(figure_svg(figure, name)), alt, caption)


def _pictures(images: list[NDArray[np.uint8]], tile: int, alts: list[str], captions: list[str]) -> list[Picture]:
    """Return images of tiles `tile` pixels wide, enlarged so that all fit side by side where that is legible."""
    widest = max((image.shape[1] for image in images), default=1)
    fitting = (PAGE_WIDTH - GAP * (len(images) - 1)) // (widest * max(1, len(images)))
    scale = min(max(fitting, math.ceil(SMALLEST_TILE / tile)), math.ceil(LARGEST_TILE / tile))
    return [
        Picture(png_uri(image), alt, caption, image.shape[1] * scale)
        for image, alt, caption in zip(images, alts, captions, strict=True)
    ]
