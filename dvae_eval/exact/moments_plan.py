"""Moments of a machine exactly, by the quickest route of each connected part, as `plan` has it for log Z alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dvae_core.graphs import bipartition
from dvae_core.types import Float, Index

from ..machine import Machine
from .exchangeable_moments import AlikeMoments
from .elimination import elimination
from .elimination_moments import SLOWER, eliminated_moments, is_affordable, seconds_of_moments
from .enumeration_moments import MAX_KEPT, EnumeratedMoments
from .moments import Moments, of_independent
from .plan import INDEPENDENT_SET_UNITS, QUICK, grouped_by, independent_set

Progress = Callable[[int, int], None]
MAX_TABLE = 1 << 22  # entries, in which units that act alike are looked for


@dataclass(frozen=True, slots=True)
class _Part:
    """Units, bonds by their numbers among all, a route, its predicted seconds, and what it takes."""

    units: Index
    bonds: Index
    route: str
    seconds: float
    moments: Callable[[float, Progress | None, int | None], Moments]


@dataclass(frozen=True, slots=True)
class MomentsPlan:
    """How the moments of a machine can be had exactly; units and bonds are numbered as in its `reduced`."""

    n_units: int
    n_bonds: int
    parts: tuple[_Part, ...]

    @property
    def seconds(self) -> float:
        """Predicted time for one β on two cores; infinite if a part is out of reach."""
        return sum(part.seconds for part in self.parts)

    @property
    def route(self) -> str:
        """The routes of all parts, each named once, the one that takes longest first."""
        parts = sorted(self.parts, key=lambda part: -part.seconds)
        return " + ".join(dict.fromkeys(part.route for part in parts))

    def moments(self, beta: float, progress: Progress | None = None, threads: int | None = None) -> Moments:
        """Return the moments at β, the same bits for any number of threads.

        Parameters
        ----------
        beta : float
        progress : callable, optional
            Called with (work done, work in all) of the present part.
        threads : int, optional
            As many as there are cores unless given.
        """
        units, pairs, found = np.zeros(self.n_units), np.zeros(self.n_bonds), []
        for part in self.parts:
            moments = part.moments(beta, progress, threads)
            units[part.units], pairs[part.bonds] = moments.units, moments.pairs
            found.append(moments)
        log_z, mean, variance = (
            math.fsum(getattr(m, name) for m in found) for name in ("log_z", "mean", "variance")
        )
        return Moments(log_z, mean, variance, units, pairs)


def moments_plan(machine: Machine, max_seconds: float = math.inf, search_seconds: float = math.inf) -> MomentsPlan:
    """Return how the moments of a machine can be had exactly, whether or not it takes too long.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    max_seconds : float
        For one β: no way that takes longer is looked for.
    search_seconds : float
        About how long the search for a way may take, for each part.
    """
    reduced = machine.reduced()
    (bonds, couplings), biases = reduced.bonds(), reduced.biases
    n = len(biases)
    graph = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n, n))
    n_parts, labels = connected_components(graph, directed=False)
    alone = np.flatnonzero(np.bincount(labels)[labels] == 1)
    parts = [_alone(alone, biases)] if len(alone) else []
    for units, mine in zip(*(grouped_by(of, n_parts) for of in (labels, labels[bonds[:, 0]])), strict=True):
        if len(units) > 1:
            ends = np.searchsorted(units, bonds[mine])
            parts.append(_part(units, mine, ends, couplings[mine], biases[units], max_seconds, search_seconds))
        if parts and math.isinf(parts[-1].seconds):
            break  # the others need not be known
    return MomentsPlan(n, len(bonds), tuple(parts))


def _alone(units: Index, biases: Float) -> _Part:
    """Return the part of all units without bonds."""
    own = biases[units]
    return _Part(
        units, np.empty(0, np.int64), "independent units", 0.0, lambda beta, *_: of_independent(own, beta)
    )


def _part(
    units: Index, mine: Index, ends: Index, J: Float, b: Float, max_seconds: float, search_seconds: float
) -> _Part:
    """Return the quickest route for a connected part, whose bonds join `ends` among its own units."""
    enumerated = min(_enumerations(ends, J, b), key=lambda way: way.seconds, default=None)
    seconds = enumerated.seconds if enumerated else math.inf
    n, most = len(b), min(seconds, max_seconds)
    if seconds > QUICK and len(ends) <= n * (n - 1) / 4:
        found = elimination(ends, J, b, most / SLOWER, search_seconds=search_seconds)
        if found and is_affordable(found):
            takes = seconds_of_moments(found)
            return _Part(units, mine, "elimination", takes, partial(eliminated_moments, found))
    if enumerated is None or seconds > max_seconds:
        return _Part(units, mine, "enumeration", math.inf, _never)
    return _Part(units, mine, "enumeration", seconds, enumerated.moments)


def _enumerations(ends: Index, J: Float, b: Float) -> Iterator[EnumeratedMoments | AlikeMoments]:
    """Yield ways to enumerate a part: some units are kept that leave the others without bonds."""
    n = len(b)
    sides = bipartition(n, ends)
    if sides is not None:
        choices = [np.array(side, np.int64) for side in sides]
    else:
        choices = [np.arange(n)]
        if n <= INDEPENDENT_SET_UNITS:
            choices.append(np.flatnonzero(~independent_set(n, ends)))
    fewest = min(choices, key=len)
    if len(fewest) <= MAX_KEPT:
        yield EnumeratedMoments.of(ends, J, b, fewest)
    for kept in choices:
        alike = AlikeMoments.of(ends, J, b, kept) if len(kept) * n <= MAX_TABLE else None
        if alike:
            yield alike


def _never(beta: float, progress: Progress | None, threads: int | None) -> Moments:
    """Stand where there is no way."""
    raise AssertionError("moments out of reach were asked for")
