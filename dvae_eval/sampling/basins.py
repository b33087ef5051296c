"""Deep basins of a Boltzmann machine: mean-field modes, where some replicates start.

Tempering from random states is blind to a basin so narrow that no replica falls into it; the diagnostics of the
run itself look perfect then.  A start inside the basin reveals it, and so does a bound: whatever the means m,

    log Z >= m'Jm / 2 + b'm + H(m)        (mean field: Gibbs' inequality for independent units of means m).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from scipy.special import entr, expit

from dvae_core.rng import numpy_generator

from ..machine import Reduced

__all__ = ["Basins", "find_basins"]

Float = NDArray[np.float64]
N_RANDOM = 64
N_SINGLE_UNITS = 256
N_SINGULAR = 8
# Above so many units on the smaller side, the few singular vectors are found by iteration.
MOST_FULL = 600
# Products of a coupling and a mean that the search may take, of all starts together; it drops starts beyond.
WORK, FEWEST = 5e10, 16
# Couplings of which fewer are not zero are multiplied as a sparse matrix.
SPARSE_FILL = 0.05
ITERATIONS = 60
# Modes of which every unit is turned over, all together, and iterations after which most have turned back.
N_TURNED, FIRST = 1024, 10
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

    def draw(self, n_replicates: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
        """Return states (n_replicates, n_rungs, n_kept): the basins in turn, the best one for every second one."""
        rng = numpy_generator(seed, "log_z", 1)
        which = np.where(np.arange(n_replicates) % 2 == 0, 0, (np.arange(n_replicates) // 2 + 1) % len(self.means))
        means = self.means[which][:, None]
        return (rng.random((n_replicates, n_rungs, means.shape[-1])) < means).astype(np.uint8)


def find_basins(reduced: Reduced, seed: int, max_basins: int = 16) -> Basins:
    """Return the best modes that mean-field iterations find from many starts.

    Starts are random means, all units on or off, single summed-out units on, and the signs of the couplings'
    leading singular vectors: a basin around a planted pattern is wide for at least one of them.  A second search
    starts from the modes of the first with single units turned over: a pattern that one unit knows of many others
    is found so, however steep it is, and whichever states are called on.

    Parameters
    ----------
    reduced : Reduced
    seed : int
        Fixes the random starts.
    max_basins : int
        Most modes that are returned.
    """
    h = _few(np.concatenate((_starts(reduced, seed), _random_starts(reduced, seed))), reduced)
    n_couplings = np.count_nonzero(reduced.W)
    W = csr_array(reduced.W) if n_couplings < SPARSE_FILL * reduced.W.size else reduced.W
    v = _settled(reduced, W, expit(reduced.b + h @ W.T), ITERATIONS)
    modes = v[_distinct(v, _best_first(_bounds(reduced, W, v)), max_basins)]
    v = np.concatenate((modes, _from_turned(reduced, W, modes, seed)))
    bounds = _bounds(reduced, W, v)
    order = _distinct(v, _best_first(bounds), max_basins)
    return Basins(v[order], bounds[order])


def _settled(reduced: Reduced, W: Any, v: Float, n: int) -> Float:
    """Return means of the kept units after n mean-field iterations."""
    for _ in range(n):
        v = _update(reduced, W, v, expit(reduced.c + v @ W))
    return v


def _from_turned(reduced: Reduced, W: Any, modes: Float, seed: int) -> Float:
    """Return the modes that others, the best first, lead to with single units of either side turned over."""
    rng = numpy_generator(seed, "log_z", 5)
    modes = modes[: max(1, N_TURNED // min(N_SINGLE_UNITS, len(reduced.b)))]
    kept, summed = _turned(modes, rng), _turned(expit(reduced.c + modes @ W), rng)
    origin = np.concatenate([np.repeat(modes, len(turned) // len(modes), axis=0) for turned in (kept, summed)])
    v = np.concatenate((kept, _update(reduced, W, origin[len(kept) :], summed)))
    which = _few(np.arange(len(v)), reduced)
    v = _settled(reduced, W, v[which], FIRST)
    return _settled(reduced, W, v[np.abs(v - origin[which]).max(1) > SAME], ITERATIONS - FIRST)


def _turned(means: Float, rng: np.random.Generator) -> Float:
    """Return the means with one unit after the other turned over, of at most N_SINGLE_UNITS units."""
    n = means.shape[1]
    one = np.eye(n, dtype=bool)[np.sort(rng.permutation(n)[:N_SINGLE_UNITS])]
    turned: Float = np.where(one, means[:, None] < 0.5, means[:, None]).reshape(-1, n)
    return turned


def _best_first(bounds: Float) -> NDArray[np.intp]:
    """Return the order of the modes."""
    return np.argsort(-bounds, kind="stable")


def _few(starts: NDArray[Any], reduced: Reduced) -> NDArray[Any]:
    """Return as many of the starts, evenly spread, as the work allows."""
    n_couplings = int(np.count_nonzero(reduced.W)) + (0 if reduced.J is None else reduced.J.size)
    n = int(WORK / (2 * ITERATIONS * max(1, n_couplings)))
    return starts if n >= len(starts) else starts[np.linspace(0, len(starts) - 1, max(n, FEWEST)).astype(int)]


def _starts(reduced: Reduced, seed: int) -> Float:
    """Return the means of the summed-out units from which the search starts, (n, n_summed): ordered ones."""
    n = len(reduced.c)
    ordered = [np.zeros((1, n)), np.ones((1, n))]
    chosen = np.sort(numpy_generator(seed, "log_z", 2).permutation(n)[:N_SINGLE_UNITS])
    ordered += [np.eye(n)[chosen], 1 - np.eye(n)[chosen]]
    if min(reduced.W.shape) > 1:
        # Signs of patterns, in the ±1 picture, where units without a bias of their own are balanced.
        signs = (_singular_vectors(reduced.W) > 0).astype(np.float64)
        ordered += [signs, 1 - signs]
    return np.concatenate(ordered)


def _singular_vectors(W: Float) -> Float:
    """Return the leading singular vectors of the summed-out side, (N_SINGULAR, n_summed), or all there are."""
    if min(W.shape) <= MOST_FULL:
        return np.asarray(np.linalg.svd(W, full_matrices=False)[2][:N_SINGULAR])
    return np.asarray(svds(csr_array(W) if (W == 0).mean() > 0.5 else W, N_SINGULAR, v0=np.ones(min(W.shape)))[2])


def _random_starts(reduced: Reduced, seed: int) -> Float:
    """Return random states of the summed-out units, sparse to dense."""
    rng = numpy_generator(seed, "log_z", 3)
    density = rng.random((N_RANDOM, 1))
    return (rng.random((N_RANDOM, len(reduced.c))) < density).astype(np.float64)


def _update(reduced: Reduced, W: Any, v: Float, h: Float) -> Float:
    """Return the kept units' means given all others', class by class."""
    field = reduced.b + h @ W.T
    if reduced.J is None:
        means: Float = expit(field)
        return means
    v = v.copy()
    for block in reduced.blocks:
        v[:, block] = expit(field[:, block] + v @ reduced.J[:, block])
    return v


def _bounds(reduced: Reduced, W: Any, v: Float) -> Float:
    """Return b'm + m'Jm / 2 + H(m) + Σ_j log(1 + exp(c_j + (W'm)_j)) for means m of v, shape (n,).

    The best means of the summed-out units given m are the logistic functions of the fields; their energy and
    entropy add up to the softplus.
    """
    energy = v @ reduced.b
    if reduced.J is not None:
        energy += (v @ reduced.J * v).sum(1) / 2
    bounds: Float = energy + (entr(v) + entr(1 - v)).sum(1) + np.logaddexp(0, v @ W + reduced.c).sum(1)
    return bounds


def _distinct(v: Float, order: NDArray[np.intp], most: int) -> list[int]:
    """Return the indices of `order` that differ from all before, at most `most`."""
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) < most and all(np.abs(v[i] - v[j]).max() > SAME for j in kept):
            kept.append(i)
    return kept
