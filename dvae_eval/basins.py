"""Deep basins of a Boltzmann machine: mean-field modes, from which ladders start that must agree with the others.

Tempering from random states is blind to a basin so narrow that no replica falls into it; the diagnostics of the
run itself look perfect then.  A start inside the basin reveals it, and so does a bound: whatever the means m,

    log Z >= m'Jm / 2 + b'm + H(m)        (mean field: Gibbs' inequality for independent units of means m).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit

from dvae_core.rng import numpy_generator

from .machine import Reduced

__all__ = ["Basins", "find_basins"]

Float = NDArray[np.float64]
N_RANDOM = 64
N_SINGLE_UNITS = 256
N_SINGULAR = 8
ITERATIONS = 60
# Candidates whose means all agree to this are one mode.
SAME = 0.05


@dataclass(frozen=True, slots=True)
class Basins:
    """Mean-field modes, the best bound first.

    Attributes
    ----------
    means : float64, shape (n_basins, n_kept)
        Means of the kept units.
    bounds : float64, shape (n_basins,)
        Lower bounds of log Z, nats.
    """

    means: Float
    bounds: Float

    def draw(self, n_ladders: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
        """Return states (n_ladders, n_rungs, n_kept): the basins in turn, the best one for every other ladder."""
        rng = numpy_generator(seed, "log_z", 1)
        which = np.where(np.arange(n_ladders) % 2 == 0, 0, (np.arange(n_ladders) // 2 + 1) % len(self.means))
        means = self.means[which][:, None]
        return (rng.random((n_ladders, n_rungs, means.shape[-1])) < means).astype(np.uint8)


def find_basins(reduced: Reduced, seed: int, max_basins: int = 16) -> Basins:
    """Return the best modes that mean-field iterations find from many starts.

    Starts are random means, all units on or off, single summed-out units on, and the signs of the couplings'
    leading singular vectors: a basin around a planted pattern is wide for at least one of them.

    Parameters
    ----------
    reduced : Reduced
    seed : int
        Fixes the random starts.
    max_basins : int
        Most modes that are returned.
    """
    h = np.concatenate((_starts(reduced, seed), _random_starts(reduced, seed)))
    v = expit(reduced.b + h @ reduced.W.T)
    for _ in range(ITERATIONS):
        h = expit(reduced.c + v @ reduced.W)
        v = _update(reduced, v, h)
    bounds = _bounds(reduced, v)
    order = _distinct(v, np.argsort(-bounds, kind="stable"), max_basins)
    return Basins(v[order], bounds[order])


def _starts(reduced: Reduced, seed: int) -> Float:
    """Return the means of the summed-out units from which the search starts, (n, n_summed): ordered ones."""
    n = len(reduced.c)
    ordered = [np.zeros((1, n)), np.ones((1, n))]
    chosen = np.sort(numpy_generator(seed, "log_z", 2).permutation(n)[:N_SINGLE_UNITS])
    ordered += [np.eye(n)[chosen], 1 - np.eye(n)[chosen]]
    if min(reduced.W.shape) > 1:
        # Signs of patterns, in the ±1 picture, where units without a bias of their own are balanced.
        _, _, vt = np.linalg.svd(reduced.W, full_matrices=False)
        signs = (vt[:N_SINGULAR] > 0).astype(np.float64)
        ordered += [signs, 1 - signs]
    return np.concatenate(ordered)


def _random_starts(reduced: Reduced, seed: int) -> Float:
    """Return random states of the summed-out units, sparse to dense."""
    rng = numpy_generator(seed, "log_z", 3)
    density = rng.random((N_RANDOM, 1))
    return (rng.random((N_RANDOM, len(reduced.c))) < density).astype(np.float64)


def _update(reduced: Reduced, v: Float, h: Float) -> Float:
    """Return the kept units' means given all others', class by class."""
    field = reduced.b + h @ reduced.W.T
    if reduced.J is None:
        means: Float = expit(field)
        return means
    v = v.copy()
    for block in reduced.blocks:
        v[:, block] = expit(field[:, block] + v @ reduced.J[:, block])
    return v


def _bounds(reduced: Reduced, v: Float) -> Float:
    """Return b'm + m'Jm / 2 + H(m) + Σ_j log(1 + exp(c_j + (W'm)_j)) for means m of v, shape (n,).

    The best means of the summed-out units given m are the logistic functions of the fields; their energy and
    entropy add up to the softplus.
    """
    energy = v @ reduced.b
    if reduced.J is not None:
        energy += (v @ reduced.J * v).sum(1) / 2
    bounds: Float = energy + (entr(v) + entr(1 - v)).sum(1) + np.logaddexp(0, v @ reduced.W + reduced.c).sum(1)
    return bounds


def _distinct(v: Float, order: NDArray[np.intp], most: int) -> list[int]:
    """Return the indices of `order` that differ from all before, at most `most`."""
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) < most and all(np.abs(v[i] - v[j]).max() > SAME for j in kept):
            kept.append(i)
    return kept
