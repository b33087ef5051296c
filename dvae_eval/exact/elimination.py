"""log Z by variable elimination: exact for any number of units if the bonds form a graph of small tree-width.

Chains, trees, bands, narrow grids and Chimera-like lattices are such graphs.  If the tables would take too much
memory, some units are fixed, and the sum over their states is taken last.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_core.io.memory import available_memory
from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float

from ..runtime.compute import available_cores
from .elimination_orders import cheapest_order

Bonds = NDArray[np.intp]
Scope = tuple[int, ...]
Term = tuple[Scope, Float]
Add = Callable[[Float, Float], Float]

MAX_SECONDS = 600.0
# Bytes of all tables held at a time: a quarter of the free memory, within these limits.
LIVE_BYTES = (1 << 27, 1 << 32)
# Tables are computed in blocks of 2^15 entries, which fit into a core's own cache.
BLOCK_UNITS = 15
# Seconds per entry and per step on one core of a busy server, and the speed-up by two cores.
ENTRY, STEP, SPEEDUP = 18e-9, 1e-4, 1.6


@dataclass(frozen=True, slots=True)
class Elimination:
    """The computation of log Z = log Σ_z exp(Σ_(i,j) J_ij z_i z_j + b'z) by elimination.

    Attributes
    ----------
    bonds : int, shape (n_bonds, 2)
        The pairs (i, j), each once.
    couplings : float64, shape (n_bonds,)
        Their J_ij.
    biases : float64, shape (n_units,)
    order : list of int
        Units to sum out, one by one.
    fixed : list of int
        The remaining units, over whose 2^n states the results are summed.
    cost : int
        Total entries of all tables, for all states of the fixed units.
    """

    bonds: Bonds
    couplings: Float
    biases: Float
    order: list[int]
    fixed: list[int]
    cost: int

    @property
    def seconds(self) -> float:
        """Predicted seconds on two cores."""
        return (self.cost * ENTRY / SPEEDUP) + STEP * len(self.order) * 2.0 ** len(self.fixed)

    def log_z(self, report: Report = ignore, threads: int | None = None) -> float:
        """Return log Z, nats, bit for bit the same for any number of threads.

        Parameters
        ----------
        report : callable
            Called with (entries done, total entries).
        threads : int, optional
            Number of threads, by default one per core.
        """
        steps = self.steps()
        meter = Meter(self.cost, report)
        log_sums = []
        with ThreadPoolExecutor(threads or available_cores()) as pool:
            for _, constant, biases in self.fixed_states():
                log_sums.append(constant + _sum_out_all(steps, biases, pool, meter))
        return float(np.logaddexp.reduce(log_sums))

    def steps(self) -> list[Step]:
        """Return the steps that sum out the units one by one."""
        return steps_of(self.bonds, self.couplings, self.order)

    def fixed_states(self) -> Iterator[tuple[Float, float, Float]]:
        """Yield every state of the fixed units, its log weight, and the biases of all units given that state."""
        J = np.zeros((len(self.fixed), len(self.biases)))
        for k, unit in enumerate(self.fixed):
            for end in (0, 1):
                mine = self.bonds[:, end] == unit
                J[k, self.bonds[mine, 1 - end]] = self.couplings[mine]
        for state in itertools.product((0.0, 1.0), repeat=len(self.fixed)):
            z = np.array(state)
            constant = float(z @ self.biases[self.fixed] + z @ J[:, self.fixed] @ z / 2)
            yield z, constant, self.biases + z @ J


def elimination(
    bonds: Bonds,
    couplings: Float,
    biases: Float,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int | None = None,
    search_seconds: float = math.inf,
) -> Elimination | None:
    """Return how to eliminate the units of a connected machine, or None if every order found takes too long.

    Parameters
    ----------
    bonds, couplings, biases
        See `Elimination`.
    max_seconds : float
        Limit of the predicted seconds; at most `MAX_SECONDS`.
    max_bytes : int, optional
        Limit of the bytes of tables held at a time; by default a quarter of the free memory, at most 4 GB.
    search_seconds : float
        Approximate limit of the search for an order.
    """
    max_bytes = affordable_bytes() if max_bytes is None else max_bytes
    max_cost = int(min(max_seconds, MAX_SECONDS) * SPEEDUP / ENTRY)
    order = cheapest_order(bonds, len(biases), max_cost, search_seconds)
    if order is None:
        return None
    fixed: list[int] = []
    while True:
        steps = steps_of(bonds, couplings, order)
        cost = sum(2 << len(step.scope) for step in steps) << len(fixed)
        if cost > max_cost:
            return None
        if 8 * _peak(steps) <= max_bytes:
            return Elimination(bonds, couplings, biases, order, fixed, cost)
        fixed.append(_most_involved(steps))
        order = [unit for unit in order if unit not in fixed]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that sums out one unit.

    `scope` holds the other units of its table, with the next one to be summed out last; `bonds` are those with
    later units; `sources` are the steps whose tables enter this one.
    """

    unit: int
    scope: Scope
    bonds: list[tuple[int, float]]
    sources: list[int]


def steps_of(bonds: Bonds, couplings: Float, order: Sequence[int]) -> list[Step]:
    """Return the steps of an order, without the bonds of units outside of it."""
    place = {unit: k for k, unit in enumerate(order)}
    later: list[list[tuple[int, float]]] = [[] for _ in order]
    for (i, j), coupling in zip(bonds.tolist(), couplings.tolist(), strict=True):
        if i in place and j in place:
            first, second = sorted((i, j), key=place.__getitem__)
            later[place[first]].append((second, coupling))
    sources: list[list[int]] = [[] for _ in order]
    steps: list[Step] = []
    for k, unit in enumerate(order):
        others = {other for other, _ in later[k]}.union(*(steps[source].scope for source in sources[k])) - {unit}
        scope = tuple(sorted(others, key=place.__getitem__, reverse=True))
        steps.append(Step(unit, scope, later[k], sources[k]))
        if scope:
            sources[place[scope[-1]]].append(k)
    return steps


def _peak(steps: list[Step]) -> int:
    """Return the largest number of table entries held at a time."""
    live, most = 0, 0
    for step in steps:
        live += 1 << len(step.scope)
        most = max(most, live)
        live -= sum(1 << len(steps[source].scope) for source in step.sources)
    return most


def affordable_bytes() -> int:
    """Return the memory that tables may take, bytes."""
    least, most = LIVE_BYTES
    return min(most, max(least, available_memory() // 4))


def _most_involved(steps: list[Step]) -> int:
    """Return the unit that occurs in the most table entries."""
    parts: Counter[int] = Counter()
    for step in steps:
        for unit in (*step.scope, step.unit):
            parts[unit] += 1 << len(step.scope)
    return max(parts, key=lambda unit: (parts[unit], -unit))


# --- sums ---------------------------------------------------------------------------------------------------


class Meter:
    """Reports completed entries, at most a thousand times."""

    def __init__(self, total: int, report: Report) -> None:
        self.total, self.report = total, report
        self.done = self.reported = 0

    def add(self, entries: int) -> None:
        """Count completed entries."""
        self.done += entries
        if self.done - self.reported >= self.total / 1000:
            self.reported = self.done
            self.report(Progress("elimination", self.done, self.total))


def _sum_out_all(steps: list[Step], biases: Float, pool: ThreadPoolExecutor, meter: Meter) -> float:
    """Return log Z of the units in `steps` with these biases."""
    tables: dict[int, Float] = {}
    log_z = 0.0
    for k, step in enumerate(steps):
        table = table_of_step(steps, k, {source: tables.pop(source) for source in step.sources}, biases, pool)
        if step.scope:
            tables[k] = table
        else:
            log_z += float(table)
        meter.add(2 << len(step.scope))
    return log_z


def table_of_step(
    steps: list[Step],
    k: int,
    sources: Mapping[int, Float],
    biases: Float,
    pool: ThreadPoolExecutor,
    add: Add | None = None,
) -> Float:
    """Return the table over a step's scope with its unit summed out, from the tables of its sources.

    `add` combines the logarithms for the unit's two states: by default into that of their sum; pass
    `numpy.maximum` to find the most probable state.
    """
    step = steps[k]
    messages = [(steps[source].scope, sources[source]) for source in step.sources]
    off = [(scope[:-1], table[..., 0]) for scope, table in messages]
    on = [(scope[:-1], table[..., 1]) for scope, table in messages]
    on += [((other,), np.array([0.0, coupling])) for other, coupling in step.bonds]
    off.append(((), np.zeros(())))
    on.append(((), np.array(biases[step.unit])))
    return _log_sum(step.scope, off, on, pool, add or _log_add)


def _log_sum(scope: Scope, off: list[Term], on: list[Term], pool: ThreadPoolExecutor, add: Add) -> Float:
    """Return log(exp(Σ off) + exp(Σ on)), or `add` of the two sums, as a table over `scope`, block by block."""
    n_outer = max(0, len(scope) - BLOCK_UNITS)
    outer, inner = scope[:n_outer], scope[n_outer:]
    table = np.empty((2,) * len(scope))
    # Small terms first, so that few of the sums have the size of the block.
    sums = [sorted(terms, key=lambda term: len(term[0])) for terms in (off, on)]

    def fill(block: tuple[int, ...]) -> None:
        state = dict(zip(outer, block, strict=True))
        table[block] = add(*(block_sum(terms, state, inner) for terms in sums))

    blocks = itertools.product((0, 1), repeat=n_outer)
    if n_outer:
        list(pool.map(fill, blocks))
    else:
        fill(())
    return table


def block_sum(terms: list[Term], state: dict[int, int], inner: Scope) -> Float:
    """Return the sum of terms over the inner units, given the state of the outer ones."""
    parts = []
    for scope, table in terms:
        part = table[tuple(state[unit] for unit in scope if unit in state)]
        parts.append(part.reshape([2 if unit in scope else 1 for unit in inner]))
    return functools.reduce(np.add, parts)


def _log_add(a: Float, b: Float) -> Float:
    """Return log(e^a + e^b) by functions for which NumPy has vector instructions, unlike `numpy.logaddexp`."""
    less = np.exp(-np.abs(a - b))
    return np.maximum(a, b) + np.log1p(less)
