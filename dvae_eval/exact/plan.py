"""log Z exactly, to float64 rounding, by the fastest of several routes; other estimators are tested against it.

A machine consists of connected parts, whose log Z add up.  A single unit has a closed form.  Otherwise the states
of a part are enumerated, with exchangeable units in groups (`groups`) and an independent set of the others summed
out (`enumeration`); or its units are summed out one by one (`elimination`), which suits few bonds instead of few
units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dvae_core.errors import ConfigError
from dvae_core.graphs import bipartition
from dvae_core.progress import Report, ignore
from dvae_core.rng import numpy_generator
from dvae_core.text import duration
from dvae_core.types import Float

from ..couplings import Table, n_entries, table_of, transposed
from ..machine import Machine, Reduced
from .elimination import Elimination, elimination
from .enumeration import Enumeration, enumeration
from .groups import grouped

# Predicted seconds below which the exact value is the default, and below which it can be requested.
AUTO_SECONDS = 15.0
EXACT_SECONDS = 600.0
# Number of units that can be enumerated within AUTO_SECONDS beside about 64 others, without structure.
MAX_ENUMERATED = 31
# An enumeration of at most this number of seconds is faster than the search for an elimination order.
QUICK = 0.02
# Attempts to find a large independent set in a graph that is not bipartite, with at most this number of units.
INDEPENDENT_SETS, INDEPENDENT_SET_UNITS = 50, 200


@dataclass(frozen=True, slots=True)
class Part:
    """A connected part of a machine, or all of its isolated units.

    Attributes
    ----------
    route : str
        `independent units`, `enumeration` or `elimination`.
    seconds : float
        Predicted seconds on two cores; infinite if the part is infeasible.
    log_z : callable
        Computes log Z; takes a report and a number of threads, which may be None.
    need : str
        The work needed, in words.
    units : int, shape (n,)
        The part's units in the order of `way`, as indices into `Reduced.biases` of the whole machine.
    way : Enumeration, Elimination or None
        The computation; None for isolated units and infeasible parts.
    """

    route: str
    seconds: float
    log_z: Callable[[Report, int | None], float]
    need: str
    units: NDArray[np.intp]
    way: Enumeration | Elimination | None = None


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """The way to compute the exact log Z of a machine, part by part."""

    parts: tuple[Part, ...]

    @property
    def route(self) -> str:
        """The routes of all parts, each once, the slowest first."""
        parts = sorted(self.parts, key=lambda part: -part.seconds)
        return " + ".join(dict.fromkeys(part.route for part in parts))

    @property
    def seconds(self) -> float:
        """Predicted seconds on two cores; infinite if a part is infeasible."""
        return sum(part.seconds for part in self.parts)

    @property
    def need(self) -> str:
        """The work that the slowest part needs, in words."""
        return max(self.parts, key=lambda part: part.seconds).need

    def log_z(self, report: Report = ignore, threads: int | None = None) -> float:
        """Return log Z, nats, however long it takes.

        Parameters
        ----------
        report : callable
            Called with (work done, total work), in milliseconds of the prediction.
        threads : int, optional
            Number of threads, by default one per core.  The value does not depend on it.
        """
        total, done, values = max(1, round(min(1000 * self.seconds, 1e15))), 0.0, []
        for part in self.parts:
            values.append(part.log_z(_share(report, done, 1000 * part.seconds, total), threads))
            done += 1000 * part.seconds
        return math.fsum(values)


def _share(report: Report, before: float, mine: float, total: int) -> Report:
    """Return a report of one part's progress as a share of the whole."""
    return lambda p: report(p._replace(done=min(total, round(before + mine * p.done / p.total)), total=total))


def exact_plan(machine: Machine, search_seconds: float = math.inf) -> ExactPlan:
    """Return the way to compute log Z exactly, feasible or not; the last few plans are cached.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    search_seconds : float
        Approximate limit of the search for a way.
    """
    return _plan(_Machine(machine.sha256, machine), search_seconds)


def exact_route(machine: Machine, max_seconds: float = AUTO_SECONDS) -> str | None:
    """Return the route to the exact log Z, or None if it is predicted to take more than `max_seconds`.

    The route is `enumeration`, `elimination` or `independent units`, or several joined by ` + ` for a machine of
    several parts.  A requested exact value may take up to `EXACT_SECONDS`.
    """
    plan = exact_plan(machine)
    return plan.route if plan.seconds <= max_seconds else None


