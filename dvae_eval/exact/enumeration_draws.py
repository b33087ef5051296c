"""Independent states of an enumerated machine: first sums of groups, then units of a group, then the others.

If there are too many states for a table, their weights are first summed in blocks, and only blocks that contain a
draw are computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float, Index

from ..runtime.compute import available_cores
from .enumeration import Enumeration, high_states, log_weights_of, low_states, states_of
from .groups import Grouped

Bits = NDArray[np.uint8]

# Largest number of states, and of factors, for one table of weights; beyond it, blocks of high states are used.
MAX_TABLE, MAX_FACTORS, MAX_BLOCKS = 1 << 21, 1 << 28, 1 << 16
# States of the low groups in a table, so that their fields fit into a core's cache.
LOW_STATES = 1 << 11


def enumeration_draw_bytes(plan: Enumeration) -> int:
    """Return the approximate bytes of a draw, apart from the states."""
    largest = max(map(len, plan.machine.members), default=0)
    return 8 * (2 * MAX_TABLE + largest**2)


def draw_enumerated(
    plan: Enumeration, n: int, rng: np.random.Generator, report: Report = ignore, threads: int | None = None
) -> tuple[Bits, float]:
    """Return n independent states, shape (n, n_kept + n_summed), the kept units first, and log Z, nats.

    Parameters
    ----------
    plan : Enumeration
    n : int
    rng : numpy.random.Generator
    report : callable
        Called with (states processed, total states).
    threads : int, optional
        The states do not depend on it.
    """
    machine = plan.machine
    if _fits(machine):
        log_w = _Split(machine).table(report)
        chosen, log_z = _draw(log_w, n, rng)
        sums = states_of(machine, slice(None), chosen)
    else:
        sums, log_z = _draw_in_blocks(plan, n, rng, report, threads)
    v = np.empty((n, sum(map(len, machine.members))), np.uint8)
    for g, members in enumerate(machine.members):
        prefixes = _prefixes(members, np.logaddexp)
        place = (sums[:, g] - machine.starts[g]).astype(np.intp)
        for unit, is_on in _within(members, prefixes, place, rng):
            v[:, unit] = is_on
    fields = machine.c + _times(sums, machine.W)
    h = rng.random(fields.shape) < 1 / (1 + np.exp(-np.clip(fields, -700, 700)))
    return np.concatenate((v, h), 1, dtype=np.uint8), log_z


def best_enumerated(plan: Enumeration, report: Report = ignore) -> Bits | None:
    """Return the most probable state, shape (n_kept + n_summed,); None if a table of all states is too large."""
    machine = plan.machine
    if not _fits(machine):
        return None
    tables = [_prefixes(members, np.maximum) for members in machine.members]
    most = Grouped(
        machine.W, machine.c, machine.J, machine.starts, tuple(table[-1] for table in tables), machine.members
    )
    best = _Split(most, _positive).table(report).argmax()
    sums = states_of(machine, slice(None), np.array([best]))
    v = np.empty(sum(map(len, machine.members)), np.uint8)
    for g, members in enumerate(machine.members):
        place = (sums[:, g] - machine.starts[g]).astype(np.intp)
        for unit, is_on in _within(members, tables[g], place, None):
            v[unit] = is_on[0]
    return np.concatenate((v, machine.c + _times(sums, machine.W)[0] > 0), dtype=np.uint8)


def _fits(machine: Grouped) -> bool:
    """Return whether the weights of all states fit into one table."""
    return machine.n_states <= MAX_TABLE and machine.n_states * max(1, len(machine.c)) <= MAX_FACTORS


# --- sums of groups -----------------------------------------------------------------------------------------


def _softplus(x: Float) -> Float:
    """Return log(1 + e^x) by functions for which NumPy has vector instructions."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _positive(x: Float) -> Float:
    """Return max(0, x), the log weight of a summed-out unit's better state."""
    return np.maximum(x, 0)


class _Split:
    """States of the first groups as a table, combined with one state of the other groups at a time."""

    def __init__(
        self, machine: Grouped, unit: Callable[[Float], Float] = _softplus, n_low: int | None = None
    ) -> None:
        counts = machine.counts.tolist()
        if n_low is None:
            n_low = next((g for g in range(len(counts)) if math.prod(counts[: g + 1]) > LOW_STATES), len(counts))
        self.machine, self.unit, self.n_low = machine, unit, n_low
        low = slice(0, n_low)
        self.states, self.log_w = states_of(machine, low), log_weights_of(machine, low)
        self.fields = machine.c + _times(self.states, machine.W[low])
        self.n_high = math.prod(counts[n_low:])

    def beside(self, number: int) -> Float:
        """Return the log weights of all low states with the high state `number`, shape (n_low_states,)."""
        machine, high = self.machine, slice(self.n_low, None)
        state = states_of(machine, high, np.array([number]))[0]
        weights = [a[int(s)] for a, s in zip(machine.log_weights[high], state - machine.starts[high], strict=True)]
        constant = math.fsum(weights) + float((state * (machine.J[high, high] * state).sum(1)).sum()) / 2
        cross = _times(self.states, (machine.J[: self.n_low, high] * state).sum(1, keepdims=True))[:, 0]
        fields = self.fields + (machine.W[high] * state[:, None]).sum(0)
        log_w: Float = self.log_w + constant + cross + self.unit(fields).sum(1)
        return log_w

    def table(self, report: Report) -> Float:
        """Return the log weights of all states, shape (n_states,)."""
        log_w = np.empty((self.n_high, len(self.states)))
        for k in range(self.n_high):
            log_w[k] = self.beside(k)
            if k % 64 == 63:
                report(Progress("enumeration", k + 1, self.n_high))
        return log_w.ravel()


