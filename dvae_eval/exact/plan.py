"""log Z exactly, to float64 rounding, by the quickest of several routes: the oracle of all other estimators.

A machine falls into connected parts, whose log Z add up.  A part is a unit alone, a closed form; or its states are
enumerated, units that act alike as one (`groups`) and an independent set of the others summed out (`enumeration`);
or its units are summed out one by one (`elimination`), which takes few bonds instead of few units.
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
from dvae_core.rng import numpy_generator
from dvae_core.text import duration
from dvae_core.types import Float

from ..couplings import Table, n_entries, table_of, transposed
from ..machine import Machine, Reduced
from .elimination import Elimination, elimination
from .enumeration import Enumeration, enumeration
from .groups import grouped

Progress = Callable[[int, int], None]

# Predicted seconds up to which the exact value is chosen by itself, and up to which it can be asked for.
AUTO_SECONDS = 15.0
EXACT_SECONDS = 600.0
# Units that are enumerated within AUTO_SECONDS if they have about 64 others beside them, and no structure.
MAX_ENUMERATED = 31
# An enumeration of this many seconds is quicker than the search for an order of elimination.
QUICK = 0.02
# Attempts to find a large independent set of a graph that is not bipartite, if it has at most this many units.
INDEPENDENT_SETS, INDEPENDENT_SET_UNITS = 50, 200


@dataclass(frozen=True, slots=True)
class Part:
    """One connected part, or all units that are alone.

    Attributes
    ----------
    route : str
        `independent units`, `enumeration` or `elimination`.
    seconds : float
        Predicted time on two cores, infinite if the part is out of reach.
    log_z : callable
        Takes a progress callback and a number of threads, both of which may be None.
    need : str
        What would have to be done, in words.
    units : int, shape (n,)
        The part's units in the order of `way`, numbered as in `Reduced.biases` of the whole machine.
    way : Enumeration, Elimination or None
        How it is done; None for independent units, and where there is no way.
    """

    route: str
    seconds: float
    log_z: Callable[[Progress | None, int | None], float]
    need: str
    units: NDArray[np.intp]
    way: Enumeration | Elimination | None = None


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """How the exact log Z of a machine can be had."""

    parts: tuple[Part, ...]

    @property
    def route(self) -> str:
        """The routes of all parts, each named once, the one that takes longest first."""
        parts = sorted(self.parts, key=lambda part: -part.seconds)
        return " + ".join(dict.fromkeys(part.route for part in parts))

    @property
    def seconds(self) -> float:
        """Predicted time on two cores; infinite if a part is out of reach."""
        return sum(part.seconds for part in self.parts)

    @property
    def need(self) -> str:
        """What the dearest part needs, in words."""
        return max(self.parts, key=lambda part: part.seconds).need

    def log_z(self, progress: Progress | None = None, threads: int | None = None) -> float:
        """Return log Z, nats, whatever time it takes.

        Parameters
        ----------
        progress : callable, optional
            Called with (work done, work in all), in milliseconds of the prediction.
        threads : int, optional
            Threads to compute with; as many as there are cores unless given.  They do not change the value.
        """
        total, done, values = max(1, round(min(1000 * self.seconds, 1e15))), 0.0, []
        for part in self.parts:
            values.append(part.log_z(_share(progress, done, 1000 * part.seconds, total), threads))
            done += 1000 * part.seconds
        return math.fsum(values)


def _share(progress: Progress | None, before: float, mine: float, total: int) -> Progress | None:
    """Return a callback that reports one part's progress as a share of the whole."""
    if progress is None:
        return None
    return lambda done, of: progress(min(total, round(before + mine * done / of)), total)


def exact_plan(machine: Machine, search_seconds: float = math.inf) -> ExactPlan:
    """Return how log Z can be had exactly, whether or not it takes too long; the last few plans are remembered.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    search_seconds : float
        About how long the search for a way may take.
    """
    return _plan(_Machine(machine.sha256, machine), search_seconds)


def exact_route(machine: Machine, max_seconds: float = AUTO_SECONDS) -> str | None:
    """Return how log Z can be had exactly, or None if that is predicted to take more than `max_seconds`.

    The route is `enumeration`, `elimination` or `independent units`, or several joined by ` + ` where the machine
    falls into parts.  Whoever asks for the exact value may wait for `EXACT_SECONDS`.
    """
    plan = exact_plan(machine)
    return plan.route if plan.seconds <= max_seconds else None


