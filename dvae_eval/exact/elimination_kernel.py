"""The compiled search for a cheaper elimination order by small random changes.

The cost is computed as in the symbolic factorisation of a sparse matrix.  In terms of places in the order, the
table of a place consists of the bonds there and of those passed on from earlier places, and is passed on to the
first place that it contains.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float, Index

from .enumeration_kernel import compiled

Words = NDArray[np.uint64]
ONE = np.uint64(1)


@compiled
def _count(word: np.uint64) -> int:
    """Return the number of set bits."""
    word -= (word >> ONE) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _log_cost(bonds: Index, place: Index, tables: Words, limit: float) -> float:
    """Return log2 of the entries of all tables; the sum may stop once it exceeds 2^limit."""
    n, n_words = tables.shape
    tables[:] = 0
    for b in range(len(bonds)):
        first, last = place[bonds[b, 0]], place[bonds[b, 1]]
        if first > last:
            first, last = last, first
        tables[first, last >> 6] |= ONE << np.uint64(last & 63)
    total, most = 0.0, 2.0**limit
    for p in range(n):
        width, parent = 0, -1
        for w in range(p >> 6, n_words):
            word = tables[p, w]
            if word:
                if parent < 0:
                    parent = 64 * w + _count((word & (~word + ONE)) - ONE)
                width += _count(word)
        total += 2.0 ** (width + 1)
        if total > most:
            break
        if parent >= 0:
            for w in range(parent >> 6, n_words):
                tables[parent, w] |= tables[p, w]
            tables[parent, parent >> 6] &= ~(ONE << np.uint64(parent & 63))
    return math.log2(total)


@compiled
def _move(order: Index, place: Index, start: int, stop: int) -> None:
    """Move a unit from one place to another, shifting those between."""
    unit = order[start]
    step = 1 if stop > start else -1
    for p in range(start, stop, step):
        order[p] = order[p + step]
        place[order[p]] = p
    order[stop] = unit
    place[unit] = stop


@compiled
def improve(bonds: Index, order: Index, starts: Index, stops: Index, tolerances: Float) -> float:
    """Move units in `order` from `starts` to `stops`, one move after another, and leave the best order in `order`.

    A move is undone if log2 of the cost grows by more than the move's tolerance.
    """
    n = len(order)
    tables = np.zeros((n, (n + 63) >> 6), np.uint64)
    place = np.empty(n, np.int64)
    for p in range(n):
        place[order[p]] = p
    cost = _log_cost(bonds, place, tables, 1000.0)
    least, best = cost, order.copy()
    for k in range(len(starts)):
        _move(order, place, starts[k], stops[k])
        changed = _log_cost(bonds, place, tables, cost + tolerances[k])
        if changed > cost + tolerances[k]:
            _move(order, place, stops[k], starts[k])
            continue
        cost = changed
        if cost < least:
            least = cost
            best[:] = order
    order[:] = best
    return least