def _times(states: Float, W: Float) -> Float:
    """Return states @ W, bit for bit the same for any number of threads."""
    product = np.zeros((len(states), W.shape[1]))
    for g, row in enumerate(W):
        product += states[:, g : g + 1] * row
    return product


def _draw(log_w: Float, n: int, rng: np.random.Generator) -> tuple[Index, float]:
    """Return n indices drawn by these log weights, and the logarithm of the weights' sum."""
    top = log_w.max()
    cumulative = np.cumsum(np.exp(log_w - top))
    chosen = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return np.minimum(chosen, len(log_w) - 1), float(top + math.log(cumulative[-1]))


def _draw_in_blocks(
    plan: Enumeration, n: int, rng: np.random.Generator, report: Report, threads: int | None
) -> tuple[Float, float]:
    """Return n sums of groups, (n, n_groups), and log Z; draws a block, a high state, then a low one."""
    from .enumeration_kernel import log_sum  # imported here because numba loads slowly

    low, high = low_states(plan), high_states(plan)
    split = _Split(plan.machine, n_low=plan.n_low)
    coupled = bool(high.cross.any())
    size = -(-split.n_high // MAX_BLOCKS)
    starts = range(0, split.n_high, size)

    def weigh(start: int, stop: int) -> float:
        return float(log_sum(start, min(stop, split.n_high), low, high, coupled))

    log_sums = np.empty(len(starts))
    pool = ThreadPoolExecutor(threads or available_cores())
    try:
        for k, value in enumerate(pool.map(weigh, starts, (start + size for start in starts))):
            log_sums[k] = value
            report(Progress("enumeration", min((k + 1) * size, split.n_high), split.n_high))
    finally:
        pool.shutdown(cancel_futures=True)
    blocks, log_z = _draw(log_sums, n, rng)
    numbers = np.empty(n, np.int64)
    for mine, start in _each(blocks * size):
        stop = min(start + size, split.n_high)
        ones = np.array([weigh(k, k + 1) for k in range(start, stop)])
        numbers[mine] = start + _draw(ones, len(mine), rng)[0]
    chosen = np.empty(n, np.int64)
    for mine, number in _each(numbers):
        chosen[mine] = _draw(split.beside(number), len(mine), rng)[0]
    return states_of(plan.machine, slice(None), chosen + numbers * len(split.states)), log_z


def _each(values: Index) -> list[tuple[NDArray[np.intp], int]]:
    """Return the positions of each distinct value, in increasing order."""
    order = np.argsort(values, kind="stable")
    distinct, first = np.unique(values[order], return_index=True)
    return list(zip(np.split(order, first[1:]), distinct.tolist(), strict=True))


# --- units of a group ---------------------------------------------------------------------------------------


def _prefixes(members: tuple[tuple[int, float, int], ...], add: Callable[[Float, Float], Float]) -> list[Float]:
    """Return the log weights of all sums of the first 0, 1, ... members, the least sum first."""
    prefixes = [np.zeros(1)]
    for _, bias, sign in members:
        off, on = (0.0, bias) if sign > 0 else (bias, 0.0)
        last = prefixes[-1]
        prefixes.append(np.asarray(add(np.append(last + off, -np.inf), np.append(-np.inf, last + on))))
    return prefixes


def _within(
    members: tuple[tuple[int, float, int], ...],
    prefixes: list[Float],
    place: NDArray[np.intp],
    rng: np.random.Generator | None,
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return states of a group's units given the places of its sums, the last member first; the best if no rng.

    A member moves a sum one place further if it is on, or, with sign -1, if it is off.
    """
    found = []
    for (unit, bias, sign), before in zip(members[::-1], prefixes[-2::-1], strict=True):
        stay, further = (0.0, bias) if sign > 0 else (bias, 0.0)
        padded = np.concatenate(([-np.inf], before, [-np.inf]))
        odds = (padded[place] + further) - (padded[place + 1] + stay)  # from place - 1, and from place
        if rng is None:
            goes = odds > 0
        else:
            goes = rng.random(len(place)) < 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
            goes = np.where(np.isinf(odds), odds > 0, goes)
        found.append((unit, goes if sign > 0 else ~goes))
        place = place - goes
    return found
