"""Independent states by elimination: units are drawn in the reverse of the order in which they were summed out.

A unit's table was made from those of its sources and from its own bonds.  Given the units of its scope, which are
drawn before it, the same terms are its log-odds.  The tables are therefore kept.  If all of them would take too
much memory, they are computed a second time, in stretches from the end.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float

from ..runtime.compute import available_cores
from .elimination import Add, Elimination, Step, table_of_step

Bits = NDArray[np.uint8]
Tables = dict[int, Float]
MAX_STRETCHES = 1 << 10


def elimination_draw_bytes(plan: Elimination, max_bytes: int) -> int:
    """Return the bytes of tables that a draw takes: at most `max_bytes` if a division into stretches allows it."""
    return _layout(_depth_first(plan), max_bytes)[1]


def draw_eliminated(
    plan: Elimination,
    n: int,
    rng: np.random.Generator,
    max_bytes: int,
    report: Report = ignore,
    threads: int | None = None,
) -> tuple[Bits, float]:
    """Return n independent states, shape (n, n_units), and log Z, nats.

    Parameters
    ----------
    plan : Elimination
    n : int
    rng : numpy.random.Generator
    max_bytes : int
        Limit for the tables; see `elimination_draw_bytes`.
    report : callable
        Called with (steps done, total steps).
    threads : int, optional
        The states do not depend on it.
    """
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        passes = _Passes(plan, max_bytes, pool, report, None)
        fixed = list(plan.fixed_states())
        log_sums = np.array([constant + passes.forward(biases) for _, constant, biases in fixed])
        log_z = float(np.logaddexp.reduce(log_sums))
        chosen = rng.choice(len(fixed), n, p=np.exp(log_sums - log_z) / np.exp(log_sums - log_z).sum())
        x = np.empty((n, len(plan.biases)), np.uint8)
        for k in np.unique(chosen).tolist():
            mine = np.flatnonzero(chosen == k)
            z, _, biases = fixed[k]
            if len(fixed) > 1:  # otherwise this pass has just been made
                passes.forward(biases)
            states = np.empty((len(mine), len(plan.biases)), np.uint8)
            states[:, plan.fixed] = z
            passes.backward(states, biases, lambda odds: _bernoulli(odds, rng))
            x[mine] = states
    return x, log_z


def best_eliminated(
    plan: Elimination, max_bytes: int, report: Report = ignore, threads: int | None = None
) -> Bits:
    """Return the most probable state, shape (n_units,), by maxima instead of sums."""
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        passes = _Passes(plan, max_bytes, pool, report, np.maximum)
        fixed = list(plan.fixed_states())
        most = [constant + passes.forward(biases) for _, constant, biases in fixed]
        z, _, biases = fixed[int(np.argmax(most))]
        if len(fixed) > 1:
            passes.forward(biases)
        states = np.empty((1, len(plan.biases)), np.uint8)
        states[:, plan.fixed] = z
        passes.backward(states, biases, lambda odds: odds > 0)
    best: Bits = states[0]
    return best


def _bernoulli(odds: Float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return one draw per log-odds."""
    return np.asarray(rng.random(len(odds)) < 1 / (1 + np.exp(-np.clip(odds, -700, 700))))


