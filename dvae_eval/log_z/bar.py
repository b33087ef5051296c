"""Ratios of normalisers from samples of neighbours: Bennett's acceptance ratio and stepping stones."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logsumexp

from dvae_core.errors import NumericalError, OverlapError

from ..sampling.replicas import Works
from .work_sums import WorkSums

__all__ = ["Bridge", "bar", "bridge", "bridge_of_sums", "std_err_of_mean", "stepping_stones"]

Float = NDArray[np.float64]
# Less overlap than this cannot be told from none: no estimate would mean anything.
MIN_OVERLAP = 1e-8


def bar(w_f: Float, w_r: Float) -> float:
    """Return Δf = -log(Z_1 / Z_0) in nats by Bennett's acceptance ratio, through pymbar, guarded.

    pymbar answers 0 ± 0 if one work is nan or infinite, and a small or nan error without overlap; both are
    refused here.  It also resets NumPy's error state, which is put back, and gives up on works that are all equal
    and on some of little overlap, of which the root is found here.

    Parameters
    ----------
    w_f : float64, shape (n_f,)
        u_1(x) - u_0(x) for samples of state 0.
    w_r : float64, shape (n_r,)
        u_0(x) - u_1(x) for samples of state 1.

    Raises
    ------
    NumericalError
        If a work is nan or infinite, or there is none.
    OverlapError
        If the two states share no mass.
    """
    if not (w_f.size and w_r.size and np.isfinite(w_f).all() and np.isfinite(w_r).all()):
        raise NumericalError(
            "BAR needs works that are all finite, in both directions; some are nan, infinite or missing"
        )
    guess = 0.5 * (_log_mean_exp(-w_r) - _log_mean_exp(-w_f))
    with np.errstate():
        # Imported here, and its loggers silenced: the import takes long and prints two banners.
        for name in ("pymbar.timeseries", "pymbar.mbar_solvers"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from pymbar import other_estimators, utils

        with np.errstate(all="ignore"):
            try:
                answer = other_estimators.bar(w_f, w_r, DeltaF=guess, compute_uncertainty=False)
                delta_f = float(answer["Delta_f"])
            except (utils.BoundsError, utils.ConvergenceError):
                delta_f = _root(w_f, w_r)
    if not math.isfinite(delta_f) or _overlap(w_f, w_r, delta_f) < MIN_OVERLAP:
        raise OverlapError(
            "two neighbouring distributions share no mass; use more rungs (a higher --exchange-rate)"
        )
    return delta_f


def _root(w_f: Float, w_r: Float) -> float:
    """Return the root C of Σ_f σ(C - M - w_f) = Σ_r σ(M - C - w_r), M = log n_f/n_r; it rises with C."""
    m = math.log(w_f.size / w_r.size)

    def difference(c: float) -> float:
        return float(logsumexp(log_expit(c - m - w_f)) - logsumexp(log_expit(m - c - w_r)))

    ends = [w_f.min() + m, w_f.max() + m, m - w_r.min(), m - w_r.max()]
    # Beyond all works by more than log n, one side has all the weight.
    margin = 10 + math.log(w_f.size) + math.log(w_r.size)
    return float(brentq(difference, min(ends) - margin, max(ends) + margin))


@dataclass(frozen=True, slots=True)
class Bridge:
    """A chain of BAR estimates along a schedule, from samples of several independent replicates.

    Attributes
    ----------
    delta_f : float64, shape (K,)
        log Z_{k+1} - log Z_k (positive where Z grows), from all samples together.
    overlaps : float64, shape (K,)
        1 where neighbours are the same distribution, 0 where they share nothing.
    influence : float64, shape (n_blocks, n_replicates)
        First-order effect of the samples of a block of the run (of an iteration, at the finest) on Σ delta_f:
        an estimate from any part of the samples is the whole one plus the part's mean influence.  Errors,
        halves, repeats and running estimates all follow from it.
    """

    delta_f: Float
    overlaps: Float
    influence: Float

    @property
    def total(self) -> float:
        """Σ_k log Z_{k+1}/Z_k = log Z_1 - log Z_0, nats."""
        return float(self.delta_f.sum())

    @property
    def repeats(self) -> Float:
        """The estimates of the single replicates, shape (n_replicates,)."""
        estimates: Float = self.total + self.influence.mean(0)
        return estimates

    @property
    def std_err(self) -> float:
        """Standard error of `total`, nats: the larger of two that a sound run makes equal.

        One comes from the spread between replicates, and correlation in time does it no harm; the other from that
        between blocks, which has more degrees of freedom: together they are seldom too small by chance.
        """
        return max(std_err_of_mean(self.influence.mean(0)), std_err_of_mean(self.influence.ravel()))

    @property
    def independent_blocks(self) -> float:
        """How many independent blocks a replicate's run is worth: all of them if neighbours do not correlate."""
        between, within = std_err_of_mean(self.influence.mean(0)), std_err_of_mean(self.influence.ravel())
        return (
            len(self.influence) * min(1.0, (within / between) ** 2) if between > 0 else float(len(self.influence))
        )

    def part(self, start: int, stop: int) -> tuple[float, float]:
        """Return (estimate, standard error) from the iterations start..stop alone."""
        means = self.influence[start:stop].mean(0)
        return self.total + float(means.mean()), std_err_of_mean(means)