def exact_log_z(
    machine: Machine,
    report: Report = ignore,
    threads: int | None = None,
    search_seconds: float = math.inf,
) -> float:
    """Return log Z by the fastest route, float64, nats; see `ExactPlan.log_z` and `exact_plan`.

    Raises
    ------
    ConfigError
        If it is predicted to take more than `EXACT_SECONDS`.
    """
    plan = exact_plan(machine, search_seconds)
    if plan.seconds > EXACT_SECONDS:
        raise ConfigError(
            f"--method exact: {plan.need}, and the limit is {EXACT_SECONDS / 60:.0f} minutes; use --method pt-bar"
        )
    return plan.log_z(report, threads)


# --- planning -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine identified by its digest, for the cache of `_plan`."""

    sha256: str
    machine: Machine = field(compare=False)


@lru_cache(maxsize=4)
def _plan(known: _Machine, search_seconds: float) -> ExactPlan:
    """Return the plan of a machine."""
    reduced = known.machine.reduced()
    alone, parts = _connected(reduced)
    plans = [_part(part, units, search_seconds) for part, units in parts]
    if len(alone):
        biases = reduced.biases[alone]
        closed = lambda *_: math.fsum(np.logaddexp(0, biases))  # noqa: E731
        plans.append(Part("independent units", 0.0, closed, "nothing", alone))
    return ExactPlan(tuple(plans))


Numbered = tuple[Reduced, NDArray[np.intp]]  # a part, and the indices of its units in the whole machine


def _connected(reduced: Reduced) -> tuple[NDArray[np.intp], list[Numbered]]:
    """Return the isolated units, as indices into `Reduced.biases`, and the connected parts of the rest."""
    (bonds, couplings), n_units = reduced.bonds(), len(reduced.biases)
    graph = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_units, n_units))
    labels = connected_components(graph, directed=False)[1]
    sizes = np.bincount(labels)
    if n_units > 1 and sizes[0] == n_units:
        return np.empty(0, np.intp), [(_without_empty(reduced), np.arange(n_units))]
    is_kept = np.arange(n_units) < len(reduced.b)
    groups = [grouped_by(of, len(sizes)) for of in (labels, labels[bonds[:, 0]])]
    parts = []
    for members, mine in zip(*groups, strict=True):
        if len(members) > 1:
            part = _reduced(bonds[mine], couplings[mine], reduced.biases, members, is_kept)
            units = np.concatenate((members[is_kept[members]], members[~is_kept[members]]))
            # A machine that is not bipartite may have bipartite parts.
            part, own = (part, np.arange(len(units))) if part.J is None else _bipartite(part)
            parts.append((part, units[own]))
    return np.flatnonzero(sizes[labels] == 1), parts


def grouped_by(labels: NDArray[np.integer[Any]], n: int) -> list[NDArray[np.intp]]:
    """Return the positions of each of the n labels, in increasing order."""
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=n))[:-1])


def _without_empty(reduced: Reduced) -> Reduced:
    """Return the machine without a table of couplings among the kept units if all of these are zero."""
    J = None if reduced.J is None or not n_entries(reduced.J) else reduced.J
    return Reduced(reduced.W, reduced.b, reduced.c, J, ())


def _reduced(
    bonds: NDArray[np.intp],
    couplings: Float,
    biases: Float,
    units: NDArray[np.intp],
    is_kept: NDArray[np.bool_],
) -> Reduced:
    """Return the machine of some units, in increasing order, with their bonds; `is_kept` refers to all units."""
    kept, summed = units[is_kept[units]], units[~is_kept[units]]
    is_inside = is_kept[bonds].all(1)
    across = bonds[~is_inside]
    rows = np.searchsorted(kept, np.where(is_kept[across[:, 0]], across[:, 0], across[:, 1]))
    columns = np.searchsorted(summed, np.where(is_kept[across[:, 0]], across[:, 1], across[:, 0]))
    W = table_of((len(kept), len(summed)), rows, columns, couplings[~is_inside])
    inside = np.searchsorted(kept, bonds[is_inside])
    J = _symmetric(len(kept), inside, couplings[is_inside]) if len(inside) else None
    return Reduced(W, biases[kept], biases[summed], J, ())


def _symmetric(n: int, ends: NDArray[np.intp], couplings: Float) -> Table:
    """Return the symmetric table of couplings."""
    both = np.concatenate((ends, ends[:, ::-1]))
    return table_of((n, n), both[:, 0], both[:, 1], np.concatenate((couplings, couplings)))