class _Passes:
    """Passes over the steps: forward to compute tables, backward to choose states.

    All tables of a stretch are kept while its units are chosen; of earlier tables, those that later steps use.
    """

    def __init__(
        self, plan: Elimination, max_bytes: int, pool: ThreadPoolExecutor, report: Report, add: Add | None
    ) -> None:
        self.pool, self.report, self.add = pool, report, add
        self.steps = _depth_first(plan)
        self.ends = _layout(self.steps, max_bytes)[0]
        self.before: list[Tables] = []  # the tables before each stretch that later steps use
        self.last: Tables = {}  # tables of the last stretch

    def forward(self, biases: Float) -> float:
        """Compute all tables, and return the logarithm of the sum, or the maximum."""
        self.before, self.last, total = [], {}, 0.0
        for start, stop in zip([0, *self.ends], self.ends, strict=False):
            self.before.append(dict(self.last))
            total += self._stretch(start, stop, self.last, biases, stop == self.ends[-1])
        return total

    def backward(self, states: Bits, biases: Float, choose: Callable[[Float], NDArray[np.bool_]]) -> None:
        """Choose the units of states, (n, n_units), from the last to the first, except for the fixed ones."""
        tables = self.last
        for number in reversed(range(len(self.ends))):
            start, stop = [0, *self.ends][number], self.ends[number]
            if number < len(self.ends) - 1:
                tables = dict(self.before[number])
                self._stretch(start, stop - 1, tables, biases, True)
            for k in reversed(range(start, stop)):
                step = self.steps[k]
                states[:, step.unit] = choose(self._odds(step, tables, states, biases))
                if k % 16 == 0:
                    self._report(2 * len(self.steps) - k)

    def _stretch(self, start: int, stop: int, tables: Tables, biases: Float, keep: bool) -> float:
        """Compute the tables of some steps; return the sum of those with an empty scope."""
        total = 0.0
        for k in range(start, stop):
            table = table_of_step(self.steps, k, tables, biases, self.pool, self.add)
            if self.steps[k].scope:
                tables[k] = table
            else:
                total += float(table)
            if not keep:
                for source in self.steps[k].sources:
                    del tables[source]
            if k % 16 == 0:
                self._report(k)
        return total

    def _report(self, n_steps: int) -> None:
        """Report the number of finished steps, forward and backward."""
        self.report(Progress("elimination", n_steps, 2 * len(self.steps)))

    def _odds(self, step: Step, tables: Tables, states: Bits, biases: Float) -> Float:
        """Return the log-odds of a step's unit given later units, shape (n,)."""
        odds = np.full(len(states), biases[step.unit])
        for other, coupling in step.bonds:
            odds += coupling * states[:, other]
        for source in step.sources:
            place = np.zeros(len(states), np.intp)
            for unit in self.steps[source].scope[:-1]:
                place = 2 * place + states[:, unit]
            pairs = tables[source].reshape(-1, 2)[place]
            odds += pairs[:, 1] - pairs[:, 0]
        return odds


def _depth_first(plan: Elimination) -> list[Step]:
    """Return the steps in an order with the same tables but fewer of them waiting to be used.

    A step comes after its sources, the one with the largest subtree first (postorder of the elimination tree).
    """
    steps = plan.steps()
    below = [1] * len(steps)
    for k, step in enumerate(steps):
        below[k] += sum(below[source] for source in step.sources)
    waiting = [k for k, step in enumerate(steps) if not step.scope]
    order: list[int] = []  # reversed
    while waiting:
        k = waiting.pop()
        order.append(steps[k].unit)
        waiting += sorted(steps[k].sources, key=lambda source: (-below[source], source))
    return replace(plan, order=order[::-1]).steps()


def _layout(steps: list[Step], max_bytes: int) -> tuple[list[int], int]:
    """Return the ends of the fewest stretches whose tables fit into `max_bytes`, and the bytes that they take."""
    sizes = np.array([8 << len(step.scope) if step.scope else 0 for step in steps], np.float64)
    taken_in = np.full(len(steps), len(steps))
    for k, step in enumerate(steps):
        taken_in[step.sources] = k
    reached = np.cumsum(sizes)
    number, n, least = np.arange(len(steps)), 1, ([len(steps)], 1 << 62)
    while n <= min(MAX_STRETCHES, 2 * len(steps)):
        ends = np.unique(np.searchsorted(reached, reached[-1] * np.arange(1, n) / n, side="right"))
        ends = np.append(ends[(ends > 0) & (ends < len(steps))], len(steps))
        lasting = np.zeros(len(steps), bool)
        for end in ends[:-1]:
            lasting |= (number < end) & (taken_in >= end)
        largest = max(sizes[a:b].sum() for a, b in pairwise([0, *ends.tolist()]))
        most = int(sizes[lasting].sum() + largest)
        least = min(least, (ends.tolist(), most), key=lambda found: found[1])
        if most <= max_bytes:
            break
        n *= 2
    return least
