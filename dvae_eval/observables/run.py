"""A tempered run that looks at its states: its path is that of β itself, so that each rung is the machine at a β.

From the uniform reference, the rung β_k of a machine is p_{β_k} of that machine.  The β that are asked for become
rungs, after the machine was scaled by the largest of them: no state has to be weighted.
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

# Iterations between two looks at the states; the fewest looks, and those that are made after a time limit, too.
EVERY, FEWEST_LOOKS, LEAST_LOOKS = 4, 32, 4
# No error is ever this small, so that the work ends a run.
NO_PRECISION = 1e-12
PREFIX = "averages/"


class ObservingRun(TemperedRun):
    """Parallel tempering from β = 0 to the largest β, with averages over the states at those asked for.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        Every unit has a coupling.
    betas : float64, shape (n_betas,)
        Rising.
    correlations : bool
    config : LogZConfig
        From the uniform reference, and without a precision.
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
        """The rungs of the β that are asked for."""
        return np.searchsorted(self.replicas.schedule.betas, self._observed)

    @property
    def _observed(self) -> Float:
        """The β that are asked for, of the scaled machine."""
        return np.asarray(self.observed_betas / self.observed_betas[-1])

    @property
    def precision(self) -> float:
        """Nothing but the work ends the run."""
        return NO_PRECISION

    def _begin(self, pilot: Pilot, round: int) -> None:
        """Begin the run where a pilot has ended, on its rungs and those of all β that are asked for."""
        super()._begin(_with_rungs(pilot, self._observed), round)
        self.averages = self._no_averages()
        planned = (
            self._planned(math.inf)
            if self.is_timed or self.config.n_sweeps
            else self.most_iterations(self.core_seconds)
        )
        self.observe_from = int(self.config.burn_in * planned)

    def _no_averages(self) -> Averages:
        """Return averages over nothing."""
        return Averages(self.unscaled, self.observed_betas, self.config.n_replicates, self.correlations)

    def _slice(self, replicas: Replicas) -> int:
        """Return how many iterations may pass before the next look at the clock or the states."""
        return min(super()._slice(replicas), EVERY - replicas.n_iterations % EVERY)

    def _timed(self, replicas: Replicas, n: int) -> Works:
        """Run n iterations, and look at the states if these belong to the run itself."""
        works = super()._timed(replicas, n)
        if replicas is getattr(self, "replicas", None):
            began = self.clock.elapsed
            self._look()
            self.spent.seconds += self.clock.elapsed - began
        return works

    def _look(self) -> None:
        """Add the present states to the averages, where they are due."""
        n = self.replicas.n_iterations
        if n > self.observe_from and n % EVERY == 0:
            self.averages.add(self.replicas.v[:, self.observed_rungs])

    def finish_averages(self) -> None:
        """Bring the averages to their end; where there were few looks, there are some more."""
        self.observe_from = min(self.observe_from, self.replicas.n_iterations)
        fewest = LEAST_LOOKS if self.is_timed else FEWEST_LOOKS
        while self.averages.n_seen < fewest:
            self._timed(self.replicas, self._slice(self.replicas))
        self.averages.work_off()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to continue, as plain arrays."""
        averages = {f"{PREFIX}{name}": value for name, value in self.averages.state_dict().items()}
        return {**super().state_dict(), **averages, "observe_from": np.array(self.observe_from)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `state_dict` returned, instead of adapting the schedule."""
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
    """Return a pilot with more rungs; its states are those of the nearest rung, its Δf are interpolated."""
    old = pilot.schedule.betas
    every = np.union1d(old, betas)
    if len(every) == len(old):
        return pilot
    # -log Z(β), whose derivative is minus the mean of -du/dβ.
    f = np.concatenate(([0.0], np.cumsum(pilot.shift)))
    between = CubicHermiteSpline(old, f, -pilot.works.energies.mean((0, 1)))
    nearest = np.abs(every[:, None] - old).argmin(1)
    v = np.ascontiguousarray(pilot.v[:, nearest])
    return dataclasses.replace(pilot, schedule=Schedule(every), v=v, shift=np.diff(between(every)))