def _bipartite(part: Reduced) -> Numbered:
    """Return the part without couplings between its kept units if it is bipartite, else unchanged."""
    sides = bipartition(len(part.biases), part.bonds()[0])
    return (part, np.arange(len(part.biases))) if sides is None else _keeping(part, np.array(sides[0], np.intp))


def _keeping(part: Reduced, kept: NDArray[np.intp]) -> Numbered:
    """Return the part with these units kept, as indices into `Reduced.biases`, and all others summed out."""
    units = np.arange(len(part.biases))
    is_kept = np.isin(units, kept)
    order = np.concatenate((units[is_kept], units[~is_kept]))
    return _reduced(*part.bonds(), part.biases, units, is_kept), order


def _part(part: Reduced, units: NDArray[np.intp], search_seconds: float) -> Part:
    """Return the fastest route for a connected part, whose units have these indices in the whole machine."""
    found, order = min(_enumerations(part), key=lambda pair: pair[0].seconds, default=(None, units))
    seconds = found.seconds if found else math.inf
    n_kept = min(len(part.b), len(part.c)) if part.J is None else len(part.b)
    if seconds > QUICK and not _is_dense(part):
        bonds, couplings = part.bonds()
        eliminated = elimination(bonds, couplings, part.biases, seconds, search_seconds=search_seconds)
        if eliminated:
            takes = duration(eliminated.seconds)
            need = f"{len(part.biases)} units would have to be eliminated, which takes about {takes}"
            return Part("elimination", eliminated.seconds, eliminated.log_z, need, units, eliminated)
    if found is None:
        return Part("enumeration", math.inf, _never, f"{n_kept} units would have to be enumerated", units)
    need = f"{n_kept} units would have to be enumerated, which takes about {duration(seconds)}"
    return Part("enumeration", seconds, found.log_z, need, units[order], found)


def _is_dense(part: Reduced) -> bool:
    """Return whether more than half of the possible bonds exist, so that elimination gains nothing."""
    n_kept, n_summed = len(part.b), len(part.c)
    possible = n_kept * n_summed + (0 if part.J is None else n_kept * (n_kept - 1) // 2)
    return len(part.bonds()[0]) > possible / 2


def _enumerations(part: Reduced) -> Iterator[tuple[Enumeration, NDArray[np.intp]]]:
    """Yield ways to enumerate a part: keep either side, or a set that leaves the others without bonds.

    Each comes with the indices of its units in the part, the kept ones first.
    """
    units, n_kept = np.arange(len(part.biases)), len(part.b)
    sides = [(part, units)]
    if part.J is None:
        sides.append((Reduced(transposed(part.W), part.c, part.b, None, ()), np.roll(units, -n_kept)))
    elif len(part.biases) <= INDEPENDENT_SET_UNITS:
        sides.append(_keeping(part, _cover(part)))
    for side, order in sides:
        machine = grouped(side)
        if machine:
            yield enumeration(machine), order


def _cover(part: Reduced) -> NDArray[np.intp]:
    """Return a small set of units whose removal leaves no bond."""
    return np.flatnonzero(~independent_set(len(part.biases), part.bonds()[0]))


def independent_set(n: int, bonds: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return a mask of a large subset of n units without a bond between them."""
    coupled = np.zeros((n, n), bool)
    coupled[tuple(bonds.T)] = True
    coupled |= coupled.T
    rng = numpy_generator(0, "order")
    sets = (_free_of_bonds(coupled, rng) for _ in range(INDEPENDENT_SETS))
    return max(sets, key=np.count_nonzero)


def _free_of_bonds(coupled: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of units without bonds between them, chosen by the fewest free neighbours."""
    n = len(coupled)
    free, taken = np.ones(n, bool), np.zeros(n, bool)
    degrees = coupled.sum(1) + rng.random(n)
    while free.any():
        unit = np.where(free, degrees, np.inf).argmin()
        taken[unit] = True
        gone = free & coupled[unit]
        free &= ~coupled[unit]
        free[unit] = False
        degrees -= coupled[gone].sum(0)
    return taken


def _never(report: Report, threads: int | None) -> float:
    """Raise ConfigError: the part has too many units to enumerate."""
    raise ConfigError("too many units to enumerate; use --method pt-bar")
