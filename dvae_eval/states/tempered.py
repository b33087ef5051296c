"""States from the target rung of a tempered run: thinned by their measured correlation time, and checked.

After the run has ended, its chains continue, and are examined at regular intervals.  How slowly the weight of a
state, the number of units that are on and the leading principal components change says how far apart states must
be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float

from ..log_z.best_reference import tempered_from_best_reference
from ..log_z.methods import Estimate, LogZTask
from ..log_z.run import TemperedRun
from ..machine import Reduced
from ..runtime.clock import Clock
from ..verdict import Check
from .thinning import autocorrelation_time, leading_components, r_hat

Bits = NDArray[np.uint8]
# Looks at each replicate, at least; and how often as long a stretch of looks as the time is measured over.
LOOKS, LONG, LEAST_LONG = 256, 50.0, 20.0
# Autocorrelation times between two states of a replicate: e^-4 of a slow mode is left.
APART = 4.0
# Iterations that looks may take, in those of the run before.
MOST = 2.0
# Principal components that are followed, and the states that they are computed from.
COMPONENTS, COMPONENT_STATES = 3, 1000
# Replicates that agree have about 1.04 at LONG autocorrelation times, see `thinning.r_hat`, and less in longer
# runs: 60 seeds of a machine of two modes had 1.02 at the most.
R_HAT = 1.1
LONGER = "use more --sweeps, or a smaller --precision"


@dataclass(frozen=True, slots=True)
class TemperedStates:
    """States of the kept units of a machine, with the estimate of log Z of the same run.

    Attributes
    ----------
    v : uint8, shape (n, n_kept)
        Look by look, all replicates in turn.
    best : uint8, shape (n_kept,)
        The kept units of the best state seen.
    estimate : Estimate
    checks : list of Check
    diagnostics : dict
    """

    v: Bits
    best: Bits
    estimate: Estimate
    checks: list[Check]
    diagnostics: dict[str, Any]


def draw_by_tempering(task: LogZTask, n: int, clock: Clock) -> TemperedStates:
    """Return n states of the kept units by a run of parallel tempering, with the checks of both.

    The task's own clock ends the run, and `clock` the looks after it.
    """
    run, estimate = tempered_from_best_reference(task)
    looks = _Looks(run, -(-n // run.config.n_replicates), clock.left, task.report("taking states"))
    looks.take()
    v, effective = looks.thinned(n)
    checks = [
        Check.at_most(
            "R-hat of the replicates, the largest", looks.r_hat, R_HAT, f"replicates disagree; {LONGER}"
        ),
        Check.at_least("autocorrelation times that states are taken over", looks.length, LEAST_LONG, LONGER),
        Check.at_least(
            "effective number of states",
            effective,
            n / 2,
            f"states of a replicate are {looks.apart(n):.3g} sweeps apart, and remember {looks.time:.3g}; "
            f"ask for fewer, or {LONGER}",
            warning=True,
        ),
    ]
    diagnostics = {
        "autocorrelation_times": looks.times,
        "r_hats": looks.r_hats,
        "effective_states": effective,
        "sweeps_between_states": looks.apart(n),
        "n_replicates": run.config.n_replicates,
    }
    return TemperedStates(v, looks.best, estimate, checks, diagnostics)


def log_weights(reduced: Reduced, v: NDArray[Any], unit: Callable[[Float], Float]) -> Float:
    """Return the log weight of states of the kept units, shape (n,); `unit` takes the field of a summed one.

    With log(1 + e^x) for `unit` the others are summed out, with max(0, x) they are at their best.
    """
    x = np.asarray(v, np.float64)
    total: Float = x @ reduced.b + unit(x @ reduced.W + reduced.c).sum(1)
    return total if reduced.J is None else total + (x @ reduced.J * x).sum(1) / 2


def settled(reduced: Reduced, v: Bits) -> Bits:
    """Return a state of the kept units that no class of units can improve on, starting at `v`, shape (n_kept,)."""
    x = v.astype(np.float64)
    while True:
        before = x.copy()
        h = (x @ reduced.W + reduced.c > 0).astype(np.float64)
        for block in reduced.blocks:
            field = reduced.b[block] + (reduced.W @ h)[block]
            if reduced.J is not None:
                field = field + (reduced.J @ x)[block]
            x[block] = np.where(field == 0, x[block], field > 0)
        if np.array_equal(x, before):
            return x.astype(np.uint8)


def _positive(x: Float) -> Float:
    return np.maximum(x, 0)


class _Looks:
    """Looks at the target rung of all replicates, with what is followed from one to the next.

    Parameters
    ----------
    run : TemperedRun
        At its end.
    n_each : int
        States that are wanted of each replicate.
    seconds : float
        What the looks may take, about.
    report : callable, optional
        Called with (iterations done, foreseen).
    """

    def __init__(
        self, run: TemperedRun, n_each: int, seconds: float, report: Callable[[int, int], None] | None
    ) -> None:
        self.run, self.report, self.n_each = run, report, n_each
        self.n_looks, self.stride = max(LOOKS, n_each + n_each % 2), 1
        self.n_kept = len(run.reduced.b)
        self.packed: list[Bits] = []  # (n_replicates, n_bytes) each
        self.weights: list[Float] = []  # log weights, (n_replicates,) each
        self.best, self.most = np.zeros(self.n_kept, np.uint8), -math.inf
        affordable = seconds / run.seconds_per_iteration(run.replicas)
        self.limit = max(min(MOST * run.n_iterations, affordable), self.n_looks)

    def take(self) -> None:
        """Look until states can be far enough apart, or that would take too long."""
        while True:
            self._fill()
            self._measure()
            wanted = max(LONG * self.time, self.n_each * APART * self.time)
            n = self.n_looks * self.stride
            if n >= wanted or 2 * n > self.limit:
                return
            self.packed, self.weights = self.packed[1::2], self.weights[1::2]
            self.stride *= 2

    def _fill(self) -> None:
        """Look until there are as many looks as there are to be."""
        while len(self.packed) < self.n_looks:
            self.run.replicas.run(self.stride)
            v = self.run.replicas.v[:, -1]
            self.packed.append(np.packbits(v, axis=1))
            self.weights.append(log_weights(self.run.reduced, v, lambda x: np.logaddexp(0, x)))
            at_best = log_weights(self.run.reduced, v, _positive)
            if (most := float(at_best.max())) > self.most:
                self.best, self.most = v[at_best.argmax()].copy(), most
            if self.report:
                self.report(len(self.packed) * self.stride, self.n_looks * self.stride)

    def _measure(self) -> None:
        """Measure autocorrelation times, in iterations, and R-hat of everything that is followed."""
        followed = self._followed()
        self.times = {name: self.stride * autocorrelation_time(values) for name, values in followed.items()}
        self.r_hats = {name: r_hat(values) for name, values in followed.items()}
        self.time, self.r_hat = max(self.times.values()), max(self.r_hats.values())
        self.length = self.n_looks * self.stride / self.time

    def _followed(self) -> dict[str, Float]:
        """Return what is followed, shape (n_looks, n_replicates) each."""
        every = max(1, self.n_looks * len(self.packed[0]) // COMPONENT_STATES)
        some = np.concatenate(self.packed)[::every]
        states = self._unpacked(some).astype(np.float64)
        mean = states.mean(0)
        components = leading_components(states - mean, COMPONENTS)
        on, along = [], []
        for packed in self.packed:
            v = self._unpacked(packed)
            on.append(v.sum(1, dtype=np.float64))
            along.append((v - mean) @ components.T)
        parts = np.moveaxis(np.array(along), 2, 0)
        return {
            "log weight": np.array(self.weights),
            "units that are on": np.array(on),
            **{f"component {k + 1}": part for k, part in enumerate(parts)},
        }

    def _unpacked(self, packed: Bits) -> Bits:
        return np.unpackbits(packed, axis=1, count=self.n_kept)

    def apart(self, n: int) -> float:
        """Return how many iterations lie between states of a replicate."""
        return self.n_looks * self.stride / -(-n // len(self.packed[0]))

    def thinned(self, n: int) -> tuple[Bits, float]:
        """Return n states, evenly spread, and how many independent ones they are worth.

        Of values whose correlation decays as e^(-t / τ), (1 - ρ) / (1 + ρ) of their number, ρ that of neighbours.
        """
        effective = n * math.tanh(self.apart(n) / (2 * self.time))
        return np.concatenate(list(self._chosen()))[:n], effective

    def _chosen(self) -> Iterator[Bits]:
        """Yield the states of the looks that are taken."""
        for look in ((np.arange(self.n_each) + 0.5) * self.n_looks / self.n_each).astype(np.intp).tolist():
            yield self._unpacked(self.packed[look])
