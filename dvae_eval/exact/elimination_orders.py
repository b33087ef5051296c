"""Cheap orders in which to sum out the units of a sparse Boltzmann machine one by one.

Summing out a unit couples all of its k neighbours through a table of 2^(k+1) entries.  Finding the cheapest order
is NP-hard (even for the largest table alone), so several heuristics are tried, some of them repeatedly, and the
best order is used.

A graph is a list of integers: bit j of the i-th is set if units i and j are coupled.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dvae_core.rng import numpy_generator

Graph = list[int]
Key = Callable[[Graph, int], int]
Found = tuple[list[int], int]
Attempt = Callable[[int], Found | None]

# All attempts of a kind together sum out about this number of units: a fixed amount of work.
GREEDY_UNITS, SWEPT_UNITS = 3000, 10000
MAX_ATTEMPTS = 40
# Largest number of units that are searched: a mask has a bit for each.
MAX_SEARCHED = 1 << 15
# Table entries that are summed in the time to process one mask.  The search ends when it has taken as long as the
# sum will take, or as long as an order of `max_cost` would.
PATIENCE = 30
# A large graph is given up if its first cheap orders, by least degree and in sweeps, cost 2^HOPELESS times the
# limit.  On grids, triangulations, random graphs and thinned k-trees, least fill was never better than both by
# more than 2^4, and it takes by far the most time where there are many units.
MANY_UNITS, HOPELESS = 1000, 16
# Seconds to process a mask of few units, and the number of units that doubles it.
LOOK, LOOK_UNITS = 3e-7, 2000
# Cheaper orders are not improved; others are, even at 2^SLACK times the limit, and the best of them once more for
# every doubling.
WORTH_IMPROVING, SLACK, MAX_ROUNDS = 1 << 26, 6, 8
# Work of the search for improvements, in words of a bit mask; its largest number of moves; tolerance of a move.
SEARCH_STEPS, MAX_MOVES, TOLERANCE = 1.5e8, 50_000, 0.1


def cheapest_order(
    bonds: NDArray[np.intp], n_units: int, max_cost: int, search_seconds: float = math.inf
) -> list[int] | None:
    """Return the cheapest order found for all units of a connected graph, or None if each costs over `max_cost`.

    Parameters
    ----------
    bonds : int, shape (n_bonds, 2)
        Pairs of coupled units, each once.
    n_units : int
    max_cost : int
        Largest total number of table entries.
    search_seconds : float
        Approximate limit of the search.
    """
    max_width = max_cost.bit_length()
    # A graph of width k has at most k bonds per unit.
    if len(bonds) > max_width * n_units:
        return None
    neighbours = _neighbours(bonds, n_units)
    order = _peel(neighbours)
    rest = sorted(set(range(n_units)) - set(order))
    if not rest:
        return order
    if _is_wider(neighbours, max_width) or len(rest) > MAX_SEARCHED:
        return None
    label = np.arange(n_units)
    if n_units > MAX_SEARCHED:
        label[rest] = np.arange(len(rest))
    of_rest = [(i, j) for i in rest for j in neighbours[i] if i < j]
    graph = _graph(label[of_rest], n_units if n_units <= MAX_SEARCHED else len(rest))
    looks = int(min(max_cost / PATIENCE, search_seconds / (LOOK * (1 + len(graph) / LOOK_UNITS))))
    units = set(label[rest].tolist())
    if len(rest) > MANY_UNITS and _is_hopeless(graph, units, max_cost << HOPELESS, _Effort(0, looks)):
        return None
    found = _cheapest_of_rest(graph, units, max_cost, _Effort(0, looks))
    if found is None or found[1] > max_cost:
        return None
    unit = dict(zip(label[rest].tolist(), rest, strict=True))
    return order + [unit[i] for i in found[0]]


@dataclass(slots=True)
class _Effort:
    """Number of masks processed by the search so far, and its limit."""

    masks: int
    most: int

    @property
    def is_over(self) -> bool:
        return self.masks > self.most


def _cheapest_of_rest(graph: Graph, units: set[int], max_cost: int, effort: _Effort) -> Found | None:
    """Return the cheapest order found for these units, with its cost, which may exceed `max_cost`."""
    best: dict[str, Found] = {}
    for kind, attempt in _attempts(graph, units, effort):
        limit = best[kind][1] if kind in best else max_cost << SLACK
        if found := attempt(limit):
            best[kind] = found
            effort.most = min(effort.most, found[1] // PATIENCE)
        if effort.is_over:
            break
    least = min(best.values(), key=_cost, default=None)
    if least is None or least[1] < WORTH_IMPROVING:
        return least
    return _improved_in_rounds(graph, list(best.values()))


def _is_hopeless(graph: Graph, units: set[int], limit: int, effort: _Effort) -> bool:
    """Return whether an order by least degree and two sweeps all cost `limit` or more."""
    if _greedy(graph, units, _degree, list(range(len(graph))), effort, limit):
        return False
    start = min(units, key=lambda unit: (graph[unit].bit_count(), unit))
    return not any(_sweep(graph, len(units), start, newest, effort, limit) for newest in (False, True))


def _improved_in_rounds(graph: Graph, found: list[Found]) -> Found:
    """Return the best of these orders after one improvement of each and further ones of the best."""
    best = min((_improved(graph, order, 0) for order, _ in found), key=_cost)
    for number in range(1, MAX_ROUNDS):
        if best[1] < WORTH_IMPROVING << number:
            break
        best = min(best, _improved(graph, best[0], number), key=_cost)
    return best


def _cost(found: Found) -> int:
    """Return the cost of an order."""
    return found[1]


def _table(neighbours: int) -> int:
    """Return the number of entries of the table of a unit and its neighbours."""
    return 2 << neighbours.bit_count()


def _graph(bonds: NDArray[np.intp], n_units: int) -> Graph:
    """Return the graph of these bonds."""
    graph = [0] * n_units
    for i, j in bonds.tolist():
        graph[i] |= 1 << j
        graph[j] |= 1 << i
    return graph


def _units(mask: int) -> Iterator[int]:
    """Yield the units of a mask."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _sum_out(graph: Graph, unit: int) -> None:
    """Couple all neighbours of a unit, and remove it from the graph."""
    neighbours = graph[unit]
    for other in _units(neighbours):
        graph[other] = (graph[other] | neighbours) & ~(1 << other | 1 << unit)
    graph[unit] = 0


