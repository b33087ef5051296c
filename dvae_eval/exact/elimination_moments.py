"""Moments of a machine by variable elimination: exact derivatives of the algorithm that computes log Z.

Forward, every table carries its first and second derivative in β.  For t = log(e^off + e^on) with p = σ(on - off),

    t' = (1 - p) off' + p on',    t'' = (1 - p) off'' + p on'' + p (1 - p) (on' - off')^2,

exactly, without finite differences.  p is the probability that the unit is on given the units of the table's
scope. Backward, from the last unit to the first, the distribution of each scope follows from that of the step that
used its table (reverse differentiation), and yields the means of units and of bonds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dvae_core.progress import Report, ignore
from dvae_core.types import Float

from ..runtime.compute import available_cores
from .elimination import BLOCK_UNITS, Elimination, Meter, Scope, Step, Term, affordable_bytes, block_sum, steps_of
from .moments import Moments, mixture_of

# Time relative to log Z alone (measured on a lattice of 20 x 20: 4.3).
SLOWER = 4.5


def seconds_of_moments(plan: Elimination) -> float:
    """Return the predicted seconds on two cores."""
    return SLOWER * plan.seconds


def is_affordable(plan: Elimination) -> bool:
    """Return whether the probabilities of all steps fit into memory: the backward pass needs all of them."""
    steps = steps_of(plan.bonds, plan.couplings, plan.order)
    return 8 * sum(1 << len(step.scope) for step in steps) <= affordable_bytes()


def eliminated_moments(
    plan: Elimination, beta: float, report: Report = ignore, threads: int | None = None
) -> Moments:
    """Return the moments at β, bit for bit the same for any number of threads.

    Parameters
    ----------
    plan : Elimination
    beta : float
    report : callable
        Called with (entries done, total entries).
    threads : int, optional
        One per core by default.
    """
    meter = Meter(plan.cost, report)
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        states = itertools.product((0.0, 1.0), repeat=len(plan.fixed))
        return mixture_of([_given(plan, beta, np.array(state), pool, meter) for state in states])


def _given(plan: Elimination, beta: float, state: Float, pool: ThreadPoolExecutor, meter: Meter) -> Moments:
    """Return the moments over the states in which the fixed units have these values."""
    z = np.zeros(len(plan.biases))
    z[plan.fixed] = state
    i, j = plan.bonds.T
    biases = plan.biases.copy()
    np.add.at(biases, i, plan.couplings * z[j])
    np.add.at(biases, j, plan.couplings * z[i])
    own = float(plan.biases @ z + plan.couplings @ (z[i] * z[j]))
    steps = steps_of(plan.bonds, plan.couplings, plan.order)
    value, slope, curvature, conditionals = _forward(steps, biases, beta, pool, meter)
    units, of_bond = _backward(steps, conditionals)
    units = units | dict(zip(plan.fixed, state.tolist(), strict=True))
    means = np.array([units[unit] for unit in range(len(z))])
    pairs = [
        of_bond[pair] if pair in of_bond else means[pair[0]] * means[pair[1]]
        for pair in map(tuple, np.sort(plan.bonds, axis=1).tolist())
    ]
    return Moments(beta * own + value, own + slope, curvature, means, np.array(pairs))


def _forward(
    steps: list[Step], biases: Float, beta: float, pool: ThreadPoolExecutor, meter: Meter
) -> tuple[float, float, float, list[Float]]:
    """Return log Z of the units in `steps`, its two derivatives, and P(unit is on | scope) for every step."""
    tables: dict[int, Float] = {}
    total, conditionals = np.zeros(3), []
    for k, step in enumerate(steps):
        messages = [(steps[source].scope, tables.pop(source)) for source in step.sources]
        off = [(scope[:-1], table[..., 0]) for scope, table in messages]
        on = [(scope[:-1], table[..., 1]) for scope, table in messages]
        on += [((other,), _with_derivatives(beta, np.array([0.0, J]))) for other, J in step.bonds]
        off.append(((), np.zeros(3)))
        on.append(((), _with_derivatives(beta, np.array(biases[step.unit]))))
        table, p = _sum_out(step.scope, off, on, pool)
        conditionals.append(p)
        if step.scope:
            tables[k] = table
        else:
            total += table
        meter.add(2 << len(step.scope))
    value, slope, curvature = total.tolist()
    return value, slope, curvature, conditionals


def _with_derivatives(beta: float, values: Float) -> Float:
    """Return β times values and its first and second derivative in β, shape (3, ...)."""
    return np.stack((beta * values, values, np.zeros_like(values)))


def _sum_out(scope: Scope, off: list[Term], on: list[Term], pool: ThreadPoolExecutor) -> tuple[Float, Float]:
    """Return log(e^off + e^on) with its derivatives, shape (3, 2, ...), and σ(on - off), both over `scope`."""
    n_outer = max(0, len(scope) - BLOCK_UNITS)
    outer, inner = scope[:n_outer], scope[n_outer:]
    table, p = np.empty((3, *(2,) * len(scope))), np.empty((2,) * len(scope))
    sums = [sorted(terms, key=lambda term: len(term[0])) for terms in (off, on)]

    def fill(block: tuple[int, ...]) -> None:
        state = dict(zip(outer, block, strict=True))
        a, b = (
            [block_sum([(term, values[order]) for term, values in terms], state, inner) for order in range(3)]
            for terms in sums
        )
        difference, slope = b[0] - a[0], b[1] - a[1]
        less = np.exp(-np.abs(difference))
        on_given = np.where(difference > 0, 1.0, less) / (1 + less)
        p[block] = on_given
        table[(0, *block)] = np.maximum(a[0], b[0]) + np.log1p(less)
        table[(1, *block)] = a[1] + on_given * slope
        table[(2, *block)] = a[2] + on_given * (b[2] - a[2]) + less / (1 + less) ** 2 * slope**2

    blocks = itertools.product((0, 1), repeat=n_outer)
    list(pool.map(fill, blocks)) if n_outer else fill(())
    return table, p


def _backward(
    steps: list[Step], conditionals: list[Float]
) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
    """Return <z_i> for the units in `steps`, and <z_i z_j> for their bonds, i < j."""
    of_scope: dict[int, Float] = {k: np.ones(()) for k, step in enumerate(steps) if not step.scope}
    units: dict[int, float] = {}
    pairs: dict[tuple[int, int], float] = {}
    for k in reversed(range(len(steps))):
        step, p, weight = steps[k], conditionals.pop(), of_scope.pop(k)
        on = weight * p
        units[step.unit] = float(on.sum())
        for other, _ in step.bonds:
            axis = step.scope.index(other)
            pairs[min(step.unit, other), max(step.unit, other)] = float(on.reshape(1 << axis, 2, -1)[:, 1].sum())
        if step.sources:
            joint, scope = np.stack((weight - on, on), -1), (*step.scope, step.unit)
            for source in step.sources:
                of_scope[source] = _marginal(joint, scope, steps[source].scope)
    return units, pairs


def _marginal(table: Float, scope: Sequence[int], kept: Sequence[int]) -> Float:
    """Return a distribution over `scope` summed over all units but the kept ones, which have the same order."""
    left = list(scope)
    for unit in scope:
        if unit not in kept:
            axis = left.index(unit)
            halves = table.reshape(1 << axis, 2, -1)
            table = halves[:, 0] + halves[:, 1]
            left.remove(unit)
    return table.reshape((2,) * len(left))
