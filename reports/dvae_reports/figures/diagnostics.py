"""Diagnostics of one result: the panels of `dvae-eval figure diagnostics` and of the report.

A panel is shown if the result has its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

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
from .panels import Panel
from .style import finite


def panels_of(result: Result) -> Sequence[Panel[Any]]:
    """Return the panels whose numbers a result has; none for other kinds of results."""
    kinds: Mapping[str, Sequence[Panel[Any]]] = {"logz": LOG_Z_PANELS, "ll": LIKELIHOOD_PANELS}
    return [panel for panel in kinds.get(result.kind, ()) if panel.is_shown(result)]


def _has(name: str, column: str = "") -> Callable[[Result], bool]:
    """Return a test for a finite number in the diagnostics: in the array `name`, or in a column of that table."""

    def is_shown(result: Result) -> bool:
        found = result.diagnostics.get(name)
        return _any_finite(found.get(column) if column and isinstance(found, Mapping) else found)

    return is_shown


def _has_image_values(name: str) -> Callable[[LikelihoodResult], bool]:
    """Return a test for a finite number `name` of any image."""
    return lambda result: _any_finite(result.per_image.get(name))


def _any_finite(values: Any) -> bool:
    """Return whether lists, or lists of lists, contain a finite number; result files have null for others."""
    return values is not None and bool(np.isfinite(np.array(values, dtype=np.float64)).any())


# --- log Z ----------------------------------------------------------------------------------------------------


def _schedule_alt(result: LogZResult) -> str:
    rates = finite(result.diagnostics["exchange_rates"])
    return (
        f"Exchange rates between neighbours among {len(result.diagnostics['betas'])} rungs, "
        f"from {short(rates.min())} to {short(rates.max())}, and their overlaps, against inverse temperature."
    )


def _flow_alt(result: LogZResult) -> str:
    trips = finite(result.diagnostics.get("round_trips", []))
    return (
        "Share of replicas that visited β = 0 last, against inverse temperature, from 1 at β = 0 to 0 at β = 1; "
        f"{float(np.mean(trips)) if len(trips) else 0:.0f} round trips per replicate."
    )


def _overlap_alt(result: LogZResult) -> str:
    matrix = np.array(result.diagnostics["overlap_matrix"], dtype=np.float64)
    beside = np.diag(matrix, 1)
    least = f"; the smallest between neighbours is {short(beside.min())}" if len(beside) else ""
    return f"Matrix of the overlaps of {len(matrix)} rungs{least}."


def _repeats_alt(result: LogZResult) -> str:
    values, digits = finite(result.repeats), decimals(result.std_err)
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
        plot_schedule,
        _schedule_alt,
        "Exchange rates and overlaps of neighbouring rungs. Replicas must travel between β = 0, where Z is known, "
        "and β = 1. A rate or an overlap near 0 stops them there: raise --exchange-rate.",
        _has("exchange_rates"),
    ),
    Panel(
        "flow",
        "replica flow",
        plot_flow,
        _flow_alt,
        "Replica flow: share of replicas that visited β = 0 last. A straight line is ideal. A steep step is a "
        "temperature that few replicas cross: give more --sweeps or raise --exchange-rate.",
        _has("from_hot_end"),
    ),
    Panel(
        "energies",
        "energies",
        plot_energies,
        lambda result: (
            "Histograms of the derivative of log p in β for "
            f"{len(result.diagnostics['energy_histograms']['counts'])} rungs, from β = 0 at the bottom to β = 1."
        ),
        "Energies on every rung. Histograms of neighbours must overlap, or their exchanges fail and their ratio "
        "cannot be estimated: raise --exchange-rate.",
        _has("energy_histograms", "counts"),
    ),
    Panel(
        "overlap",
        "overlap",
        plot_overlap,
        _overlap_alt,
        "MBAR's overlap matrix: the probability that a sample of one rung belongs to another. If neighbours are "
        "below 0.03, the estimate of their ratio is unreliable: raise --exchange-rate.",
        _has("overlap_matrix"),
    ),
    Panel(
        "running",
        "estimate over time",
        plot_running,
        lambda result: (
            f"The estimate of log Z during the run, ending at {estimate(result.log_z, result.std_err)} nats"
            f"{_exact(result)}."
        ),
        "The estimate during the run, with its 95% band. It should settle within the band. If it drifts, the run "
        "is too short: give more --sweeps.",
        _has("running", "log_z"),
    ),
    Panel(
        "repeats",
        "independent estimates",
        plot_repeats,
        _repeats_alt,
        "Independent estimates of the replicates (Figure 10 of the paper), with mean and standard deviation. The "
        "standard error of log Z comes from this spread.",
        lambda result: len(finite(result.repeats)) > 1,
    ),
    Panel(
        "trajectory",
        "along the training",
        plot_trajectory,
        _trajectory_alt,
        "Log Z of the priors along the training, each estimated from the samples of its two neighbouring rungs, "
        "with bars of ± 2 standard errors.",
        _has("trajectory", "log_z"),
    ),
)


def _exact(result: LogZResult) -> str:
    """Return the exact value as a phrase; empty if it is unknown."""
    value = exact_log_z(result)
    return "" if value is None else f"; the exact value is {fixed(value, decimals(result.std_err))}"


# --- log-likelihood -------------------------------------------------------------------------------------------


def _bound_alt(result: LikelihoodResult) -> str:
    curve, digits = result.diagnostics["bound_curve"], decimals(result.std_err_images, result.std_err_log_z)
    (k_0, first), (k_1, last) = (
        (count(round(curve["n_samples"][i])), fixed(curve["log_likelihood"][i], digits)) for i in (0, -1)
    )
    return f"The bound on the log-likelihood, from {first} nats with {k_0} samples to {last} with {k_1}."


def _images_alt(result: LikelihoodResult) -> str:
    values = finite(result.per_image["log_likelihood"])
    return (
        f"Histogram of the log-likelihoods of {count(len(values))} images, "
        f"from {fixed(values.min(), 1)} to {fixed(values.max(), 1)} nats."
    )


def _ess_alt(result: LikelihoodResult) -> str:
    values = finite(result.per_image["ess"])
    return (
        f"Histogram of the effective sample sizes of {count(len(values))} images, median "
        f"{count(round(float(np.median(values))))} of {count(result.n_samples)}."
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
        plot_bound_curve,
        _bound_alt,
        "The bound against the number of samples. If it still rises at the right end, give more --samples; if it "
        "is flat, more samples gain nothing. All points use the same images, so their errors are correlated.",
        _has("bound_curve", "log_likelihood"),
    ),
    Panel(
        "images",
        "images",
        plot_log_likelihoods,
        _images_alt,
        "Log-likelihoods of single images. A long tail to the left contains images that the model fits "
        "badly: look for what they have in common.",
        _has_image_values("log_likelihood"),
    ),
    Panel(
        "ess",
        "effective samples",
        plot_ess,
        _ess_alt,
        "Effective sample sizes of the images. Near 1, a single sample dominates the weights and the bound is "
        "loose: give more --samples.",
        _has_image_values("ess"),
    ),
    Panel(
        "pareto",
        "tails of the weights",
        plot_pareto_k,
        lambda result: (
            f"Histogram of the Pareto k of {count(result.n_images)} images' weights; "
            f"{count(result.n_suspect or 0)} are above the limit."
        ),
        "Pareto k, the tail exponent of an image's weights. Above the limit, rare samples that were not drawn "
        "could dominate: the bound holds, but its gap is uncertain. Give more --samples, or use --method ais.",
        has_tails,
    ),
    Panel(
        "classes",
        "classes",
        plot_classes,
        _classes_alt,
        "Mean log-likelihood of every class of images, with bars of ± 2 standard errors.",
        _has("per_class", "log_likelihood"),
    ),
)