def _neighbours(bonds: NDArray[np.intp], n_units: int) -> list[set[int]]:
    """Return the neighbours of every unit as sets, which unlike masks take memory for bonds only."""
    neighbours: list[set[int]] = [set() for _ in range(n_units)]
    for i, j in bonds.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    return neighbours


def _is_wider(neighbours: list[set[int]], width: int) -> bool:
    """Return whether every order makes a table of more than `width` units beside the one that is summed out.

    Contracting bonds never makes a graph wider, and a graph in which each unit has at least k neighbours has at
    least width k.  The bonds to contract are chosen as in Bodlaender & Koster (2011), "Treewidth computations II",
    least-c.
    """
    graph = {unit: set(others) for unit, others in enumerate(neighbours) if others}
    waiting = [(len(others), unit) for unit, others in graph.items()]
    heapq.heapify(waiting)
    while waiting:
        degree, unit = heapq.heappop(waiting)
        if unit not in graph or degree != len(graph[unit]):
            continue  # it has been contracted, or waits with another degree as well
        if degree > width:
            return True
        others = graph.pop(unit)
        for third in others:
            graph[third].discard(unit)
        if others:
            into = min(others, key=lambda other: (len(graph[other] & others), other))
            for third in others - graph[into] - {into}:
                graph[third].add(into)
                graph[into].add(third)
        for third in others:
            heapq.heappush(waiting, (len(graph[third]), third))
    return False


def _peel(neighbours: list[set[int]]) -> list[int]:
    """Sum out units of at most two neighbours until none is left; this never makes the rest more expensive."""
    order: list[int] = []
    done = [False] * len(neighbours)
    waiting = list(range(len(neighbours)))
    while waiting:
        unit = waiting.pop()
        if not done[unit] and len(neighbours[unit]) <= 2:
            done[unit] = True
            order.append(unit)
            others = neighbours[unit]
            waiting += sorted(others)
            for other in others:
                neighbours[other] = (neighbours[other] | others) - {other, unit}
            neighbours[unit] = set()
    return order


