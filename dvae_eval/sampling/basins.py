"""Deep basins of a Boltzmann machine: mean-field modes, in which some replicates start.

Tempering from random states misses a basin so narrow that no replica enters it, and the diagnostics of the run
then look perfect.  A start inside the basin reveals it.  So does a strict bound, from the deepest basin or,
better, from all basins together (`lower_bound`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, svds
from scipy.special import expit

from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..couplings import Table, as_array, is_full, n_entries
from ..machine import Reduced
from ..starts import spread
from .lower_bound import LIGHT, LowerBound, mean_field_bounds, sum_over_basins

N_RANDOM = 64
N_SINGLE_UNITS = 256
N_SINGULAR = 8
# Above this number of units on the smaller side, the few singular vectors are found by iteration.
MOST_FULL = 600
# Products with every coupling that Lanczos iteration needs; if that is too much work, subspace iteration makes
# this number of steps instead.
LANCZOS_PRODUCTS, SUBSPACE_STEPS = 1600, 8
# Largest number of products of a coupling and a mean per search; starts beyond it are dropped, down to FEWEST.
WORK, FEWEST = 5e10, 16
# Cost of a product and of a logistic function for a sparse machine, in products of full tables.
SPARSE_PRODUCT, LOGISTIC = 16, 100
# Couplings with a smaller share of nonzero values are multiplied as a sparse matrix.
SPARSE_FILL = 0.05
ITERATIONS = 60
FEW_ITERATIONS = 20  # enough to find the basin of a state
# Modes with single units flipped, in total, and iterations after which most of them have returned.
N_TURNED, FIRST = 1024, 10
# Candidates whose means all agree to within this are one mode.
SAME = 0.05
# Most basins in the bound's sum; number of states, known or of a run, to start further searches from, and the
# share of WORK for these.
MOST_SUMMED, N_SETTLED, SETTLED_WORK = 200, 256, 0.1
# Keys of the random streams for log Z that this module uses.
DRAWN, SINGLE_UNITS, RANDOM, TURNED, SINGULAR = 1, 2, 3, 5, 6


@dataclass(frozen=True, slots=True)
class Basins:
    """Mean-field modes, the best bound first.

    Attributes
    ----------
    means : float64, shape (n_basins, n_kept)
        Means of the kept units.
    bounds : float64, shape (n_basins,)
        Lower bounds of log Z, nats.
    lower_bound : LowerBound
        The bound by all basins together: these and all others that carry weight.
    """

    means: Float
    bounds: Float
    lower_bound: LowerBound

    def draw(self, n_replicates: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
        """Return states (n_replicates, n_rungs, n_kept); every second replicate is in the best basin."""
        which = np.where(np.arange(n_replicates) % 2 == 0, 0, (np.arange(n_replicates) // 2 + 1) % len(self.means))
        return drawn_in_turn(self.means[which], n_replicates, n_rungs, seed)


def drawn_in_turn(means: Float, n_replicates: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
    """Return states (n_replicates, n_rungs, n_kept) from means (n, n_kept) in turn, the coldest rungs first."""
    rng = numpy_generator(seed, "log_z", DRAWN)
    which = np.arange(n_rungs)[::-1] * n_replicates + np.arange(n_replicates)[:, None]
    own = means[which % len(means)]
    drawn: NDArray[np.uint8] = (rng.random((n_replicates, n_rungs, means.shape[1])) < own).astype(np.uint8)
    return drawn


def find_basins(
    reduced: Reduced,
    seed: int,
    max_basins: int = 16,
    work: float = WORK,
    is_over: Callable[[], bool] = lambda: False,
    is_late: Callable[[], bool] = lambda: False,
    given: NDArray[np.uint8] | None = None,
) -> Basins:
    """Return the best modes that mean-field iterations find from several kinds of starts.

    Starts are random means, all units on or off, single summed-out units on, and the signs of the couplings'
    leading singular vectors: the basin of a planted pattern is wide for at least one of these.  A second search
    starts from the modes of the first with single units flipped, which finds a pattern in which one unit
    determines many others, however narrow its basin is.

    Parameters
    ----------
    reduced : Reduced
    seed : int
        Determines the random starts.
    max_basins : int
        Largest number of modes to return; the bound may sum over more.
    work : float
        Products of a coupling and a mean that each of the two searches may take.
    is_over : callable
        Returns whether the time for the search is up; bounds hold for any intermediate result.
    is_late : callable
        Returns whether the time for the starts is up; singular vectors are then approximate.
    given : uint8, shape (n, n_kept), optional
        Known states of the kept units: N_SETTLED of them, evenly spaced, are starts as well.
    """
    W = _couplings(reduced)
    settled_given = [] if given is None else [_settled_from(reduced, W, given, work, is_over)]
    starts = np.concatenate((_starts(reduced, seed, work, is_late), _random_starts(reduced, seed)))
    h = _few(starts, reduced, work)
    v = _settled(reduced, W, expit(reduced.b + h @ W.T), ITERATIONS, is_over)
    v = np.concatenate((v, *settled_given))
    modes = v[_distinct(v, _best_first(mean_field_bounds(reduced, W, v)), max_basins)]
    turned = modes[:0] if is_over() else _from_turned(reduced, W, modes, seed, work, is_over)
    starts = np.concatenate((modes, turned))
    bounds = mean_field_bounds(reduced, W, starts)
    order = _distinct(starts, _best_first(bounds), max_basins)
    return Basins(starts[order], bounds[order], _together(reduced, W, np.concatenate((starts, v))))


def with_basins_of(
    reduced: Reduced,
    bound: LowerBound,
    states: NDArray[np.uint8],
    work: float = WORK,
    is_over: Callable[[], bool] = lambda: False,
) -> LowerBound:
    """Return the bound with the basins of a run's states included, so that basins found by replicas count.

    Parameters
    ----------
    reduced : Reduced
    bound : LowerBound
    states : uint8, shape (n_replicates, n_rungs, n_kept)
        States of the kept units, the coldest rung last.  N_SETTLED states are used, up to half of them from the
        coldest rung.
    work, is_over
        As in `find_basins`.
    """
    coldest_first = np.moveaxis(states[:, ::-1], 1, 0).reshape(-1, states.shape[-1])
    cold, others = spread(coldest_first[: len(states)], N_SETTLED // 2), coldest_first[len(states) :]
    chosen = np.concatenate((cold, spread(others, N_SETTLED - len(cold))))
    W = _couplings(reduced)
    v = _settled_from(reduced, W, chosen, work, is_over)
    better = _together(reduced, W, np.concatenate((bound.means, v)))
    return better if better.value > bound.value else bound


def _together(reduced: Reduced, W: Any, v: Float) -> LowerBound:
    """Return the bound from all of these modes that carry weight and differ."""
    bounds = mean_field_bounds(reduced, W, v)
    order = _best_first(bounds)
    order = order[bounds[order] > bounds.max() - LIGHT]
    distinct = _distinct(v, order, MOST_SUMMED)
    return sum_over_basins(reduced, W, v[distinct], bounds[distinct], MOST_SUMMED)


def _couplings(reduced: Reduced) -> Any:
    """Return W, as a sparse array if that is faster."""
    is_sparse = n_entries(reduced.W) < SPARSE_FILL * math.prod(reduced.W.shape)
    return csr_array(reduced.W) if is_sparse else reduced.W


def _settled(reduced: Reduced, W: Any, v: Float, n: int, is_over: Callable[[], bool] = lambda: False) -> Float:
    """Return means of the kept units after n mean-field iterations, or fewer if the time is up."""
    for _ in range(n):
        if is_over():
            break
        v = _update(reduced, W, v, expit(reduced.c + v @ W))
    return v


def _settled_from(
    reduced: Reduced, W: Any, states: NDArray[np.uint8], work: float, is_over: Callable[[], bool]
) -> Float:
    """Return the means reached from states of the kept units: N_SETTLED of them, or as many as time allows."""
    chosen = spread(states, N_SETTLED).astype(np.float64)
    return _settled(reduced, W, _few(chosen, reduced, SETTLED_WORK * work), ITERATIONS, is_over)


def _from_turned(
    reduced: Reduced, W: Any, modes: Float, seed: int, work: float, is_over: Callable[[], bool]
) -> Float:
    """Return the modes reached from the best ones with single units of either side flipped."""
    rng = numpy_generator(seed, "log_z", TURNED)
    modes = modes[: max(1, N_TURNED // min(N_SINGLE_UNITS, len(reduced.b)))]
    kept, summed = _turned(modes, rng), _turned(expit(reduced.c + modes @ W), rng)
    origin = np.concatenate([np.repeat(modes, len(turned) // len(modes), axis=0) for turned in (kept, summed)])
    v = np.concatenate((kept, _update(reduced, W, origin[len(kept) :], summed)))
    which = _few(np.arange(len(v)), reduced, work)
    v = _settled(reduced, W, v[which], FIRST, is_over)
    return _settled(reduced, W, v[np.abs(v - origin[which]).max(1) > SAME], ITERATIONS - FIRST, is_over)


def _turned(means: Float, rng: np.random.Generator) -> Float:
    """Return the means with one unit at a time flipped, for at most N_SINGLE_UNITS units."""
    n = means.shape[1]
    one = np.eye(n, dtype=bool)[np.sort(rng.permutation(n)[:N_SINGLE_UNITS])]
    turned: Float = np.where(one, means[:, None] < 0.5, means[:, None]).reshape(-1, n)
    return turned


def _best_first(bounds: Float) -> NDArray[np.intp]:
    """Return the order of the modes, the largest bound first."""
    return np.argsort(-bounds, kind="stable")


def _few(starts: NDArray[Any], reduced: Reduced, work: float) -> NDArray[Any]:
    """Return as many of the starts, evenly spaced, as the work limit allows."""
    n = int(work / (2 * ITERATIONS * max(1, _products(reduced))))
    return spread(starts, max(n, math.ceil(FEWEST * min(1.0, work / (SETTLED_WORK * WORK)))))


def _products(reduced: Reduced) -> int:
    """Return the cost of half an iteration, in products."""
    if is_full(reduced.W):
        return n_entries(reduced.W) + (0 if reduced.J is None else math.prod(reduced.J.shape))
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J))
    return SPARSE_PRODUCT * n_bonds + LOGISTIC * len(reduced.biases)


def _starts(reduced: Reduced, seed: int, work: float, is_late: Callable[[], bool]) -> Float:
    """Return the ordered starts of the search: means of the summed-out units, (n, n_summed)."""
    n = len(reduced.c)
    ordered = [np.zeros((1, n)), np.ones((1, n))]
    chosen = np.sort(numpy_generator(seed, "log_z", SINGLE_UNITS).permutation(n)[:N_SINGLE_UNITS])
    ordered += [np.eye(n)[chosen], 1 - np.eye(n)[chosen]]
    if min(reduced.W.shape) > 1:
        # Signs of patterns, in the ±1 convention, in which units without bias are balanced.
        signs = (_singular_vectors(reduced.W, work, is_late) > 0).astype(np.float64)
        ordered += [signs, 1 - signs]
    return np.concatenate(ordered)


def _singular_vectors(W: Table, work: float, is_late: Callable[[], bool]) -> Float:
    """Return the leading singular vectors of the summed-out side, at most (N_SINGULAR, n_summed)."""
    if min(W.shape) <= (MOST_FULL if is_full(W) else N_SINGULAR):
        return np.asarray(np.linalg.svd(as_array(W), full_matrices=False)[2][:N_SINGULAR])
    W = csr_array(W) if n_entries(W) < 0.5 * math.prod(W.shape) else W
    if LANCZOS_PRODUCTS * n_entries(W) > work / 2:
        return _nearly_singular_vectors(W)
    try:
        return np.asarray(svds(_watched(W, is_late), N_SINGULAR, v0=np.ones(min(W.shape)))[2])
    except _LateError:
        return _nearly_singular_vectors(W)


class _LateError(Exception):
    """The time is up."""


def _watched(W: Table, is_late: Callable[[], bool]) -> LinearOperator:
    """Return W as an operator that raises `_LateError` when the time is up."""

    def product(matrix: Table) -> Callable[[Float], Float]:
        def times(x: Float) -> Float:
            if is_late():
                raise _LateError
            return np.asarray(matrix.dot(x))

        return times

    return LinearOperator(W.shape, matvec=product(W), rmatvec=product(W.T), dtype=np.float64)


def _nearly_singular_vectors(W: Table) -> Float:
    """Return approximate singular vectors from some steps of subspace iteration; only their signs are used."""
    vectors = numpy_generator(0, "log_z", SINGULAR).normal(size=(W.shape[1], 2 * N_SINGULAR))
    for _ in range(SUBSPACE_STEPS):
        vectors = np.linalg.qr(W.T @ (W @ vectors))[0]
    rotation = np.linalg.svd(W @ vectors, full_matrices=False)[2][:N_SINGULAR]
    return np.asarray(rotation @ vectors.T)


def _random_starts(reduced: Reduced, seed: int) -> Float:
    """Return random states of the summed-out units, sparse to dense."""
    rng = numpy_generator(seed, "log_z", RANDOM)
    density = rng.random((N_RANDOM, 1))
    return (rng.random((N_RANDOM, len(reduced.c))) < density).astype(np.float64)


def _update(reduced: Reduced, W: Any, v: Float, h: Float) -> Float:
    """Return the kept units' means given those of all others, class by class."""
    field = reduced.b + h @ W.T
    if reduced.J is None:
        means: Float = expit(field)
        return means
    v = v.copy()
    for block in reduced.blocks:
        v[:, block] = expit(field[:, block] + v @ reduced.J[:, block])
    return v


def _distinct(v: Float, order: NDArray[np.intp], most: int) -> list[int]:
    """Return at most `most` indices, in the given order, of means that differ from all before."""
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) < most and (np.abs(v[kept] - v[i]).max(1) > SAME).all():
            kept.append(i)
    return kept


def nearest_basin(reduced: Reduced, means: Float, states: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the index of each state's mode: the one nearest to where mean-field iterations from the state lead.

    Parameters
    ----------
    reduced : Reduced
    means : float64, shape (n_basins, n_kept)
    states : uint8, shape (n, n_kept)
    """
    v = _settled(reduced, _couplings(reduced), states.astype(np.float64), FEW_ITERATIONS)
    distance = (means**2).sum(1) - 2 * v @ means.T
    return np.asarray(distance.argmin(1))
