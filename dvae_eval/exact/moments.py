"""Derivatives of an exact log Z: mean and variance of the energy, means of units and of bonds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvae_core.types import Float, Index


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of p_β(z) ∝ exp(β A(z)), A(z) = Σ_(i,j) J_ij z_i z_j + b'z over {0,1}, exact up to rounding.

    Attributes
    ----------
    log_z : float
        log Z(β), nats.
    mean, variance : float
        Mean and variance of A: the first and second derivative of log Z(β).
    units : float64, shape (n_units,)
        <z_i>.
    pairs : float64, shape (n_bonds,)
        <z_i z_j> for the bonds.
    """

    log_z: float
    mean: float
    variance: float
    units: Float
    pairs: Float


def couplings_of(bonds: Index, couplings: Float, n: int, kept: Index) -> tuple[Float, Index]:
    """Return the couplings of some of n units to all, shape (n_kept, n), and the other units."""
    ends, place = np.concatenate((bonds, bonds[:, ::-1])), np.full(n, -1)
    place[kept] = np.arange(len(kept))
    mine = place[ends[:, 0]] >= 0
    rows = np.zeros((len(kept), n))
    rows[place[ends[mine, 0]], ends[mine, 1]] = np.concatenate((couplings, couplings))[mine]
    return rows, np.flatnonzero(place < 0)


def of_independent(biases: Float, beta: float) -> Moments:
    """Return the moments of isolated units."""
    units = np.exp(-np.logaddexp(0, -beta * biases))
    log_z = math.fsum(np.logaddexp(0, beta * biases))
    variance = float((biases**2 * units * (1 - units)).sum())
    return Moments(log_z, float(biases @ units), variance, units, np.empty(0))


def mixture_of(parts: Sequence[Moments]) -> Moments:
    """Return the moments of the union of disjoint sets of states."""
    logs = np.array([part.log_z for part in parts])
    log_z = float(np.logaddexp.reduce(logs))
    w = np.exp(logs - log_z)
    means = np.array([part.mean for part in parts])
    mean = float(w @ means)
    variance = float(w @ ([part.variance for part in parts] + (means - mean) ** 2))
    units, pairs = (
        sum(x * getattr(p, name) for x, p in zip(w, parts, strict=True)) for name in ("units", "pairs")
    )
    return Moments(log_z, mean, variance, np.asarray(units), np.asarray(pairs))


@dataclass(frozen=True, slots=True)
class WeightedSums:
    """Sums over states of weights divided by e^top, of squares about the mean of A, and of products."""

    top: float
    weight: float
    mean: float
    inner: float
    units: Float
    pairs: Float

    def plus(self, other: WeightedSums) -> WeightedSums:
        """Return the sums over both sets of states (combining moments about means: Chan et al., 1983)."""
        top = max(self.top, other.top)
        mine, theirs = math.exp(self.top - top), math.exp(other.top - top)
        a, b = mine * self.weight, theirs * other.weight
        weight, apart = a + b, other.mean - self.mean
        return WeightedSums(
            top,
            weight,
            self.mean + apart * b / weight,
            mine * self.inner + theirs * other.inner + apart**2 * (a * b / weight),
            mine * self.units + theirs * other.units,
            mine * self.pairs + theirs * other.pairs,
        )
