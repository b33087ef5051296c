"""Checks that can fail: every one a number, its limit, and what to do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..verdict import Check
from .bar import CROOKS_SHIFT, Bridge, WorkSums

Float = NDArray[np.float64]
# Probability that a sound run fails one of the checks on differences.
FALSE_ALARM = 1e-4
# Annealing adds up many small differences in float32: a gap of so many nats is nothing.
LEAST_GAP = 1e-5
FEWEST_TRIPS, FEWEST_BLOCKS = 2.0, 6.0
# Nats of quadrature error beyond which the energy jumps between two rungs; a heuristic, see `check_abrupt`.
ABRUPT = 0.3
MORE = "use more --sweeps, or a smaller --precision"


def student_limit(n_independent: int, n_checks: int = 1, alarm: float = FALSE_ALARM) -> float:
    """Return how many standard errors a sound difference exceeds with probability `alarm` (Student's t).

    With `n_checks` such differences, the probability holds for all of them together.
    """
    return float(stats.t.ppf(1 - alarm / 2 / n_checks, n_independent - 1))


def check_bridge(
    sums: WorkSums, start: int, bar: Bridge, round_trips: NDArray[np.int64], limit: float, n_given: int = 0
) -> list[Check]:
    """Return the checks of one run by parallel tempering and BAR.

    Parameters
    ----------
    sums : WorkSums
    start : int
        The first block that is no burn-in.
    bar : Bridge
        The estimate, from the blocks after `start`.
    round_trips : int64, shape (n_replicates,)
        Completed trips of replicas from the cold end to the hot one.
    limit : float
        Most standard errors that a difference may have.
    n_given : int
        Replicates that started from given states, the last ones: `check_given_starts` is theirs.
    """
    rates = sums.statistic("exchange", start).mean((0, 1))
    trips, blocks = float(np.mean(round_trips)), bar.independent_blocks
    return [
        _at_least("lowest exchange rate", float(rates.min()), 0.15, "use a higher --exchange-rate"),
        _at_least("lowest overlap of neighbours", float(bar.overlaps.min()), 0.05, "use a higher --exchange-rate"),
        _at_least("round trips per replicate", trips, FEWEST_TRIPS, longer(trips, FEWEST_TRIPS)),
        _at_least("independent blocks per replicate", blocks, FEWEST_BLOCKS, longer(blocks, FEWEST_BLOCKS)),
        _at_most("halves of the run differ, in standard errors", _halves(bar), limit, MORE),
        _at_most("neighbours disagree on their ratio, in standard errors", _crooks(sums, start, bar), limit, MORE),
        _at_most("random and ordered starts differ, in standard errors", _starts(bar, n_given), limit, ORDERED),
    ]


def longer(seen: float, needed: float) -> str:
    """Return the remedy where a count that grows with the length of the run may be too small."""
    if seen >= needed:
        return MORE
    if not seen:
        return f"none so far: how many sweeps it takes cannot be foretold; {MORE}"
    return f"at this pace it takes {round(needed / seen, 1):g} times as many sweeps, or more; {MORE}"


ORDERED = (
    "there is a basin that tempering from random states does not reach, or does not leave: the true value may be "
    f"that of either start, or neither; {MORE}"
)


def check_given_starts(bar: Bridge, n_given: int, n_comparisons: int = 1) -> Check:
    """Return the check that replicates from given states, the last `n_given`, agree with both other kinds.

    A sound run has forgotten where its replicates began, so that all have one variance, estimated within the three
    groups: a difference in units of its standard error has Student's t distribution with n_replicates - 3 degrees
    of freedom.  The larger of both differences is compared with the limit of two checks.
    """
    means = bar.influence.mean(0)
    random, ordered, given = groups = groups_of_starts(means, n_given)
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (len(means) - 3)
    distances = [
        abs(float(given.mean() - other.mean()))
        / max(math.sqrt(variance * (1 / len(given) + 1 / len(other))), 1e-12)
        for other in (random, ordered)
    ]
    limit = student_limit(len(means) - 2, 2 * n_comparisons)
    return _at_most("given and other starts differ, in standard errors", max(distances), limit, GIVEN)


def groups_of_starts(replicates: Float, n_given: int) -> tuple[Float, Float, Float]:
    """Return the values of replicates that started at random, in basins, as many, and from given states.

    The last `n_given` are the given ones.
    """
    n_others = len(replicates) - n_given
    random, ordered, given = np.split(replicates, [n_others - n_others // 2, n_others])
    return random, ordered, given


GIVEN = (
    "replicates have not forgotten where they began: from states that are known log Z comes out too high, from "
    f"others too low, and the true value may be that of either, or neither; {MORE}"
)


def check_lower_bound(log_z: float, std_err: float, bound: float, limit: float) -> Check:
    """Return the check against a bound that log Z cannot be below (all basins known), in standard errors."""
    remedy = (
        "there are basins that the replicas missed, or hold for lighter than they are: log Z is surely at least "
        f"{bound:.4f}, and may be more"
    )
    return _not_below("log Z falls below a strict bound, in standard errors", log_z, std_err, bound, limit, remedy)


def check_mean_of_repeats(log_z: float, std_err: float, bound: float, limit: float) -> Check:
    """Return the check of the repeats' mean against the best of their bounds."""
    check = check_lower_bound(log_z, std_err, bound, limit)
    return replace(check, name="the mean of the repeats falls below a strict bound, in standard errors")


def check_known_states(log_z: float, std_err: float, weight: float, limit: float) -> Check:
    """Return the check that distinct states of the run do not weigh more than all states, in standard errors."""
    name = "log Z falls below the weight of the states seen, in standard errors"
    remedy = f"replicas give them too little of their time: log Z is surely at least {weight:.4f}; {MORE}"
    return _not_below(name, log_z, std_err, weight, limit, remedy)


def check_abrupt(quadrature_error: float, independent_blocks: float) -> Check:
    """Return the check that a run is long enough where the energy changes abruptly between two rungs.

    A heuristic.  The error of thermodynamic integration's quadrature, nats, is large where a transition lies
    within a step; BAR is right there, too, but exchanges can go on within one phase for long, and its error comes
    out too small.  Of machines with known answers, right ones have as large quadrature errors as wrong ones, from
    0.3 nats to 10^5, but far more independent blocks: such a run must have twice as many as others.
    """
    needed = 2 * FEWEST_BLOCKS if quadrature_error > ABRUPT else 0.0
    remedy = (
        f"the energy changes abruptly between two rungs (quadrature error {quadrature_error:.2g} nats); use a "
        f"higher --exchange-rate, or another --reference; {MORE}"
    )
    return _at_least("independent blocks where the energy changes abruptly", independent_blocks, needed, remedy)


def check_renewal(share: float, promised: float) -> Check:
    """Return the check that states at β = 1 come from the reference as often as the round trips promise."""
    name = "share of the states at β = 1 that never came from the reference since the burn-in"
    return _at_most(name, share, promised, f"some replicas sit in a basin while others make round trips; {MORE}")


def check_exact(log_z: float, std_err: float, exact: float, limit: float) -> Check:
    """Return the check against the exact value, in standard errors."""
    distance = abs(log_z - exact) / max(std_err, 1e-12)
    return _at_most("distance from the exact value, in standard errors", distance, limit, MORE)


def check_weights(way: str, ess: float) -> Check:
    """Return the check that enough annealed chains carry the weight."""
    return _at_least(f"effective chains of the {way} annealing", ess, 20.0, LONGER)


def check_gap(gap: float, std_err: float, limit: float) -> Check:
    """Return the check that annealing forward and back agree, in standard errors."""
    distance = abs(gap) / max(std_err, LEAST_GAP)
    return _at_most("annealing forward and back differ, in standard errors", distance, limit, LONGER)


def check_inside(log_z: float, lower: float, upper: float) -> Check:
    """Return the check that log Z lies between stochastic bounds, in nats beyond the nearer one."""
    outside = max(0.0, lower - log_z, log_z - upper)
    remedy = f"the samples of the machine miss a part of it, or the run is too short; {MORE}"
    return _at_most("log Z lies outside the bounds of annealing, nats", outside, 0.0, remedy)


LONGER = "use more --sweeps (steps of annealing) or --chains"


def check_replicates(n: int, fewest: int) -> Check:
    """Return the check that a time limit left enough replicates for an error bar."""
    return _at_least("replicates within the time limit", float(n), float(fewest), "use a longer --time-limit")


def check_other_run(distance: float, limit: float) -> Check:
    """Return the check that a run from the modes agrees with one from the uniform reference."""
    name = "difference from the run from the uniform reference, in standard errors"
    return _at_most(name, abs(distance), limit, "there may be a basin that the modes lack; " + MORE)


def check_repeats(estimates: Float, std_errs: Float, n_independent: int) -> Check:
    """Return the check that independent estimates are spread as their standard errors claim.

    The ratio of variances has roughly an F distribution, every claimed error having n_independent - 1 degrees of
    freedom.
    """
    n = len(estimates)
    ratio = math.sqrt(float(estimates.var(ddof=1)) / max(float((std_errs**2).mean()), 1e-300))
    limit = math.sqrt(float(stats.f.ppf(1 - FALSE_ALARM, n - 1, (n_independent - 1) * n)))
    return _at_most("spread of the repeats over their claimed error", ratio, limit, MORE)


def _halves(bar: Bridge) -> float:
    """Return the difference of the two halves of the run, in units of its standard error over replicates."""
    n = len(bar.influence)
    difference = bar.influence[: n // 2].mean(0) - bar.influence[n - n // 2 :].mean(0)
    return _standardised(difference) if n > 1 else 0.0


def _starts(bar: Bridge, n_given: int) -> float:
    """Return the difference between replicates that started at random and in basins."""
    random, ordered, _ = groups_of_starts(bar.influence.mean(0), n_given)
    if len(ordered) < 2:
        return 0.0
    error = math.sqrt(float(random.var(ddof=1)) / len(random) + float(ordered.var(ddof=1)) / len(ordered))
    return abs(float(random.mean() - ordered.mean())) / max(error, 1e-12)


def _crooks(sums: WorkSums, start: int, bar: Bridge) -> float:
    """Return how far neighbours are from Crooks' theorem, p_f(w) = p_r(-w) exp(w - Δf), in jackknife errors.

    For every C, exp(-Δf) = exp(-C) E_f[σ(C - w_f)] / E_r[σ(-C - w_r)] (Bennett, 1976, Eq. 7), if both neighbours
    are in equilibrium where they overlap.  Compared are C = Δf ± CROOKS_SHIFT, summed over the schedule.  Far
    shifts would give the stepping stones, whose tails no run samples where a mode dies out along the schedule.
    """
    n_replicates, n_steps = bar.influence.shape[1], len(bar.delta_f)
    high, low = (
        [sums.statistic(f"{side}_{shift}", start).mean(0) for side in ("forward", "reverse")]
        for shift in ("high", "low")
    )

    def gap(kept: NDArray[np.intp]) -> float:
        up, down = (np.log(f[kept].mean(0) / r[kept].mean(0)).sum() for f, r in (high, low))
        return float(up - down - 2 * CROOKS_SHIFT * n_steps)

    everyone = np.arange(n_replicates)
    left_out = np.array([gap(np.delete(everyone, i)) for i in everyone])
    error = math.sqrt((n_replicates - 1) * float(left_out.var()))
    return abs(gap(everyone)) / max(error, 1e-12)


def _standardised(differences: Float) -> float:
    """Return |mean| in units of its standard error."""
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return abs(float(differences.mean())) / max(error, 1e-12)


def _not_below(name: str, log_z: float, std_err: float, bound: float, limit: float, remedy: str) -> Check:
    return _at_most(name, max(0.0, (bound - log_z) / max(std_err, 1e-12)), limit, remedy)


def _at_least(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check.at_least(name, value, threshold, remedy)


def _at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check.at_most(name, value, threshold, remedy)