def std_err_of_mean(values: Float) -> float:
    """Return the standard error of the mean of independent values, nan for fewer than two."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def bridge(works: Works) -> Bridge:
    """Return the BAR estimates between all neighbours, each from the samples of all replicates.

    Raises
    ------
    NumericalError, OverlapError
        See `bar`; the message names the rungs.
    """
    delta_f, overlaps = np.empty(works.forward.shape[2]), np.empty(works.forward.shape[2])
    influence = np.zeros(works.forward.shape[:2])
    for k in range(len(delta_f)):
        w_f, w_r = works.forward[..., k], works.reverse[..., k]
        try:
            step = bar(w_f.ravel(), w_r.ravel())
        except (NumericalError, OverlapError) as error:
            raise type(error)(f"rungs {k} and {k + 1} of the schedule: {error}") from error
        delta_f[k] = -step
        overlaps[k] = _overlap(w_f, w_r, step)
        # BAR's estimating equation is Σ [σ(Δf - w_f) - σ(-Δf - w_r)] = 0; its slope is the overlap / 2.
        influence += (expit(step - w_f) - expit(-step - w_r)) * 2 / overlaps[k]
    return Bridge(delta_f, overlaps, influence)


def bridge_of_sums(sums: WorkSums, start: int = 0) -> Bridge:
    """Return the estimates by Bennett's identity between all neighbours, from the blocks after `start`.

    Raises
    ------
    NumericalError
        If a mean is nan.
    OverlapError
        If two neighbours share no mass at all; the message names the rungs.  Where they share hardly any, the
        overlaps say so.
    """
    forward, reverse = sums.statistic("forward", start), sums.statistic("reverse", start)
    means = forward.mean((0, 1)), reverse.mean((0, 1))
    if not (np.isfinite(means[0]).all() and np.isfinite(means[1]).all()):
        raise NumericalError("BAR needs works that are all finite, in both directions; some are nan")
    if (alone := np.flatnonzero(np.minimum(*means) < np.finfo(float).tiny)).size:
        raise OverlapError(
            f"rungs {alone[0]} and {alone[0] + 1} of the schedule: two neighbouring distributions share no mass; "
            "use more rungs (a higher --exchange-rate)"
        )
    influence: Float = (forward / means[0] - reverse / means[1]).sum(-1)
    # At C = Δf both means are half the overlap, 2 ∫ p_k p_{k+1} / (p_k + p_{k+1}).
    return Bridge(np.log(means[0] / means[1]) - sums.shift, means[0] + means[1], influence)


def _overlap(w_f: Float, w_r: Float, delta_f: float) -> float:
    """Return 2 E_f[σ(1 - σ)] + 2 E_r[σ(1 - σ)]: 1 if the two states are the same, 0 if disjoint."""
    forward, reverse = expit(delta_f - w_f), expit(-delta_f - w_r)
    return float(2 * (forward * (1 - forward)).mean() + 2 * (reverse * (1 - reverse)).mean())


def stepping_stones(works: Works) -> tuple[float, float]:
    """Return log Z_1 - log Z_0 by importance sampling up the schedule and down it, nats.

    The forward estimate tends to be low and the reverse one high: a gap betrays rungs that are too far apart.
    """
    forward = _log_mean_exp(-works.forward, axis=(0, 1)).sum()
    reverse = -_log_mean_exp(-works.reverse, axis=(0, 1)).sum()
    return float(forward), float(reverse)


def _log_mean_exp(values: Float, axis: tuple[int, ...] | None = None) -> Float:
    """Return log mean exp over `axis`."""
    count = values.size if axis is None else math.prod(values.shape[a] for a in axis)
    result: Float = logsumexp(values, axis=axis) - math.log(count)
    return result
