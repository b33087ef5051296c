"""One estimate of log Z by parallel tempering and BAR: a run that ends when it is precise, and can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dvae_core.errors import ConfigError
from dvae_core.io.memory import require_memory

from ..config import LogZConfig
from ..machine import Machine, Reduced
from ..runtime.memory_estimate import tempering_bytes
from ..sampling.basins import find_basins
from ..sampling.reference import Base, fitted_base
from ..sampling.replicas import Tempering
from ..sampling.schedule import Ladder
from .adapt import FIRST_RUNGS, run_pilot
from .bar import Bridge, bridge_of_sums
from .work_sums import WorkSums

__all__ = ["TemperedRun"]

Float = NDArray[np.float64]

# Where no precision is asked for: the standard error that ends the run, and the core-seconds that it may take,
# which are predicted, not measured, so that the number does not hang on the load of the machine.
PRECISION, CORE_SECONDS = 0.002, 40.0
# Iterations that are added up at a time, and the least that are made.
PIECE, MIN_ITERATIONS = 32, 640
# An early standard error is a guess: a run never more than doubles between two looks at it.
GROWTH, MARGIN = 2.0, 1.1
# How many of the target's states a base is fitted to, and how many iterations are between those of a ladder.
N_FITTED, FIT_EVERY = 1000, 10
# Of float32, relative: fields are computed in it.  Beyond the largest one, a unit in the last place is a nat.
HALF_UNIT, LARGEST_FIELD = 2.0**-24, 2.0**24
TELL_SECONDS, SAVE_SECONDS = 0.5, 10.0


class TemperedRun:
    """Parallel tempering of one machine until the standard error is small enough, or the run is long enough.

    The first half of the ladders starts at β = 0, the other in the deepest basins that `find_basins` knows: that
    the two agree is a check.  All random numbers follow from the seed, and the number of threads does not matter.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    config : LogZConfig
    device : str
    threads : int
        Of the CPU.
    offset : float
        Nats that are added to log Z: what is not the machine's own, such as units that were taken out of it.

    Raises
    ------
    ConfigError
        If the couplings are too large for float32.

    Attributes
    ----------
    n_iterations : int
        Block Gibbs sweeps of every chain since the rungs were placed.
    stopped : str
        Why the run ended: `precision`, `sweeps`, `work` or `time limit`; empty before.
    """

    def __init__(
        self, machine: Machine, config: LogZConfig, device: str = "cpu", threads: int = 1, offset: float = 0.0
    ) -> None:
        self.machine, self.config, self.device, self.threads = machine, config, device, threads
        self.offset = offset
        self.reduced = machine.reduced()
        _check_range(self.reduced, config.method)
        self.basins = find_basins(self.reduced, config.seed)
        self.n_iterations, self.look, self.stopped = 0, 0, ""
        self.piece = min(PIECE, max(1, config.n_sweeps // 40)) if config.n_sweeps else PIECE

    def compile_kernels(self) -> None:
        """Let numba compile what this machine needs, or read it from its cache, before any clock is started."""
        tempering = Tempering(self.machine, Ladder.uniform(1), 2, 0, 0, self.device)
        tempering.anneal(1)
        tempering.run(1)

    def place_rungs(self, deadline: float = math.inf, progress: Callable[[int, int], None] | None = None) -> None:
        """Make the ladder, in a pilot run; from a fitted base in two.  No round begins after the deadline."""
        ordered = self.basins.draw(self.config.n_ladders // 2, FIRST_RUNGS + 1, self.config.seed)
        self.base = Base.uniform(self.machine)
        how: dict[str, Any] = {"ordered": ordered, "device": self.device, "threads": self.threads}
        how |= {"deadline": deadline, "progress": progress}
        pilot = run_pilot(self.machine, self.config, base=self.base, **how)
        if self.config.base == "fitted":
            self.tempering = self._replicas(pilot.ladder, pilot.v)
            self.base = fitted_base(self.machine, self.target_samples(N_FITTED, FIT_EVERY, FIT_EVERY))
            pilot = run_pilot(self.machine, self.config, base=self.base, key=1, **how)
        self.settled = pilot.settled
        n_ladders, n_rungs = self.config.n_ladders, len(pilot.ladder.betas)
        more = tempering_bytes(self.machine, n_ladders, n_rungs) - tempering_bytes(self.machine, n_ladders)
        require_memory(more, "--ladders", f"tempering {n_ladders} ladders of {n_rungs} rungs", "give fewer")
        self.tempering = self._replicas(pilot.ladder, pilot.v)
        self.sums = WorkSums(pilot.shift, self.config.n_ladders, self.piece)

    def advance(
        self,
        deadline: float = math.inf,
        tell: Callable[[int, int, Bridge], None] | None = None,
        save: Callable[[], None] | None = None,
    ) -> None:
        """Run to the end.

        Parameters
        ----------
        deadline : float
            On the clock of `time.monotonic`.
        tell : callable, optional
            Called with (iterations done, planned, estimate so far) about twice a second.
        save : callable, optional
            Called now and then, when `state_dict` is worth keeping.
        """
        told = saved = time.monotonic()
        while not self._at_its_end():
            self.sums.add(self.tempering.run(self.piece))
            self.n_iterations += self.piece
            now = time.monotonic()
            if now > deadline and self.sums.n_stretches > 1:
                self.stopped = "time limit"
            if tell and now - told > TELL_SECONDS and self.sums.n_stretches > 1:
                tell(self.n_iterations, self.look, self.bridge())
                told = now
            if save and now - saved > SAVE_SECONDS:
                save()
                saved = now

    def _at_its_end(self) -> bool:
        """Look at the error where that is due, and decide whether the run is at its end."""
        if not self.stopped and self.n_iterations >= self.look:
            self.stopped = self._reason_to_stop() if self.n_iterations else ""
            self.look = self._next_look()
        return bool(self.stopped)

    @property
    def first_stretch(self) -> int:
        """The first stretch that is no burn-in."""
        return min(round(self.config.burn_in * self.sums.n_stretches), self.sums.n_stretches - 1)

    def bridge(self) -> Bridge:
        """Return the estimate from what is not burn-in."""
        return bridge_of_sums(self.sums, self.first_stretch)

    @property
    def log_z_0(self) -> float:
        """Log Z at β = 0, with the offset, nats."""
        return self.base.log_z + self.offset

    @property
    def lower_bounds(self) -> Float:
        """Strict lower bounds of log Z, with the offset, the best one first, nats."""
        bounds: Float = self.basins.bounds + self.offset
        return bounds

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to go on, as plain arrays."""
        return {
            "betas": self.tempering.ladder.betas,
            "base_b": self.base.b,
            "base_c": self.base.c,
            "settled": np.array(self.settled),
            "n_iterations": np.array(self.n_iterations),
            "look": np.array(self.look),
            **{f"tempering/{name}": value for name, value in self.tempering.state_dict().items()},
            **{f"sums/{name}": value for name, value in self.sums.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `state_dict` returned, instead of placing the rungs."""
        self.base = Base(state["base_b"], state["base_c"])
        self.settled = bool(state["settled"])
        self.n_iterations, self.look = int(state["n_iterations"]), int(state["look"])
        self.tempering = self._replicas(Ladder(state["betas"]), None)
        self.tempering.load_state_dict(_below(state, "tempering/"))
        self.sums = WorkSums.from_state(_below(state, "sums/"))

    def target_samples(self, n: int, every: int, burn_in: int) -> NDArray[np.uint8]:
        """Return n states of the kept units at β = 1, (n, n_kept), `every` iterations apart on each ladder."""
        self.tempering.run(burn_in)
        samples: list[NDArray[np.uint8]] = []
        while len(samples) * self.config.n_ladders < n:
            self.tempering.run(every)
            samples.append(self.tempering.v[:, -1])
        return np.concatenate(samples)[:n]

    def _replicas(self, ladder: Ladder, v: NDArray[np.uint8] | None) -> Tempering:
        """Return the replicas of the run itself."""
        config = self.config
        return Tempering(
            self.machine,
            ladder,
            config.n_ladders,
            config.seed,
            0,
            self.device,
            base=self.base,
            v=v,
            exchange=config.exchange,
            energies=config.energies,
            threads=self.threads,
        )

    @property
    def precision(self) -> float:
        """The standard error that ends the run, nats."""
        return self.config.precision or PRECISION

    @property
    def rounding(self) -> float:
        """What float32 may do to log Z, nats: half a unit in the last place of all terms at a mode."""
        m, v = self.reduced, self.basins.means
        h = expit(m.c + v @ m.W)
        terms = (v @ np.abs(m.W) * h).sum(1) + v @ np.abs(m.b) + h @ np.abs(m.c)
        if m.J is not None:
            terms += (v @ np.abs(m.J) * v).sum(1) / 2
        return HALF_UNIT * float(terms.max() + math.log(2) * self.machine.n_units)

    def most_iterations(self) -> int | None:
        """Return how many iterations the work allows, of all threads; None where a precision was asked for."""
        if self.config.precision:
            return None
        n_chains = self.config.n_ladders * len(self.tempering.ladder.betas)
        return max(MIN_ITERATIONS, int(CORE_SECONDS / (n_chains * seconds_per_sweep(self.reduced))))

    def _next_look(self) -> int:
        """Return the number of iterations after which the error is looked at next."""
        if self.config.n_sweeps:
            return self.config.n_sweeps // self.piece * self.piece
        if not self.n_iterations:
            return MIN_ITERATIONS
        wanted = MARGIN * (self.bridge().std_err / self.precision) ** 2
        look = math.ceil(self.n_iterations * min(GROWTH, max(MARGIN, wanted)))
        return min(look, self.most_iterations() or look) // self.piece * self.piece

    def _reason_to_stop(self) -> str:
        """Return why the run is at its end, or nothing."""
        if self.config.n_sweeps:
            return "sweeps"
        if self.bridge().std_err <= self.precision:
            return "precision"
        most = self.most_iterations()
        return "work" if most and self.n_iterations + self.piece > most else ""


def _check_range(reduced: Reduced, method: str) -> None:
    """Refuse couplings and biases that float32 cannot hold to a nat."""
    fields = [np.abs(reduced.b) + np.abs(reduced.W).sum(1), np.abs(reduced.c) + np.abs(reduced.W).sum(0)]
    if reduced.J is not None:
        fields[0] += np.abs(reduced.J).sum(1)
    if (largest := float(max(field.max() for field in fields if field.size))) > LARGEST_FIELD:
        raise ConfigError(
            f"--method {method}: couplings and biases of a unit add up to {largest:.3g} nats, more than "
            "float32 can tell apart to a nat; use --method exact, or scale them down"
        )


def seconds_per_sweep(reduced: Reduced) -> float:
    """Return roughly what a sweep of one chain with works and exchange takes on one core, in seconds."""
    n_kept, n_summed = reduced.W.shape
    n_bonds = len(reduced.bonds()[0])
    return float(1e-9 * (50 + 0.02 * n_bonds + 3 * (n_kept + n_summed)))


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