def _attempts(graph: Graph, units: set[int], effort: _Effort) -> Iterator[tuple[str, Attempt]]:
    """Yield attempts to find an order of the units, of three kinds: by least degree, by least fill, in sweeps."""
    rng = numpy_generator(0, "order")
    n_greedy, n_sweeps = (
        min(MAX_ATTEMPTS, max(2, budget // len(units))) for budget in (GREEDY_UNITS, SWEPT_UNITS)
    )
    for kind, key in (("degree", _degree), ("fill", _fill)):
        for _ in range(n_greedy):
            yield kind, partial(_greedy, graph, units, key, rng.permutation(len(graph)).tolist(), effort)
    starts = sorted(units, key=lambda unit: (graph[unit].bit_count(), unit))
    for start in starts[:: -(-len(starts) // n_sweeps)]:
        for newest_first in (False, True):
            yield "sweep", partial(_sweep, graph, len(units), start, newest_first, effort)


def _degree(graph: Graph, unit: int) -> int:
    """Return the number of a unit's neighbours."""
    return graph[unit].bit_count()


def _fill(graph: Graph, unit: int) -> int:
    """Return twice the number of pairs of neighbours that are not coupled yet."""
    neighbours = graph[unit]
    return sum((neighbours & ~graph[other]).bit_count() - 1 for other in _units(neighbours))


def _greedy(graph: Graph, units: set[int], key: Key, rank: list[int], effort: _Effort, limit: int) -> Found | None:
    """Return the order of least `key`, ties broken by `rank`, with its cost; None if that reaches `limit`."""
    graph, order, cost = list(graph), [], 0
    keys = {unit: (key(graph, unit), rank[unit]) for unit in units}
    waiting = [(*of_unit, unit) for unit, of_unit in keys.items()]
    heapq.heapify(waiting)
    while keys:
        *of_unit, unit = heapq.heappop(waiting)
        if keys.get(unit) != tuple(of_unit):
            continue  # it is summed out, or waits with another key as well
        del keys[unit]
        order.append(unit)
        touched = graph[unit]
        cost += _table(touched)
        if cost >= limit or effort.is_over:
            return None
        _sum_out(graph, unit)
        if key is _fill:
            for other in _units(touched):
                touched |= graph[other]
        for other in _units(touched):
            keys[other] = (key(graph, other), rank[other])
            heapq.heappush(waiting, (*keys[other], other))
            effort.masks += graph[other].bit_count() if key is _fill else 1
        effort.masks += len(keys) // 4
    return order, cost


def _sweep(
    graph: Graph, n_units: int, start: int, newest_first: bool, effort: _Effort, limit: int
) -> Found | None:
    """Return the order in which a front sweeps over a connected graph with the least growth (King, 1970).

    The table of the units behind it couples all units of the front, so that its size is the cost of a step.
    """
    seen, front, order, cost = 1 << start, [start], [], 0
    while front:
        growth = [(graph[unit] & ~seen).bit_count() for unit in front]
        effort.masks += len(front)
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


def _improved(graph: Graph, order: list[int], number: int) -> Found:
    """Return a cheaper order and its cost, found by moving single units, most of them by a short distance."""
    from .elimination_kernel import improve  # imported here because numba loads slowly

    n = len(order)
    label = {unit: i for i, unit in enumerate(order)}
    bonds = np.array([(label[i], label[j]) for i in order for j in _units(graph[i]) if i < j])
    rng = numpy_generator(0, "order", 1, number)
    n_moves = min(MAX_MOVES, int(SEARCH_STEPS / (n * (n / 64 + 1) + len(bonds))))
    starts, anywhere = rng.integers(n, size=(2, n_moves))
    near = np.clip(starts + np.rint(rng.normal(0, 30, n_moves)).astype(np.int64), 0, n - 1)
    stops = np.where(rng.random(n_moves) < 0.3, anywhere, near)
    tolerances = rng.exponential(np.linspace(TOLERANCE, TOLERANCE / 10, n_moves))
    places = np.arange(n)
    log_cost = improve(bonds, places, starts, stops, tolerances)
    return [order[i] for i in places.tolist()], round(2.0**log_cost)
