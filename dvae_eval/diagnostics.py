"""Checks that can fail: every one a number, its limit, and what to do."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from .bridge import Bridge
from .results import Check
from .tempering import Works

__all__ = ["check_log_z", "student_limit"]

Float = NDArray[np.float64]
# Probability that a sound run fails one of the checks on differences.
FALSE_ALARM = 1e-4
CROOKS_SHIFT = 2.0  # nats


def student_limit(n_repeats: int) -> float:
    """Return how many standard errors a sound difference exceeds with probability FALSE_ALARM (Student's t)."""
    return float(stats.t.ppf(1 - FALSE_ALARM / 2, n_repeats - 1))


def check_log_z(
    works: Works, bar: Bridge, round_trips: list[int], log_z_0: float, exact: float | None
) -> list[Check]:
    """Return the checks of an estimate by parallel tempering and BAR.

    Parameters
    ----------
    works : Works
        Of the kept iterations.
    bar : Bridge
        The estimate.
    round_trips : list of int
        Completed trips of replicas from the cold end to the hot one, a ladder.
    log_z_0 : float
        log Z at β = 0.
    exact : float or None
        The exact log Z, where it is known.
    """
    n_iterations, n_ladders = bar.influence.shape
    limit = student_limit(n_ladders)
    more = "use more --sweeps"
    checks = [
        _at_least("lowest exchange rate", float(works.exchange_rates.min()), 0.15, "use a higher --exchange-rate"),
        _at_least("lowest overlap of neighbours", float(bar.overlaps.min()), 0.05, "use a higher --exchange-rate"),
        _at_least("round trips per ladder", float(np.mean(round_trips)), 2.0, more),
        _at_most("halves of the run differ, in standard errors", _halves(bar, n_iterations), limit, more),
        _at_most("neighbours disagree on their ratio, in standard errors", _crooks(works, bar), limit, more),
    ]
    if exact is not None:
        distance = abs(log_z_0 + bar.total - exact) / max(bar.std_err, 1e-12)
        checks.append(_at_most("distance from the exact value, in standard errors", distance, limit, more))
    return checks


def _halves(bar: Bridge, n: int) -> float:
    """Return the difference of the two halves of the run, in units of its standard error over ladders."""
    difference = bar.influence[: n // 2].mean(0) - bar.influence[n // 2 :].mean(0)
    return _standardised(difference)


def _crooks(works: Works, bar: Bridge) -> float:
    """Return how far neighbours are from Crooks' theorem, p_f(w) = p_r(-w) exp(w - Δf), in jackknife errors.

    For every C, exp(-Δf) = exp(-C) E_f[σ(C - w_f)] / E_r[σ(-C - w_r)] (Bennett, 1976, Eq. 7), if both neighbours
    are in equilibrium where they overlap.  Compared are C = Δf ± CROOKS_SHIFT, summed over the ladder.  Far
    shifts would give the stepping stones, whose tails no run samples where a mode dies out along the ladder.
    """
    n_ladders = works.forward.shape[1]
    means = []
    for shift in (CROOKS_SHIFT, -CROOKS_SHIFT):
        c = shift - bar.delta_f
        means.append((expit(c - works.forward).mean(0), expit(-c - works.reverse).mean(0)))

    def gap(kept: NDArray[np.intp]) -> float:
        estimates = [np.log(forward[kept].mean(0) / reverse[kept].mean(0)).sum() for forward, reverse in means]
        return float(estimates[0] - estimates[1] - 2 * CROOKS_SHIFT * len(bar.delta_f))

    everyone = np.arange(n_ladders)
    left_out = np.array([gap(np.delete(everyone, i)) for i in everyone])
    error = math.sqrt((n_ladders - 1) * float(left_out.var()))
    return abs(gap(everyone)) / max(error, 1e-12)


def _standardised(differences: Float) -> float:
    """Return |mean| in units of its standard error."""
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return abs(float(differences.mean())) / max(error, 1e-12)


def _at_least(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check(name, value, threshold, value >= threshold, remedy)


def _at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check(name, value, threshold, value <= threshold, remedy)
