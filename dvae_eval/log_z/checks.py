"""Checks of log Z: each has a number, its limit, and what to do if the limit is not kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dvae_core.types import Float

from ..verdict import Check
from .bar import CROOKS_SHIFT, Bridge, WorkSums

# Probability that a sound run fails one of the checks on differences.
FALSE_ALARM = 1e-4
# Annealing adds up many small differences in float32: a gap of this many nats is rounding.
LEAST_GAP = 1e-5
FEWEST_TRIPS, FEWEST_BLOCKS = 2.0, 6.0
# Nats of quadrature error above which the energy jumps between two rungs; a heuristic, see `check_abrupt`.
ABRUPT = 0.3
MORE = "use more --sweeps, or a smaller --precision"


def student_limit(n_independent: int, n_checks: int = 1, alarm: float = FALSE_ALARM) -> float:
    """Return the number of standard errors that a sound difference exceeds with probability `alarm` (Student's t).

    With `n_checks` such differences, `alarm` is the probability that any of them exceeds it (Bonferroni).
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
        Index of the first block after burn-in.
    bar : Bridge
        The estimate from the blocks from `start` on.
    round_trips : int64, shape (n_replicates,)
        Completed round trips of the replicas.
    limit : float
        Limit of a difference, in standard errors.
    n_given : int
        Number of replicates, the last ones, that started from given states; see `check_given_starts`.
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
    """Return the remedy for a count that grows with the length of the run."""
    if seen >= needed:
        return MORE
    if not seen:
        return f"none so far, so the number of sweeps needed cannot be predicted; {MORE}"
    return f"at this rate the run needs at least {round(needed / seen, 1):g} times as many sweeps; {MORE}"


UNMIXED = (
    "tempering from random states does not reach or does not leave some basin, so the true value may be that of "
    "either start, or neither"
)
ORDERED = f"{UNMIXED}; {MORE}"


def check_given_starts(bar: Bridge, n_given: int, n_comparisons: int = 1) -> Check:
    """Return the check that replicates from given states, the last `n_given`, agree with both other groups.

    In a sound run the replicates have forgotten their starts, so all have one variance, estimated within the three
    groups.  A difference in units of its standard error then has Student's t distribution with n_replicates - 3
    degrees of freedom.  The larger of the two differences is compared with the limit for two checks.
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
    """Return the values of replicates that started at random, in basins, and from given states.

    The given ones are the last `n_given`; the others are split in halves, the random ones first.
    """
    n_others = len(replicates) - n_given
    random, ordered, given = np.split(replicates, [n_others - n_others // 2, n_others])
    return random, ordered, given


GIVEN = (
    "replicates have not forgotten their starts: known states make log Z too high, other starts too low, and the "
    f"true value may be that of either, or neither; {MORE}"
)


def check_lower_bound(log_z: float, std_err: float, bound: float, limit: float) -> Check:
    """Return the check that log Z is not below a strict bound, in standard errors."""
    remedy = (
        "the replicas missed some basins or give them too little weight: log Z is at least "
        f"{bound:.4f}, possibly more; {MORE}"
    )
    return _not_below("log Z falls below a strict bound, in standard errors", log_z, std_err, bound, limit, remedy)


def check_mean_of_repeats(log_z: float, std_err: float, bound: float, limit: float) -> Check:
    """Return the check of the repeats' mean against the best of their strict bounds."""
    check = check_lower_bound(log_z, std_err, bound, limit)
    return replace(check, name="the mean of the repeats falls below a strict bound, in standard errors")


def check_known_states(log_z: float, std_err: float, weight: float, limit: float) -> Check:
    """Return the check that log Z is not below the weight of distinct states of the run, in standard errors."""
    name = "log Z falls below the weight of the states seen, in standard errors"
    remedy = f"the replicas spend too little time in them: log Z is at least {weight:.4f}; {MORE}"
    return _not_below(name, log_z, std_err, weight, limit, remedy)


def check_abrupt(quadrature_error: float, independent_blocks: float) -> Check:
    """Return the check that a run is long enough where the energy changes abruptly between two rungs.

    A heuristic.  The quadrature error of thermodynamic integration, in nats, is large where a transition lies
    within a step.  BAR is still right there, but exchanges may stay within one phase for long, and its standard
    error comes out too small.  On machines with known answers, right and wrong estimates have equally large
    quadrature errors, from 0.3 nats to 10^5, but the right ones have far more independent blocks.  Such a run must
    therefore have twice the usual number.
    """
    needed = 2 * FEWEST_BLOCKS if quadrature_error > ABRUPT else 0.0
    remedy = (
        f"the energy changes abruptly between two rungs (quadrature error {quadrature_error:.2g} nats); use a "
        f"higher --exchange-rate, or another --reference; {MORE}"
    )
    return _at_least("independent blocks where the energy changes abruptly", independent_blocks, needed, remedy)


def check_renewal(share: float, promised: float) -> Check:
    """Return the check that states at β = 1 come from the reference as often as the round trips imply."""
    name = "share of the states at β = 1 that never came from the reference since the burn-in"
    return _at_most(name, share, promised, f"some replicas stay in a basin while others make round trips; {MORE}")


def check_exact(log_z: float, std_err: float, exact: float, limit: float) -> Check:
    """Return the check against the exact value, in standard errors."""
    distance = abs(log_z - exact) / max(std_err, 1e-12)
    return _at_most("distance from the exact value, in standard errors", distance, limit, MORE)


def check_weights(way: str, ess: float) -> Check:
    """Return the check that enough annealed chains carry weight."""
    return _at_least(f"effective chains of the {way} annealing", ess, 20.0, LONGER)


def check_gap(gap: float, std_err: float, limit: float) -> Check:
    """Return the check that forward and reverse annealing agree, in standard errors."""
    distance = abs(gap) / max(std_err, LEAST_GAP)
    return _at_most("annealing forward and back differ, in standard errors", distance, limit, LONGER)


def check_inside(log_z: float, lower: float, upper: float) -> Check:
    """Return the check that log Z lies between the stochastic bounds of annealing, in nats outside of them."""
    outside = max(0.0, lower - log_z, log_z - upper)
    remedy = f"the samples of the machine miss a part of it, or the run is too short; {MORE}"
    return _at_most("log Z lies outside the bounds of annealing, nats", outside, 0.0, remedy)


LONGER = "use more --sweeps (steps of annealing) or --chains"


def check_replicates(n: int, fewest: int) -> Check:
    """Return the check that the time limit allowed enough replicates for an error bar."""
    return _at_least("replicates within the time limit", float(n), float(fewest), "use a longer --time-limit")


def check_other_run(distance: float, limit: float) -> Check:
    """Return the check that a run from the modes agrees with one from the uniform reference."""
    name = "difference from the run from the uniform reference, in standard errors"
    return _at_most(name, abs(distance), limit, "the mixture may lack a mode of the machine; " + MORE)


def check_repeats(estimates: Float, std_errs: Float, n_independent: int) -> Check:
    """Return the check that independent estimates spread as their standard errors claim.

    The ratio of variances has roughly an F distribution: every claimed error has n_independent - 1 degrees of
    freedom.
    """
    n = len(estimates)
    ratio = math.sqrt(float(estimates.var(ddof=1)) / max(float((std_errs**2).mean()), 1e-300))
    limit = math.sqrt(float(stats.f.ppf(1 - FALSE_ALARM, n - 1, (n_independent - 1) * n)))
    return _at_most("spread of the repeats over their claimed error", ratio, limit, MORE)


def _halves(bar: Bridge) -> float:
    """Return the difference between the halves of the run, in units of its standard error over replicates."""
    n = len(bar.influence)
    difference = bar.influence[: n // 2].mean(0) - bar.influence[n - n // 2 :].mean(0)
    return _standardised(difference) if n > 1 else 0.0


def _starts(bar: Bridge, n_given: int) -> float:
    """Return the difference between replicates that started at random and in basins, in standard errors."""
    random, ordered, _ = groups_of_starts(bar.influence.mean(0), n_given)
    if len(ordered) < 2:
        return 0.0
    error = math.sqrt(float(random.var(ddof=1)) / len(random) + float(ordered.var(ddof=1)) / len(ordered))
    return abs(float(random.mean() - ordered.mean())) / max(error, 1e-12)


def _crooks(sums: WorkSums, start: int, bar: Bridge) -> float:
    """Return the deviation of neighbours from Crooks' theorem, p_f(w) = p_r(-w) exp(w - Δf), in jackknife errors.

    For every C, exp(-Δf) = exp(-C) E_f[σ(C - w_f)] / E_r[σ(-C - w_r)] (Bennett, 1976, Eq. 7), if both neighbours
    are in equilibrium where they overlap.  Its values at C = Δf ± CROOKS_SHIFT are compared, summed over the
    schedule.  Larger shifts approach the stepping stones, whose tails no run samples where a mode vanishes along
    the schedule.
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
