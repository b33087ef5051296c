"""Exact moments of a machine, by the fastest route for each connected part, as `plan` does for log Z alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dvae_core.graphs import bipartition
from dvae_core.progress import Report, ignore
from dvae_core.types import Float, Index

from ..machine import Machine
from .elimination import elimination
from .elimination_moments import SLOWER, eliminated_moments, is_affordable, seconds_of_moments
from .enumeration_moments import MAX_KEPT, EnumeratedMoments
from .exchangeable_moments import ExchangeableMoments
from .moments import Moments, of_independent
from .plan import INDEPENDENT_SET_UNITS, QUICK, grouped_by, independent_set

MAX_TABLE = 1 << 22  # entries of a table in which exchangeable units are searched


@dataclass(frozen=True, slots=True)
class _Part:
    """Units, bonds by their indices among all, a route, its predicted seconds, and the computation."""

    units: Index
    bonds: Index
    route: str
    seconds: float
    moments: Callable[[float, Report, int | None], Moments]


@dataclass(frozen=True, slots=True)
class MomentsPlan:
    """The way to compute the moments of a machine exactly; units and bonds are numbered as in its `reduced`."""

    n_units: int
    n_bonds: int
    parts: tuple[_Part, ...]

    @property
    def seconds(self) -> float:
        """Predicted seconds for one β on two cores; infinite if a part is infeasible."""
        return sum(part.seconds for part in self.parts)

    @property
    def route(self) -> str:
        """The routes of all parts, each once, the slowest first."""
        parts = sorted(self.parts, key=lambda part: -part.seconds)
        return " + ".join(dict.fromkeys(part.route for part in parts))

    def moments(self, beta: float, report: Report = ignore, threads: int | None = None) -> Moments:
        """Return the moments at β, bit for bit the same for any number of threads.

        Parameters
        ----------
        beta : float
        report : callable
            Called with (work done, total work) of the present part.
        threads : int, optional
            One per core by default.
        """
        units, pairs, found = np.zeros(self.n_units), np.zeros(self.n_bonds), []
        for part in self.parts:
            moments = part.moments(beta, report, threads)
            units[part.units], pairs[part.bonds] = moments.units, moments.pairs
            found.append(moments)
        log_z, mean, variance = (
            math.fsum(getattr(m, name) for m in found) for name in ("log_z", "mean", "variance")
        )
        return Moments(log_z, mean, variance, units, pairs)


def moments_plan(machine: Machine, max_seconds: float = math.inf, search_seconds: float = math.inf) -> MomentsPlan:
    """Return the way to compute the moments of a machine exactly, feasible or not.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    max_seconds : float
        Limit for one β; slower ways are not searched for.
    search_seconds : float
        Approximate limit of the search for a way, for each part.
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
            break  # the plan is infeasible whatever the other parts are
    return MomentsPlan(n, len(bonds), tuple(parts))


def _alone(units: Index, biases: Float) -> _Part:
    """Return the part of all isolated units."""
    own = biases[units]
    return _Part(
        units, np.empty(0, np.int64), "independent units", 0.0, lambda beta, *_: of_independent(own, beta)
    )


def _part(
    units: Index, mine: Index, ends: Index, J: Float, b: Float, max_seconds: float, search_seconds: float
) -> _Part:
    """Return the fastest route for a connected part; `ends` are the ends of its bonds, numbered in the part."""
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


def _enumerations(ends: Index, J: Float, b: Float) -> Iterator[EnumeratedMoments | ExchangeableMoments]:
    """Yield ways to enumerate a part, each with a set of units kept that leaves the others without bonds."""
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
        found = ExchangeableMoments.of(ends, J, b, kept) if len(kept) * n <= MAX_TABLE else None
        if found:
            yield found


def _never(beta: float, report: Report, threads: int | None) -> Moments:
    """Raise AssertionError: callers check first that the part is feasible."""
    raise AssertionError("moments of an infeasible part were requested")
