"""Deep basins of a Boltzmann machine: mean-field modes, where some replicates start.

Tempering from random states is blind to a basin so narrow that no replica falls into it; the diagnostics of the
run itself look perfect then.  A start inside the basin reveals it, and so does a strict bound: that of the deepest
basin, or better of all basins together (`lower_bound`).
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

from ..couplings import Table, as_array, is_full, n_entries
from ..machine import Reduced
from ..starts import spread
from .lower_bound import LIGHT, LowerBound, mean_field_bounds, sum_over_basins

Float = NDArray[np.float64]
N_RANDOM = 64
N_SINGLE_UNITS = 256
N_SINGULAR = 8
# Above this many units on the smaller side, the few singular vectors are found by iteration.
MOST_FULL = 600
# How often it looks at every coupling; where that is too much work, vectors near them do, by this many steps.
LANCZOS_PRODUCTS, SUBSPACE_STEPS = 1600, 8
# Products of a coupling and a mean that the search may take, of all starts together; it drops starts beyond.
WORK, FEWEST = 5e10, 16
# Of a sparse machine: what a product and a logistic function take, in products of full tables.
SPARSE_PRODUCT, LOGISTIC = 16, 100
# Couplings of which fewer are not zero are multiplied as a sparse matrix.
SPARSE_FILL = 0.05
ITERATIONS = 60
FEW_ITERATIONS = 20  # which find the basin of a state
# Modes of which every unit is turned over, all together, and iterations after which most have turned back.
N_TURNED, FIRST = 1024, 10
# Candidates whose means all agree to this are one mode.
SAME = 0.05
# Most basins that the bound adds up; states, known or of a run, from which more are looked for, and their share
# of WORK.
MOST_SUMMED, N_SETTLED, SETTLED_WORK = 200, 256, 0.1


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
        The one by all basins together, these and as many more as carry weight.
    """

    means: Float
    bounds: Float
    lower_bound: LowerBound

    def draw(self, n_replicates: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
        """Return states (n_replicates, n_rungs, n_kept): the basins in turn, the best one for every second one."""
        which = np.where(np.arange(n_replicates) % 2 == 0, 0, (np.arange(n_replicates) // 2 + 1) % len(self.means))
        return drawn_in_turn(self.means[which], n_replicates, n_rungs, seed)


def drawn_in_turn(means: Float, n_replicates: int, n_rungs: int, seed: int) -> NDArray[np.uint8]:
    """Return states (n_replicates, n_rungs, n_kept) of units with means (n, n_kept), coldest rungs first."""
    rng = numpy_generator(seed, "log_z", 1)
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
        Most modes that are returned; the bound adds up more of them.
    work : float
        Products of a coupling and a mean that either search may take.
    is_over : callable
        Whether the time for the search is over: bounds hold for what it has come to.
    is_late : callable
        Whether the time for its start is over: singular vectors are rough ones then.
    given : uint8, shape (n, n_kept), optional
        States of the kept units that are known: N_SETTLED of them, evenly spread, are starts as well.
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
    """Return the bound with the basins of states joined to it: one that a replica is in is no longer unknown.

    Parameters
    ----------
    reduced : Reduced
    bound : LowerBound
    states : uint8, shape (n_replicates, n_rungs, n_kept)
        Of the kept units, the coldest rung last: N_SETTLED are settled, all of that rung if it has half as many.
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
    """Return the bound by all of these modes that carry weight and differ."""
    bounds = mean_field_bounds(reduced, W, v)
    order = _best_first(bounds)
    order = order[bounds[order] > bounds.max() - LIGHT]
    distinct = _distinct(v, order, MOST_SUMMED)
    return sum_over_basins(reduced, W, v[distinct], bounds[distinct], MOST_SUMMED)


def _couplings(reduced: Reduced) -> Any:
    """Return W, as a sparse array if that is quicker."""
    is_sparse = n_entries(reduced.W) < SPARSE_FILL * math.prod(reduced.W.shape)
    return csr_array(reduced.W) if is_sparse else reduced.W


def _settled(reduced: Reduced, W: Any, v: Float, n: int, is_over: Callable[[], bool] = lambda: False) -> Float:
    """Return means of the kept units after n mean-field iterations, or as many as there is time for."""
    for _ in range(n):
        if is_over():
            break
        v = _update(reduced, W, v, expit(reduced.c + v @ W))
    return v


def _settled_from(
    reduced: Reduced, W: Any, states: NDArray[np.uint8], work: float, is_over: Callable[[], bool]
) -> Float:
    """Return the means that states of the kept units lead to: N_SETTLED of them, or as many as time allows."""
    chosen = spread(states, N_SETTLED).astype(np.float64)
    return _settled(reduced, W, _few(chosen, reduced, SETTLED_WORK * work), ITERATIONS, is_over)


def _from_turned(
    reduced: Reduced, W: Any, modes: Float, seed: int, work: float, is_over: Callable[[], bool]
) -> Float:
    """Return the modes that others, the best first, lead to with single units of either side turned over."""
    rng = numpy_generator(seed, "log_z", 5)
    modes = modes[: max(1, N_TURNED // min(N_SINGLE_UNITS, len(reduced.b)))]
    kept, summed = _turned(modes, rng), _turned(expit(reduced.c + modes @ W), rng)
    origin = np.concatenate([np.repeat(modes, len(turned) // len(modes), axis=0) for turned in (kept, summed)])
    v = np.concatenate((kept, _update(reduced, W, origin[len(kept) :], summed)))
    which = _few(np.arange(len(v)), reduced, work)
    v = _settled(reduced, W, v[which], FIRST, is_over)
    return _settled(reduced, W, v[np.abs(v - origin[which]).max(1) > SAME], ITERATIONS - FIRST, is_over)


def _turned(means: Float, rng: np.random.Generator) -> Float:
    """Return the means with one unit after the other turned over, of at most N_SINGLE_UNITS units."""
    n = means.shape[1]
    one = np.eye(n, dtype=bool)[np.sort(rng.permutation(n)[:N_SINGLE_UNITS])]
    turned: Float = np.where(one, means[:, None] < 0.5, means[:, None]).reshape(-1, n)
    return turned


def _best_first(bounds: Float) -> NDArray[np.intp]:
    """Return the order of the modes."""
    return np.argsort(-bounds, kind="stable")


def _few(starts: NDArray[Any], reduced: Reduced, work: float) -> NDArray[Any]:
    """Return as many of the starts, evenly spread, as the work allows."""
    n = int(work / (2 * ITERATIONS * max(1, _products(reduced))))
    return spread(starts, max(n, math.ceil(FEWEST * min(1.0, work / (SETTLED_WORK * WORK)))))


def _products(reduced: Reduced) -> int:
    """Return the products that half an iteration takes, or what takes as long."""
    if is_full(reduced.W):
        return n_entries(reduced.W) + (0 if reduced.J is None else math.prod(reduced.J.shape))
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J))
    return SPARSE_PRODUCT * n_bonds + LOGISTIC * len(reduced.biases)


def _starts(reduced: Reduced, seed: int, work: float, is_late: Callable[[], bool]) -> Float:
    """Return the means of the summed-out units from which the search starts, (n, n_summed): ordered ones."""
    n = len(reduced.c)
    ordered = [np.zeros((1, n)), np.ones((1, n))]
    chosen = np.sort(numpy_generator(seed, "log_z", 2).permutation(n)[:N_SINGLE_UNITS])
    ordered += [np.eye(n)[chosen], 1 - np.eye(n)[chosen]]
    if min(reduced.W.shape) > 1:
        # Signs of patterns, in the ±1 picture, where units without a bias of their own are balanced.
        signs = (_singular_vectors(reduced.W, work, is_late) > 0).astype(np.float64)
        ordered += [signs, 1 - signs]
    return np.concatenate(ordered)


def _singular_vectors(W: Table, work: float, is_late: Callable[[], bool]) -> Float:
    """Return the leading singular vectors of the summed-out side, (N_SINGULAR, n_summed), or all there are."""
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
    """No time is left to continue."""


def _watched(W: Table, is_late: Callable[[], bool]) -> LinearOperator:
    """Return W as an operator that gives up where there is no time."""

    def product(matrix: Table) -> Callable[[Float], Float]:
        def times(x: Float) -> Float:
            if is_late():
                raise _LateError
            return np.asarray(matrix.dot(x))

        return times

    return LinearOperator(W.shape, matvec=product(W), rmatvec=product(W.T), dtype=np.float64)


def _nearly_singular_vectors(W: Table) -> Float:
    """Return what some steps of subspace iteration make of random vectors: their signs are good enough."""
    vectors = numpy_generator(0, "log_z", 6).normal(size=(W.shape[1], 2 * N_SINGULAR))
    for _ in range(SUBSPACE_STEPS):
        vectors = np.linalg.qr(W.T @ (W @ vectors))[0]
    rotation = np.linalg.svd(W @ vectors, full_matrices=False)[2][:N_SINGULAR]
    return np.asarray(rotation @ vectors.T)


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


def _distinct(v: Float, order: NDArray[np.intp], most: int) -> list[int]:
    """Return the indices of `order` that differ from all before, at most `most`."""
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) < most and (np.abs(v[kept] - v[i]).max(1) > SAME).all():
            kept.append(i)
    return kept


def nearest_basin(reduced: Reduced, means: Float, states: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the number of each state's mode: the nearest one to where mean-field iterations from there lead.

    Parameters
    ----------
    reduced : Reduced
    means : float64, shape (n_basins, n_kept)
    states : uint8, shape (n, n_kept)
    """
    v = _settled(reduced, _couplings(reduced), states.astype(np.float64), FEW_ITERATIONS)
    distance = (means**2).sum(1) - 2 * v @ means.T
    return np.asarray(distance.argmin(1))