def exact_log_z(
    machine: Machine,
    progress: Progress | None = None,
    threads: int | None = None,
    search_seconds: float = math.inf,
) -> float:
    """Return log Z by the quickest route, float64, nats; see `ExactPlan.log_z` and `exact_plan`.

    Raises
    ------
    ConfigError
        If that is predicted to take more than `EXACT_SECONDS`.
    """
    plan = exact_plan(machine, search_seconds)
    if plan.seconds > EXACT_SECONDS:
        raise ConfigError(
            f"--method exact: {plan.need}, and at most {EXACT_SECONDS / 60:.0f} minutes are allowed; "
            "use --method pt-bar"
        )
    return plan.log_z(progress, threads)


# --- planning -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine that is known by its parameters, for the memory of `_plan`."""

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


Numbered = tuple[Reduced, NDArray[np.intp]]  # a part, and the numbers of its units in what it is a part of


def _connected(reduced: Reduced) -> tuple[NDArray[np.intp], list[Numbered]]:
    """Return the units that have no bond, numbered as in `Reduced.biases`, and the connected parts of the rest."""
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
            # What is not bipartite as a whole may well be so in parts.
            part, own = (part, np.arange(len(units))) if part.J is None else _bipartite(part)
            parts.append((part, units[own]))
    return np.flatnonzero(sizes[labels] == 1), parts


def grouped_by(labels: NDArray[np.integer[Any]], n: int) -> list[NDArray[np.intp]]:
    """Return where each of the n labels is, rising."""
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
    """Return the machine of some units, rising, whose bonds these are; `is_kept` says of every unit what it is."""
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
    """Return the symmetric table of bonds."""
    both = np.concatenate((ends, ends[:, ::-1]))
    return table_of((n, n), both[:, 0], both[:, 1], np.concatenate((couplings, couplings)))


def _bipartite(part: Reduced) -> Numbered:
    """Return the part with no couplings among its kept units if that is possible."""
    sides = bipartition(len(part.biases), part.bonds()[0])
    return (part, np.arange(len(part.biases))) if sides is None else _keeping(part, np.array(sides[0], np.intp))


def _keeping(part: Reduced, kept: NDArray[np.intp]) -> Numbered:
    """Return the part with these units kept, numbered as in `Reduced.biases`, and all others summed out."""
    units = np.arange(len(part.biases))
    is_kept = np.isin(units, kept)
    order = np.concatenate((units[is_kept], units[~is_kept]))
    return _reduced(*part.bonds(), part.biases, units, is_kept), order


def _part(part: Reduced, units: NDArray[np.intp], search_seconds: float) -> Part:
    """Return the quickest route for a connected part, whose units have these numbers in the whole."""
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
    """Return whether more than half of the bonds that there could be are there: elimination gains nothing then."""
    n_kept, n_summed = len(part.b), len(part.c)
    possible = n_kept * n_summed + (0 if part.J is None else n_kept * (n_kept - 1) // 2)
    return len(part.bonds()[0]) > possible / 2


def _enumerations(part: Reduced) -> Iterator[tuple[Enumeration, NDArray[np.intp]]]:
    """Yield ways to enumerate a part: either side is kept, or whatever leaves the others without bonds.

    Beside each are the numbers of its units in the part, the kept ones first.
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
    """Return as few units as can be found without which no bond is left."""
    return np.flatnonzero(~independent_set(len(part.biases), part.bonds()[0]))


def independent_set(n: int, bonds: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return a mask of as many of n units as can be found without a bond among them."""
    coupled = np.zeros((n, n), bool)
    coupled[tuple(bonds.T)] = True
    coupled |= coupled.T
    rng = numpy_generator(0, "order")
    sets = (_free_of_bonds(coupled, rng) for _ in range(INDEPENDENT_SETS))
    return max(sets, key=np.count_nonzero)


def _free_of_bonds(coupled: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of units without bonds among them, taken one by one, of the fewest free neighbours first."""
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


def _never(progress: Progress | None, threads: int | None) -> float:
    """Stand where there is no way."""
    raise ConfigError("too many units to enumerate; use --method pt-bar")
