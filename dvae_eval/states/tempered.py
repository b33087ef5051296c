"""States from the target rung of a tempered run: thinned by their measured correlation time, and checked.

After the run, its chains continue, and their states are recorded at regular intervals.  The autocorrelation times
of a state's weight, of the number of units that are on and of the leading principal components decide how far
apart samples are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.progress import Progress, Report
from dvae_core.types import Float

from ..log_z.best_reference import tempered_from_best_reference
from ..log_z.methods import Estimate, LogZTask
from ..log_z.run import TemperedRun
from ..machine import Reduced
from ..runtime.clock import Clock
from ..verdict import Check
from .thinning import autocorrelation_time, leading_components, r_hat

Bits = NDArray[np.uint8]
# Least number of records per replicate; target and least length of the recorded stretch, in autocorrelation times.
N_RECORDS, LONG, LEAST_LONG = 256, 50.0, 20.0
# Autocorrelation times between two samples of a replicate: a correlation of e^-4 is left.
APART = 4.0
# Largest number of iterations while recording, relative to the run before.
MOST = 2.0
# Principal components to follow, and the number of states from which they are computed.
COMPONENTS, COMPONENT_STATES = 3, 1000
# Replicates that agree have an R-hat of about 1.04 at LONG autocorrelation times, see `thinning.r_hat`, and less
# in longer runs: over 60 seeds of a machine of two modes, the largest was 1.02.
R_HAT = 1.1
LONGER = "use more --sweeps, or a smaller --precision"


@dataclass(frozen=True, slots=True)
class TemperedStates:
    """States of the kept units of a machine, with the estimate of log Z of the same run.

    Attributes
    ----------
    v : uint8, shape (n, n_kept)
        Record by record, with all replicates in turn.
    best : uint8, shape (n_kept,)
        The kept units of the best state recorded.
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

    The task's own clock limits the run, and `clock` the records after it.
    """
    run, estimate = tempered_from_best_reference(task)
    records = _Records(run, -(-n // run.config.n_replicates), clock.left, task.report)
    records.take()
    v, effective = records.thinned(n)
    checks = [
        Check.at_most(
            "R-hat of the replicates, the largest", records.r_hat, R_HAT, f"replicates do not agree; {LONGER}"
        ),
        Check.at_least("autocorrelation times that states are taken over", records.length, LEAST_LONG, LONGER),
        Check.at_least(
            "effective number of states",
            effective,
            n / 2,
            f"states of a replicate are {records.apart(n):.3g} sweeps apart, and their autocorrelation time is "
            f"{records.time:.3g} sweeps; ask for fewer states, or {LONGER}",
            warning=True,
        ),
    ]
    diagnostics = {
        "autocorrelation_times": records.times,
        "r_hats": records.r_hats,
        "effective_states": effective,
        "sweeps_between_states": records.apart(n),
        "n_replicates": run.config.n_replicates,
    }
    return TemperedStates(v, records.best, estimate, checks, diagnostics)


def log_weights(reduced: Reduced, v: NDArray[Any], unit: Callable[[Float], Float]) -> Float:
    """Return the log weight of states of the kept units, shape (n,); `unit` maps the field of a summed-out unit.

    With log(1 + e^x) as `unit`, the other units are summed out; with max(0, x), they are in their best state.
    """
    x = np.asarray(v, np.float64)
    total: Float = x @ reduced.b + unit(x @ reduced.W + reduced.c).sum(1)
    return total if reduced.J is None else total + (x @ reduced.J * x).sum(1) / 2


def settled(reduced: Reduced, v: Bits) -> Bits:
    """Return a state of the kept units, shape (n_kept,), that no class can improve, starting at `v`."""
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


class _Records:
    """Records of the target rung in all replicates, with the quantities whose correlation is measured.

    Parameters
    ----------
    run : TemperedRun
        A finished run.
    n_each : int
        Number of states to take from each replicate.
    seconds : float
        Approximate time limit for recording.
    report : callable
        Called with the iterations done and planned.
    """

    def __init__(self, run: TemperedRun, n_each: int, seconds: float, report: Report) -> None:
        self.run, self.report, self.n_each = run, report, n_each
        self.n_records, self.stride = max(N_RECORDS, n_each + n_each % 2), 1
        self.n_kept = len(run.reduced.b)
        self.packed: list[Bits] = []  # (n_replicates, n_bytes) each
        self.weights: list[Float] = []  # log weights, (n_replicates,) each
        self.best, self.most = np.zeros(self.n_kept, np.uint8), -math.inf
        affordable = seconds / run.seconds_per_iteration(run.replicas)
        self.limit = max(min(MOST * run.n_iterations, affordable), self.n_records)

    def take(self) -> None:
        """Record until states can be far enough apart, or until that would take too long."""
        while True:
            self._fill()
            self._measure()
            wanted = max(LONG * self.time, self.n_each * APART * self.time)
            n = self.n_records * self.stride
            if n >= wanted or 2 * n > self.limit:
                return
            self.packed, self.weights = self.packed[1::2], self.weights[1::2]
            self.stride *= 2

    def _fill(self) -> None:
        """Record until there are `n_records` records."""
        while len(self.packed) < self.n_records:
            self.run.replicas.run(self.stride)
            v = self.run.replicas.v[:, -1]
            self.packed.append(np.packbits(v, axis=1))
            self.weights.append(log_weights(self.run.reduced, v, lambda x: np.logaddexp(0, x)))
            at_best = log_weights(self.run.reduced, v, _positive)
            if (most := float(at_best.max())) > self.most:
                self.best, self.most = v[at_best.argmax()].copy(), most
            n_done, n_planned = len(self.packed) * self.stride, self.n_records * self.stride
            self.report(Progress("taking states", n_done, n_planned))

    def _measure(self) -> None:
        """Compute autocorrelation times, in iterations, and R-hat of all followed quantities."""
        followed = self._followed()
        self.times = {name: self.stride * autocorrelation_time(values) for name, values in followed.items()}
        self.r_hats = {name: r_hat(values) for name, values in followed.items()}
        self.time, self.r_hat = max(self.times.values()), max(self.r_hats.values())
        self.length = self.n_records * self.stride / self.time

    def _followed(self) -> dict[str, Float]:
        """Return the followed quantities, shape (n_records, n_replicates) each."""
        every = max(1, self.n_records * len(self.packed[0]) // COMPONENT_STATES)
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
        """Return the number of iterations between two states of a replicate."""
        return self.n_records * self.stride / -(-n // len(self.packed[0]))

    def thinned(self, n: int) -> tuple[Bits, float]:
        """Return n states, evenly spaced, and their effective number.

        If correlations decay as e^(-t / τ), it is n (1 - ρ) / (1 + ρ), with ρ the correlation of neighbours.
        """
        effective = n * math.tanh(self.apart(n) / (2 * self.time))
        return np.concatenate(list(self._chosen()))[:n], effective

    def _chosen(self) -> Iterator[Bits]:
        """Yield the states of the chosen records."""
        for record in ((np.arange(self.n_each) + 0.5) * self.n_records / self.n_each).astype(np.intp).tolist():
            yield self._unpacked(self.packed[record])
