"""Effective inverse temperature of reads, by maximum pseudo-likelihood and by their mean energy.

For reads of p_β both estimate the same β.  The mean energy gives the maximum of the likelihood; pseudo-likelihood
maximises Π_i p_β(x_i | others) (Besag, 1975), which needs neither log Z nor samples of the machine.  Errors come
from the spread of the reads (the sandwich formula), so that they also hold for reads of other distributions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit

from dvae_core.types import Float

from ..machine import Machine
from .law import Law
from .reads import Reads

STEPS = 100


@dataclass(frozen=True, slots=True)
class Beta:
    """An estimate of β.

    Attributes
    ----------
    value, std_err : float
        `value` is infinite and `std_err` nan if no finite β fits the reads.
    influence : float64, shape (n_rows,)
        Change of the estimate per weight of a read; its mean over the reads is zero.
    own_error : float
        The part of the error that comes from the machine's moments.
    n : float
        Effective number of reads.
    """

    value: float
    std_err: float
    influence: Float
    own_error: float
    n: float

    @property
    def ci95(self) -> list[float]:
        """95% confidence interval by Student's t."""
        half = float(stats.t.ppf(0.975, max(self.n - 1, 1.0))) * self.std_err
        return [self.value - half, self.value + half]


def _no_beta(reads: Reads, value: float) -> Beta:
    return Beta(value, math.nan, np.zeros(len(reads.w)), 0.0, reads.n_effective)


def by_pseudo_likelihood(reads: Reads, machine: Machine) -> Beta:
    """Return argmax_β Σ_n w_n Σ_i log σ(β s_i f_i), s_i = ±1, f_i the field of unit i; concave in β."""
    t = (2.0 * reads.x - 1) * reads.fields(machine)
    if (t >= 0).all() or (t <= 0).all():
        return _no_beta(reads, math.inf if t.any() and (t >= 0).all() else -math.inf if t.any() else math.nan)
    beta = _root(reads, t)
    score, curvature = _score(t, beta)
    influence = score / reads.mean(curvature)
    return Beta(beta, reads.std_err(influence), influence, 0.0, reads.n_effective)


def _score(t: Float, beta: float) -> tuple[Float, Float]:
    """Return the derivative of every read's log-pseudo-likelihood, and minus the second derivative."""
    p = expit(-beta * t)
    return (t * p).sum(1), (t**2 * p * (1 - p)).sum(1)


def _root(reads: Reads, t: Float) -> float:
    """Return the root of the score by Newton's steps, each within the interval that contains the root."""
    beta, low, high = 0.0, -math.inf, math.inf
    reach = 1 / float(np.abs(t).max())
    for _ in range(STEPS):
        score, curvature = (float(reads.mean(values)) for values in _score(t, beta))
        low, high = (beta, high) if score > 0 else (low, beta)
        step = score / curvature if curvature > 0 else math.copysign(reach, score)
        if abs(step) <= 1e-12 * max(abs(beta), reach):
            return beta
        limit = max(2 * abs(beta), reach)
        new = beta + max(-limit, min(limit, step))
        beta = new if low < new < high else (low + high) / 2
    return beta


def by_energy(reads: Reads, law: Law, start: float) -> Beta:
    """Return the β at which the machine's mean energy equals that of the reads."""
    mean = float(reads.mean(reads.a))
    beta, variance, error = law.solve(mean, start if math.isfinite(start) else 1.0)
    if not (math.isfinite(beta) and variance > 0):
        return _no_beta(reads, beta)
    influence = (reads.a - mean) / variance
    own = error / variance
    return Beta(beta, math.hypot(reads.std_err(influence), own), influence, own, reads.n_effective)


def difference(reads: Reads, one: Beta, other: Beta) -> float:
    """Return the difference of two estimates from the same reads, in standard errors; infinite if one is missing.

    Influences are of first order in the reads' noise.  If those of both are nearly equal, as for a machine with
    deep basins, the difference comes from terms of second order, which have the size of the squared errors.
    """
    apart = one.value - other.value
    error = math.hypot(reads.std_err(one.influence - other.influence), one.own_error, other.own_error)
    if not (math.isfinite(apart) and error > 0):
        return math.inf
    second_order = max(one.std_err, other.std_err) ** 2 / max(abs(one.value), abs(other.value))
    return apart / math.hypot(error, second_order)


def spread_of_energies(reads: Reads, variance: float, its_error: float) -> float:
    """Return the difference of the reads' variance of A from the machine's at β by energy, in standard errors.

    The machine's variance changes with β, and β with the reads' mean: dVar/dβ is the third central moment.
    """
    deviation = reads.a - reads.mean(reads.a)
    own = float(reads.mean(deviation**2))
    if own <= 0:
        return math.inf if variance > 0 else 0.0
    skew = float(reads.mean(deviation**3))
    influence = deviation**2 - own - skew / own * deviation
    # If the reads' variance is too small, its standard error is too; the machine's variance then sets the scale.
    error = math.hypot(reads.std_err(influence) * max(1.0, variance / own), its_error)
    corrected = own * reads.n_effective / (reads.n_effective - 1)
    return (corrected - variance) / error if error > 0 else math.inf
