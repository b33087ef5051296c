"""Orders in which the units of a sparse Boltzmann machine can be summed out one by one, at little cost.

Summing out a unit couples all of its neighbours, k of them, by way of a table of 2^(k+1) entries.  The cheapest
order is hard to find (it is NP-hard for the largest table already), so several heuristics are tried, some of them
many times, and the best order is kept.

A graph is a list of integers: bit j of the i-th says whether units i and j are coupled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from dvae_core.rng import numpy_generator

__all__ = ["cheapest_order", "order_cost"]

Graph = list[int]
Key = Callable[[Graph, int], int]
Found = tuple[list[int], int]
Attempt = Callable[[int], Found | None]

# Attempts of each kind are as many as make so many units to be summed out in all: a fixed amount of work.
GREEDY_UNITS, SWEPT_UNITS = 3000, 10000
MAX_ATTEMPTS = 40
# Entries that are summed in about the time that one unit takes in an attempt: when the search has taken as long as
# the sum will take, it ends.
PATIENCE = 1 << 13


def cheapest_order(bonds: NDArray[np.intp], n_units: int, max_cost: int) -> list[int] | None:
    """Return the cheapest order found of all units of a connected graph, or None if each costs over `max_cost`.

    Parameters
    ----------
    bonds : int, shape (n_bonds, 2)
        Pairs of units that are coupled, each once.
    n_units : int
    max_cost : int
        Most entries of all tables together.
    """
    max_width = max_cost.bit_length()
    # A graph of width k has at most k bonds a unit, and no part in which every unit has more than k.
    if len(bonds) > max_width * n_units or _core(bonds) > max_width:
        return None
    graph = _graph(bonds, n_units)
    order = _peel(graph)
    units = set(range(n_units)) - set(order)
    if not units:
        return order
    best, spent = None, 0
    for attempt in _attempts(graph, units):
        best = attempt(max_cost if best is None else best[1]) or best
        spent += len(units)
        if best and best[1] < PATIENCE * spent:
            break
    return None if best is None else order + best[0]


def order_cost(bonds: NDArray[np.intp], n_units: int, order: Iterable[int]) -> int:
    """Return the entries of all tables together."""
    graph, cost = _graph(bonds, n_units), 0
    for unit in order:
        cost += _table(graph[unit])
        _sum_out(graph, unit)
    return cost


def _table(neighbours: int) -> int:
    """Return the entries of the table of a unit and its neighbours."""
    return 2 << neighbours.bit_count()


def _graph(bonds: NDArray[np.intp], n_units: int) -> Graph:
    """Return the graph of these bonds."""
    graph = [0] * n_units
    for i, j in bonds.tolist():
        graph[i] |= 1 << j
        graph[j] |= 1 << i
    return graph


def _core(bonds: NDArray[np.intp]) -> int:
    """Return the largest k for which some units have k neighbours each among themselves."""
    graph = nx.Graph()
    graph.add_edges_from(bonds.tolist())
    return max(nx.core_number(graph).values(), default=0)


def _units(mask: int) -> Iterator[int]:
    """Yield the units of a mask."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _sum_out(graph: Graph, unit: int) -> None:
    """Couple all neighbours of a unit, and take it out of the graph."""
    neighbours = graph[unit]
    for other in _units(neighbours):
        graph[other] = (graph[other] | neighbours) & ~(1 << other | 1 << unit)
    graph[unit] = 0


def _peel(graph: Graph) -> list[int]:
    """Sum out, again and again, all units of at most two neighbours: it never makes the rest dearer."""
    order: list[int] = []
    done = [False] * len(graph)
    waiting = list(range(len(graph)))
    while waiting:
        unit = waiting.pop()
        if not done[unit] and graph[unit].bit_count() <= 2:
            done[unit] = True
            order.append(unit)
            waiting += _units(graph[unit])
            _sum_out(graph, unit)
    return order


def _attempts(graph: Graph, units: set[int]) -> Iterator[Attempt]:
    """Yield attempts to find an order of the units: by least degree, by least fill, and in sweeps."""
    rng = numpy_generator(0, "order")
    n_greedy, n_sweeps = (
        min(MAX_ATTEMPTS, max(2, budget // len(units))) for budget in (GREEDY_UNITS, SWEPT_UNITS)
    )
    for key in (_degree, _fill):
        for _ in range(n_greedy):
            yield partial(_greedy, graph, units, key, rng.permutation(len(graph)).tolist())
    starts = sorted(units, key=lambda unit: (graph[unit].bit_count(), unit))
    for start in starts[:: -(-len(starts) // n_sweeps)]:
        for newest_first in (False, True):
            yield partial(_sweep, graph, len(units), start, newest_first)


def _degree(graph: Graph, unit: int) -> int:
    """Return the number of a unit's neighbours."""
    return graph[unit].bit_count()


def _fill(graph: Graph, unit: int) -> int:
    """Return how many pairs of neighbours are not coupled yet, twice."""
    neighbours = graph[unit]
    return sum((neighbours & ~graph[other]).bit_count() - 1 for other in _units(neighbours))


def _greedy(graph: Graph, units: set[int], key: Key, rank: list[int], limit: int) -> Found | None:
    """Return the order of least `key`, the rank deciding among equals, with its cost if that is below `limit`."""
    graph, order, cost = list(graph), [], 0
    keys = {unit: (key(graph, unit), rank[unit]) for unit in units}
    while keys:
        unit = min(keys, key=keys.__getitem__)
        del keys[unit]
        order.append(unit)
        touched = graph[unit]
        cost += _table(touched)
        if cost >= limit:
            return None
        _sum_out(graph, unit)
        if key is _fill:
            for other in _units(touched):
                touched |= graph[other]
        for other in _units(touched):
            keys[other] = (key(graph, other), rank[other])
    return order, cost


def _sweep(graph: Graph, n_units: int, start: int, newest_first: bool, limit: int) -> Found | None:
    """Return the order in which a front that grows the least sweeps over a connected graph (King, 1970).

    All units of the front are coupled by the table of those behind it, so that its size is the cost of a step.
    """
    seen, front, order, cost = 1 << start, [start], [], 0
    while front:
        growth = [(graph[unit] & ~seen).bit_count() for unit in front]
        least = min(growth)
        place = len(front) - 1 - growth[::-1].index(least) if newest_first else growth.index(least)
        cost += 1 << (len(front) + least)
        if cost >= limit:
            return None
        unit = front.pop(place)
        order.append(unit)
        front += _units(graph[unit] & ~seen)
        seen |= graph[unit]
    return (order, cost) if len(order) == n_units else None
