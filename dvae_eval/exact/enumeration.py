"""log Z by enumeration: all states of the kept units, the others summed out, on all cores.

A state consists of a low part l and a high part h, and the field of a summed-out unit j is a sum over both, so
that

    1 + e^(field) = (1 + e^m) (α + (1 - α) e^a),   α = 1 / (1 + e^m),

with m the field of h and of l at its centre, and a the deviation of l from there.  e^a is a table of (l, j), α one
of (h, j): the product over j takes two operations per factor and no exponential.  As |log(α + (1 - α) e^a)| <=
|a|, it is known in advance after how many factors the exponent must be split off to prevent over- and underflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float, Index

from ..runtime.compute import available_cores
from .groups import Grouped

if TYPE_CHECKING:
    from .enumeration_kernel import High, Low


# Below this number of factors, plain NumPy finishes before a compiled kernel is loaded.
PLAIN_FACTORS = 1 << 22
# Largest absolute logarithm of a product of factors: e^709 is the largest double.
REACH = 600.0
# Exponents are int64, and a state's exponent up to this keeps its fraction.
MAX_EXPONENT = 1e9
MAX_LOW_STATES = 1 << 13
# Values of the innermost table, which fits into a core's own cache; steps of the innermost loop, at least and at
# most.
INNER_VALUES, INNER_STATES = 1 << 15, (32, 128)
TASK_SECONDS = 0.1

# Seconds on one core of a busy server: per factor, per state, to split off a state's exponent, per factor of a
# high state, per table entry; and the cost of one run over the innermost states, in states.
FACTOR, STATE, ASIDE, HIGH_FACTOR, TABLE, RUN = 0.3e-9, 2e-9, 0.7e-9, 40e-9, 50e-9, 16
CORES = 2
PLAIN_FACTOR = 30e-9


@dataclass(frozen=True, slots=True)
class Enumeration:
    """The computation of log Z for a grouped machine by enumeration.

    Attributes
    ----------
    machine : Grouped
        Its groups in the order of their digits, the fastest first.
    n_inner, n_low : int
        Numbers of leading groups that form the innermost loop and the table of low states.
    n_real : 1, 2 or 4
        Number of factors that may be multiplied at once; the rest of four are ones.
    seconds : float
        Predicted seconds on two cores.
    """

    machine: Grouped
    n_inner: int
    n_low: int
    n_real: int
    seconds: float

    def log_z(self, report: Report = ignore, threads: int | None = None) -> float:
        """Return log Z, nats, bit for bit the same for any number of threads.

        Parameters
        ----------
        report : callable
            Called with (states done, total states).
        threads : int, optional
            Number of threads, by default one per core.
        """
        if self.machine.n_states * len(self.machine.c) <= PLAIN_FACTORS:
            return _plain(self.machine)
        return _in_tasks(self, report, threads or available_cores())


def enumeration(machine: Grouped) -> Enumeration:
    """Return the fastest way to enumerate a machine, with its predicted seconds, which may be infinite."""
    if machine.n_states > 1 << MAX_BITS:
        return Enumeration(machine, 0, 0, 4, math.inf)
    if machine.n_states * len(machine.c) <= PLAIN_FACTORS:
        return Enumeration(machine, 0, 0, 4, machine.n_states * len(machine.c) * PLAIN_FACTOR)
    machine = _least_reaching_first(machine)
    return min(_candidates(machine), key=lambda candidate: candidate.seconds)


# More states than can be enumerated, but few enough for int64 numbers.
MAX_BITS = 60


def _least_reaching_first(machine: Grouped) -> Grouped:
    """Return the machine with those groups first that change fields the least for their number of states."""
    counts = machine.counts
    order = np.argsort(np.abs(machine.W).max(1, initial=0) * (counts - 1) / np.log2(counts), kind="stable")
    return Grouped(
        machine.W[order],
        machine.c,
        machine.J[np.ix_(order, order)],
        machine.starts[order],
        tuple(machine.log_weights[g] for g in order),
        tuple(machine.members[g] for g in order),
    )


def _candidates(machine: Grouped) -> Iterator[Enumeration]:
    """Yield all ways to split the groups into low and high ones."""
    counts = machine.counts
    reach, exponent = np.zeros(len(machine.c)), 0.0
    span = np.abs(machine.starts) + counts
    for n_low in range(len(counts) + 1):
        if n_low:
            g = n_low - 1
            reach = reach + np.abs(machine.W[g]) * (counts[g] - 1) / 2
            coupled = span[g] * (np.abs(machine.J[g]) * span).sum()
            exponent = max(exponent, np.abs(machine.log_weights[g]).max() + coupled)
        n_states = math.prod(counts[:n_low].tolist())
        if n_states > MAX_LOW_STATES or exponent > MAX_EXPONENT:
            return
        wanted = np.clip(INNER_VALUES // len(machine.c), *INNER_STATES)
        n_inner = next((n for n in range(n_low) if math.prod(counts[:n].tolist()) >= wanted), n_low)
        for n_real in (4, 2, 1):
            if _in_fours(reach, n_real).sum(1).max(initial=0) <= REACH:
                seconds = _seconds(machine, n_inner, n_low, _ends(reach, n_real), n_real)
                yield Enumeration(machine, n_inner, n_low, n_real, seconds)
                break


def _in_fours(values: Float, n_real: int, fill: float = 0.0) -> Float:
    """Return `values` along the last axis in rows of four, `n_real` of them values and the others `fill`."""
    n_rows = -(-values.shape[-1] // n_real)
    rows = np.full((*values.shape[:-1], n_rows * n_real), fill)
    rows[..., : values.shape[-1]] = values
    rows = rows.reshape(*values.shape[:-1], n_rows, n_real)
    return np.concatenate((rows, np.full((*rows.shape[:-1], 4 - n_real), fill)), -1)


def _ends(reach: Float, n_real: int) -> Index:
    """Return the columns after which the exponent must be split off; the last column is one of them."""
    ends: list[int] = []
    total = 0.0
    rows = _in_fours(reach, n_real).sum(1).tolist()
    for i, row in enumerate(rows):
        if total + row > REACH:
            ends.append(4 * i)
            total = 0.0
        total += row
    return np.array([*ends, 4 * len(rows)], np.int64)


def _seconds(machine: Grouped, n_inner: int, n_low: int, ends: Index, n_real: int) -> float:
    """Return the predicted seconds on two cores."""
    inner, low = (math.prod(machine.counts[:n].tolist()) for n in (n_inner, n_low))
    a_state = STATE + ASIDE * len(ends) + FACTOR * ends[-1]
    a_high = HIGH_FACTOR * (len(machine.c) + inner + low // inner)
    enumerating = machine.n_states * (a_state * (1 + RUN / inner) + a_high / low) / CORES
    return float(enumerating + TABLE * low * ends[-1])


# --- plain NumPy --------------------------------------------------------------------------------------------


def states_of(machine: Grouped, groups: slice, numbers: Index | None = None) -> Float:
    """Return all states of these groups, or those with the given numbers, shape (n_states, n_groups).

    The first group changes fastest.
    """
    counts = machine.counts[groups]
    strides = np.cumprod([1, *counts[:-1]])[: len(counts)]
    numbers = np.arange(counts.prod()) if numbers is None else numbers
    return numbers[:, None] // strides % counts + machine.starts[groups]


def log_weights_of(machine: Grouped, groups: slice) -> Float:
    """Return Σ_g a_g(s_g) + s'Js / 2 for all states of these groups, shape (n_states,)."""
    states = states_of(machine, groups)
    total = np.zeros(len(states))
    for g, (start, weights) in enumerate(zip(machine.starts[groups], machine.log_weights[groups], strict=True)):
        total += weights[(states[:, g] - start).astype(np.intp)]
    J = machine.J[groups, groups]
    return total + ((states @ J) * states).sum(1) / 2 if J.any() else total


