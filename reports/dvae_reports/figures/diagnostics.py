"""What a result shows of its own quality: every panel once, for `dvae-eval figure diagnostics` and for the report.

A panel is shown where the result holds the numbers that it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dvae_core.text import count, decimals, estimate, fixed, short
from dvae_eval.results import LikelihoodResult, LogZResult, Result

from .likelihood import (
    has_tails,
    plot_bound_curve,
    plot_classes,
    plot_ess,
    plot_log_likelihoods,
    plot_pareto_k,
)
from .log_z import (
    exact_log_z,
    plot_energies,
    plot_flow,
    plot_overlap,
    plot_repeats,
    plot_running,
    plot_schedule,
    plot_trajectory,
)

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Panel(Generic[R]):
    """A diagnostic figure of one result.

    Attributes
    ----------
    name : str
        Unique among the panels of a result.
    title : str
        A few words, as they stand below the panel in a figure.
    is_shown : callable
        Whether the result holds the numbers.
    plot : callable
        Draws the result in axes, its keyword `ax`.
    alt : callable
        What the panel shows of this result, in words for those who do not see it.
    caption : str
        How to read it.
    """

    name: str
    title: str
    is_shown: Callable[[R], bool]
    plot: Callable[..., Axes]
    alt: Callable[[R], str]
    caption: str


def panels_of(result: Result) -> Sequence[Panel[Any]]:
    """Return the panels that a result holds the numbers of; none for one of another kind."""
    kinds: Mapping[str, Sequence[Panel[Any]]] = {"logz": LOG_Z_PANELS, "ll": LIKELIHOOD_PANELS}
    return [panel for panel in kinds.get(result.kind, ()) if panel.is_shown(result)]


def _has(name: str, column: str = "") -> Callable[[Result], bool]:
    """Return whether a result's diagnostics hold a finite number in the array `name`, or in the table's column."""

    def is_shown(result: Result) -> bool:
        found = result.diagnostics.get(name)
        return _any_finite(found.get(column) if column and isinstance(found, Mapping) else found)

    return is_shown


def _has_image_values(name: str) -> Callable[[LikelihoodResult], bool]:
    """Return whether a result holds a finite number `name` of some image."""
    return lambda result: _any_finite(result.per_image.get(name))


def _any_finite(values: Any) -> bool:
    """Whether lists, or lists of lists, hold a finite number; a result file holds null for others."""
    return values is not None and bool(np.isfinite(np.array(values, dtype=np.float64)).any())


# --- log Z ----------------------------------------------------------------------------------------------------


def _schedule_alt(result: LogZResult) -> str:
    rates = _finite(result.diagnostics["exchange_rates"])
    return (
        f"Exchange rates between the {len(result.diagnostics['betas'])} rungs of the schedule, "
        f"from {short(rates.min())} to {short(rates.max())}, and their overlaps, against inverse temperature."
    )


def _flow_alt(result: LogZResult) -> str:
    trips = _finite(result.diagnostics.get("round_trips", []))
    return (
        f"Share of replicas that come from β = 0, from 1 at the hot end to 0 at the cold one; "
        f"{float(np.mean(trips)) if len(trips) else 0:.0f} round trips per replicate."
    )


def _energies_alt(result: LogZResult) -> str:
    n_rungs = len(result.diagnostics["energy_histograms"]["counts"])
    return f"Histograms of the derivative of log p in β on {n_rungs} rungs, from β = 0 below to β = 1 above."


def _overlap_alt(result: LogZResult) -> str:
    matrix = np.array(result.diagnostics["overlap_matrix"], dtype=np.float64)
    beside = np.diag(matrix, 1)
    least = f"; the least of neighbours is {short(beside.min())}" if len(beside) else ""
    return f"Matrix of the overlaps of {len(matrix)} rungs{least}."


def _running_alt(result: LogZResult) -> str:
    return (
        f"The estimate of log Z as the run went on, ending at {estimate(result.log_z, result.std_err)} nats"
        f"{_exact(result)}."
    )


def _repeats_alt(result: LogZResult) -> str:
    values, digits = _finite(result.repeats), decimals(result.std_err)
    return (
        f"Histogram of {len(values)} independent estimates of log Z, from {fixed(values.min(), digits)} to "
        f"{fixed(values.max(), digits)} nats{_exact(result)}."
    )


def _trajectory_alt(result: LogZResult) -> str:
    found, digits = result.diagnostics["trajectory"], decimals(result.std_err)
    (step_0, first), (step_1, last) = ((found["steps"][i], fixed(found["log_z"][i], digits)) for i in (0, -1))
    return f"Log Z along the training, from {first} nats at step {count(step_0)} to {last} at {count(step_1)}."


LOG_Z_PANELS: Sequence[Panel[LogZResult]] = (
    Panel(
        "schedule",
        "schedule",
        _has("exchange_rates"),
        plot_schedule,
        _schedule_alt,
        "The schedule. States must travel between β = 0, where Z is known, and β = 1: "
        "a rate or an overlap near 0 is a gap that they cannot cross.",
    ),
    Panel(
        "flow",
        "replica flow",
        _has("from_hot_end"),
        plot_flow,
        _flow_alt,
        "Replica flow. A straight line is ideal; a cliff is a temperature that replicas hardly cross.",
    ),
    Panel(
        "energies",
        "energies",
        _has("energy_histograms", "counts"),
        plot_energies,
        _energies_alt,
        "Energies on every rung. Neighbours must overlap, or no exchange and no ratio between them can be had.",
    ),
    Panel(
        "overlap",
        "overlap",
        _has("overlap_matrix"),
        plot_overlap,
        _overlap_alt,
        "MBAR's overlap matrix: how likely a sample of one rung could as well be one of another. Neighbours "
        "below 0.03 share too little for their ratio to be known.",
    ),
    Panel(
        "running",
        "estimate over time",
        _has("running", "log_z"),
        plot_running,
        _running_alt,
        "The estimate as the run went on. It should settle within its own band; a drift means too short a run.",
    ),
    Panel(
        "repeats",
        "independent estimates",
        lambda result: len(_finite(result.repeats)) > 1,
        plot_repeats,
        _repeats_alt,
        "Independent estimates (the paper's Figure 10) with mean and standard deviation. The error of log Z comes "
        "from this spread.",
    ),
    Panel(
        "trajectory",
        "along the training",
        _has("trajectory", "log_z"),
        plot_trajectory,
        _trajectory_alt,
        "Log Z of the priors along the training, each from the samples of the rungs between which it lies, with "
        "two standard errors either way.",
    ),
)


def _exact(result: LogZResult) -> str:
    """Say the exact value, where there is one."""
    value = exact_log_z(result)
    return "" if value is None else f"; the exact value is {fixed(value, decimals(result.std_err))}"


# --- log-likelihood -------------------------------------------------------------------------------------------


def _bound_alt(result: LikelihoodResult) -> str:
    curve, digits = result.diagnostics["bound_curve"], decimals(result.std_err_images, result.std_err_log_z)
    (k_0, first), (k_1, last) = (
        (count(round(curve["n_samples"][i])), fixed(curve["log_likelihood"][i], digits)) for i in (0, -1)
    )
    return f"The bound on the log-likelihood rising from {first} nats at {k_0} samples to {last} at {k_1}."


def _images_alt(result: LikelihoodResult) -> str:
    values = _finite(result.per_image["log_likelihood"])
    return (
        f"Histogram of the log-likelihoods of {count(len(values))} images, "
        f"from {fixed(values.min(), 1)} to {fixed(values.max(), 1)} nats."
    )


def _ess_alt(result: LikelihoodResult) -> str:
    values = _finite(result.per_image["ess"])
    return (
        f"Histogram of the effective sample sizes of {count(len(values))} images, median "
        f"{count(round(float(np.median(values))))} of {count(result.n_samples)}."
    )


def _pareto_alt(result: LikelihoodResult) -> str:
    return (
        f"Histogram of the shapes of the tails of {count(result.n_images)} images' weights, of which "
        f"{count(result.n_suspect or 0)} lie beyond the limit."
    )


def _classes_alt(result: LikelihoodResult) -> str:
    table = result.diagnostics["per_class"]
    worst = min(range(len(table["label"])), key=table["log_likelihood"].__getitem__)
    return (
        f"Mean log-likelihood of {len(table['label'])} classes, the lowest "
        f"{fixed(table['log_likelihood'][worst], 1)} nats of class {table['label'][worst]}."
    )


LIKELIHOOD_PANELS: Sequence[Panel[LikelihoodResult]] = (
    Panel(
        "bound",
        "bound",
        _has("bound_curve", "log_likelihood"),
        plot_bound_curve,
        _bound_alt,
        "The bound against the number of samples. Where it is flat, more samples would gain nothing. All points "
        "share their images, so their errors move together.",
    ),
    Panel(
        "images",
        "images",
        _has_image_values("log_likelihood"),
        plot_log_likelihoods,
        _images_alt,
        "How likely each image is. A long tail to the left holds images that the model does not know.",
    ),
    Panel(
        "ess",
        "effective samples",
        _has_image_values("ess"),
        plot_ess,
        _ess_alt,
        "How many of an image's samples carry its weight. Images near 1 hang on a single sample, and their "
        "bound is loose.",
    ),
    Panel(
        "pareto",
        "tails of the weights",
        has_tails,
        plot_pareto_k,
        _pareto_alt,
        "How heavy the tail of an image's weights is. Beyond the limit, a few samples that were not drawn could "
        "outweigh all that were: the bound holds, but its distance from this image's log-likelihood is uncertain.",
    ),
    Panel(
        "classes",
        "classes",
        _has("per_class", "log_likelihood"),
        plot_classes,
        _classes_alt,
        "The likelihood of every class of images, with two standard errors either way.",
    ),
)


def _finite(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return the finite ones of a result's numbers; its file holds null for the others."""
    array = np.array(values, dtype=np.float64)
    return array[np.isfinite(array)]
