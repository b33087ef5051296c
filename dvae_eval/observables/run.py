"""A tempered run that records its states, along β itself, so that each rung is the machine at one β.

From the uniform reference, rung β_k of a machine is its p_{β_k}.  The requested β become rungs, after the machine
was scaled by the largest of them, so that no state needs a weight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from dvae_core.types import Float

from ..config import LogZConfig
from ..log_z.adapt import Pilot
from ..log_z.run import TemperedRun
from ..machine import BipartiteMachine, GeneralMachine, Machine
from ..runtime.clock import Clock
from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from .averages import Averages

# Iterations between two records of the states; least number of records, and least number under a time limit.
EVERY, FEWEST_RECORDS, LEAST_RECORDS = 4, 32, 4
# No error is this small, so that only the work limit ends a run.
NO_PRECISION = 1e-12
PREFIX = "averages/"


class ObservingRun(TemperedRun):
    """Parallel tempering from β = 0 to the largest β, with averages over the states at the requested β.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        Every unit has a coupling.
    betas : float64, shape (n_betas,)
        In increasing order.
    correlations : bool
    config : LogZConfig
        Uniform reference, no precision.
    device, threads, offset, clock
        See `TemperedRun`.
    """

    averages: Averages
    observe_from: int

    def __init__(
        self,
        machine: Machine,
        betas: Float,
        correlations: bool,
        config: LogZConfig,
        device: str = "cpu",
        threads: int = 1,
        offset: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.unscaled, self.observed_betas, self.correlations = machine.reduced(), betas, correlations
        super().__init__(scaled(machine, float(betas[-1])), config, device, threads, offset, clock)

    @property
    def observed_rungs(self) -> NDArray[np.intp]:
        """Indices of the rungs at the requested β."""
        return np.searchsorted(self.replicas.schedule.betas, self._observed)

    @property
    def _observed(self) -> Float:
        """The requested β, relative to the scaled machine."""
        return np.asarray(self.observed_betas / self.observed_betas[-1])

    @property
    def precision(self) -> float:
        """A precision that is never reached: only the work limit ends the run."""
        return NO_PRECISION

    def _begin(self, pilot: Pilot, round: int) -> None:
        """Start the run from the end of a pilot, with its rungs and those of all requested β."""
        super()._begin(_with_rungs(pilot, self._observed), round)
        self.averages = self._no_averages()
        planned = (
            self._planned(math.inf)
            if self.is_timed or self.config.n_sweeps
            else self.most_iterations(self.core_seconds)
        )
        self.observe_from = int(self.config.burn_in * planned)

    def _no_averages(self) -> Averages:
        """Return empty averages."""
        return Averages(self.unscaled, self.observed_betas, self.config.n_replicates, self.correlations)

    def _slice(self, replicas: Replicas) -> int:
        """Return the number of iterations before the next check of the clock or record of the states."""
        return min(super()._slice(replicas), EVERY - replicas.n_iterations % EVERY)

    def _timed(self, replicas: Replicas, n: int) -> Works:
        """Run n iterations, and record the states if they belong to the run itself."""
        works = super()._timed(replicas, n)
        if replicas is getattr(self, "replicas", None):
            began = self.clock.elapsed
            self._record()
            self.spent.seconds += self.clock.elapsed - began
        return works

    def _record(self) -> None:
        """Add the present states to the averages, if that is due."""
        n = self.replicas.n_iterations
        if n > self.observe_from and n % EVERY == 0:
            self.averages.add(self.replicas.v[:, self.observed_rungs])

    def finish_averages(self) -> None:
        """Complete the averages, with further iterations if there are too few records."""
        self.observe_from = min(self.observe_from, self.replicas.n_iterations)
        fewest = LEAST_RECORDS if self.is_timed else FEWEST_RECORDS
        while self.averages.n_seen < fewest:
            self._timed(self.replicas, self._slice(self.replicas))
        self.averages.work_off()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue, as plain arrays."""
        averages = {f"{PREFIX}{name}": value for name, value in self.averages.state_dict().items()}
        return {**super().state_dict(), **averages, "observe_from": np.array(self.observe_from)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state that `state_dict` returned, instead of adapting the schedule."""
        super().load_state_dict(state)
        self.averages, self.observe_from = self._no_averages(), int(state["observe_from"])
        mine = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        self.averages.load_state_dict(mine)


def scaled(machine: Machine, beta: float) -> Machine:
    """Return the machine of p_β: all couplings and biases times β."""
    if beta == 1:
        return machine
    if isinstance(machine, BipartiteMachine):
        return BipartiteMachine(beta * machine.W, beta * machine.b_left, beta * machine.b_right, machine.order)
    return GeneralMachine(beta * machine.J, beta * machine.b, machine.classes)


def _with_rungs(pilot: Pilot, betas: Float) -> Pilot:
    """Return a pilot with additional rungs, with the states of the nearest rungs and interpolated Δf."""
    old = pilot.schedule.betas
    every = np.union1d(old, betas)
    if len(every) == len(old):
        return pilot
    # -log Z(β), with derivative minus the mean of -du/dβ.
    f = np.concatenate(([0.0], np.cumsum(pilot.shift)))
    between = CubicHermiteSpline(old, f, -pilot.works.energies.mean((0, 1)))
    nearest = np.abs(every[:, None] - old).argmin(1)
    v = np.ascontiguousarray(pilot.v[:, nearest])
    return dataclasses.replace(pilot, schedule=Schedule(every), v=v, shift=np.diff(between(every)))