def _fields(machine: Grouped, groups: slice) -> Float:
    """Return the contribution of all states of these groups to the fields, shape (n_states, n_summed)."""
    states, W = states_of(machine, groups), machine.W[groups]
    fields = np.zeros((len(states), W.shape[1]))
    for g, row in enumerate(W):
        fields += states[:, g : g + 1] * row
    return fields


def _plain(machine: Grouped) -> float:
    """Return log Z directly by the formula."""
    every = slice(None)
    softplus = np.logaddexp(0, machine.c + _fields(machine, every)).sum(1)
    return float(np.logaddexp.reduce(log_weights_of(machine, every) + softplus))


# --- by the kernel ------------------------------------------------------------------------------------------


def _in_tasks(plan: Enumeration, report: Report, threads: int) -> float:
    """Return log Z from sums over blocks of high states, in an order that does not depend on `threads`."""
    from .enumeration_kernel import log_sum  # imported here because numba loads slowly

    low, high = low_states(plan), high_states(plan)
    coupled = bool(high.cross.any())
    n_states = plan.machine.n_states
    n_low = low.mantissas.size
    n_high = n_states // n_low
    n_tasks = min(n_high, max(1, round(plan.seconds * CORES / TASK_SECONDS)))
    bounds = [n_high * k // n_tasks for k in range(n_tasks + 1)]

    def task(k: int) -> float:
        return log_sum(bounds[k], bounds[k + 1], low, high, coupled)

    log_sums: list[float] = []
    pool = ThreadPoolExecutor(threads)
    try:
        for k, value in enumerate(pool.map(task, range(n_tasks))):
            log_sums.append(value)
            report(Progress("enumeration", bounds[k + 1] * n_low, n_states))
    finally:
        pool.shutdown(cancel_futures=True)
    top = max(log_sums)
    return top + math.log(math.fsum(math.exp(value - top) for value in log_sums))


def low_states(plan: Enumeration) -> Low:
    """Return the tables of the low groups."""
    from .enumeration_kernel import Low

    machine, inner, middle = plan.machine, slice(0, plan.n_inner), slice(plan.n_inner, plan.n_low)
    low = slice(0, plan.n_low)
    reach = np.abs(machine.W[low] * (machine.counts[low, None] - 1) / 2).sum(0)
    n_inner = int(machine.counts[inner].prod())
    tables = _in_fours(np.exp(_fields(machine, low) - _centre(machine, plan.n_low)), plan.n_real, 1.0)
    tables = tables.reshape(-1, n_inner, 4 * tables.shape[1]).transpose(0, 2, 1)
    log_weights = log_weights_of(machine, low)
    exponents = np.floor(log_weights / math.log(2))
    return Low(
        np.ascontiguousarray(tables),
        np.exp(log_weights - exponents * math.log(2)).reshape(-1, n_inner),
        exponents.astype(np.int64).reshape(-1, n_inner),
        states_of(machine, middle),
        states_of(machine, inner),
        _ends(reach, plan.n_real),
    )


def _centre(machine: Grouped, n_low: int) -> Float:
    """Return the midpoint of the low groups' contributions to each field, shape (n_summed,)."""
    return np.asarray((machine.starts + (machine.counts - 1) / 2)[:n_low] @ machine.W[:n_low])


def high_states(plan: Enumeration) -> High:
    """Return the arrays from which states of the high groups are made."""
    from .enumeration_kernel import High

    machine, low, high = plan.machine, slice(0, plan.n_low), slice(plan.n_low, None)
    log_weights = np.zeros((len(machine.counts) - plan.n_low, int(machine.counts.max(initial=0))))
    for row, weights in zip(log_weights, machine.log_weights[high], strict=True):
        row[: len(weights)] = weights
    centre = _in_fours(machine.c + _centre(machine, plan.n_low), plan.n_real, -np.inf).ravel()
    return High(
        machine.counts[high],
        machine.starts[high],
        log_weights,
        _in_fours(machine.W[high], plan.n_real).reshape(len(log_weights), len(centre)),
        np.ascontiguousarray(machine.J[high, high]),
        centre,
        np.ascontiguousarray(machine.J[low, high]),
    )
