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
from ..sampling.basins import find_basins, with_basins_of
from ..sampling.lower_bound import LowerBound, weight_of_states
from ..sampling.mixture import AnyReference, MixtureReference
from ..sampling.modes import mixture_of_modes, mixture_of_states
from ..sampling.reference import Reference, fitted_reference
from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from ..sampling.tempering import make_replicas
from .adapt import FIRST_RUNGS, Pilot, run_pilot
from .bar import Bridge, WorkSums, bridge_of_sums
from .renewal import Renewal

__all__ = ["TemperedRun"]

Float = NDArray[np.float64]

# Where no precision is asked for: the standard error that ends the run, and the core-seconds that it may take,
# which are predicted, not measured, so that the number does not hang on the load of the machine.
PRECISION, CORE_SECONDS = 0.002, 40.0
# Iterations that are added up at a time, and the least that are made.
CHUNK, MIN_ITERATIONS = 32, 640
# An early standard error is a guess: a run never more than doubles between two looks at it.
GROWTH, MARGIN = 2.0, 1.1
# How many of the target's states a reference is fitted to, and how many iterations lie between them.
N_FITTED, FIT_EVERY = 1000, 10
# How often a mixture is fitted, to how many states, and of how many components where one step bridges its distance
# to the machine, and where a schedule does.  A single step, whose two ends cost next to nothing, need not be
# accepted as often as those of a schedule.
N_FITS, N_FITTED_MODES, MANY, FEW = 2, 3200, 64, 24
# From a single step states are cheap, and what a fit leaves out makes tails of errors: with four times as many,
# the spread of z fell from 1.5 to 1.0.
N_FITTED_BRIDGE = 12_800
MODES_STEPS, BRIDGE_RATE, BRIDGE_ROUNDS = 6, 0.3, (60,)
# Of float32, relative: fields are computed in it.  Beyond the largest one, a unit in the last place is a nat.
HALF_UNIT, LARGEST_FIELD = 2.0**-24, 2.0**24
HALF_UNIT_64 = 2.0**-53
# Steps of the point within a chunk at which renewals are looked for; prime to its usual length.
LOOK_STRIDE = 13
TELL_SECONDS, SAVE_SECONDS = 0.5, 10.0


class TemperedRun:
    """Parallel tempering of one machine until the standard error is small enough, or the run is long enough.

    The first half of the replicates starts at β = 0, the other in the deepest basins that `find_basins` knows:
    that the two agree is a check.  All random numbers follow from the seed, whatever the number of threads.

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
        Block Gibbs sweeps of every chain since the schedule was adapted.
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
        self.n_iterations, self.next_check, self.stopped = 0, 0, ""
        self.chunk = min(CHUNK, max(1, config.n_sweeps // 40)) if config.n_sweeps else CHUNK

    def compile_kernels(self) -> None:
        """Let numba compile what this machine needs, or read it from its cache, before any clock is started."""
        is_mixture = self.config.reference == "modes"
        reference = mixture_of_modes(self.machine, self.basins) if is_mixture else None
        replicas = make_replicas(self.machine, Schedule.uniform(1), 2, 0, 0, self.device, reference=reference)
        replicas.anneal(1)
        replicas.run(1)

    def adapt(self, deadline: float = math.inf, progress: Callable[[int, int], None] | None = None) -> None:
        """Adapt the schedule in a pilot run, and in another for every fit of the reference.

        No round begins after the deadline.
        """
        how: dict[str, Any] = {"deadline": deadline, "progress": progress}
        self.reference: AnyReference = Reference.uniform(self.machine)
        pilot = self._pilot_from_modes(how) if self.config.reference == "modes" else self._pilot(**how)
        if self.config.reference == "fitted":
            self.replicas = self._make(pilot.schedule, 0, pilot.v)
            self.reference = fitted_reference(self.machine, self.target_samples(N_FITTED, FIT_EVERY, FIT_EVERY))
            pilot = self._pilot(key=1, **how)
        self.settled = pilot.settled
        self._require_memory(len(pilot.schedule.betas))
        self.replicas = self._make(pilot.schedule, 0, pilot.v)
        self.sums = WorkSums(pilot.shift, self.config.n_replicates, self.chunk)
        self.renewal = Renewal(self.config.n_replicates, len(pilot.schedule.betas))

    def _pilot(self, steps: int = FIRST_RUNGS, **how: Any) -> Pilot:
        """Return the pilot from the present reference; half of its replicates start in basins."""
        ordered = self.basins.draw(self.config.n_replicates // 2, steps + 1, self.config.seed)
        how = {"exchange_rate": self.config.exchange_rate, **how}
        return run_pilot(self._make, ordered=ordered, steps=steps, **how)

    def _pilot_from_modes(self, how: dict[str, Any]) -> Pilot:
        """Return the pilot from a mixture at the machine's modes, fitted again and again to what it leads to."""
        self.reference = mixture_of_modes(self.machine, self.basins)
        pilot = self._pilot(MODES_STEPS, **how)
        for key in range(1, N_FITS + 1):
            self.replicas = self._make(pilot.schedule, key, pilot.v)
            is_bridge = pilot.schedule.n_steps == 1
            states = self.target_samples(N_FITTED_BRIDGE if is_bridge else N_FITTED_MODES, FIT_EVERY, FIT_EVERY)
            pilot = self._bridged(states, 2 * key, how) or self._laddered(states, 2 * key + 1, how)
        return pilot

    def _bridged(self, states: NDArray[np.uint8], key: int, how: dict[str, Any]) -> Pilot | None:
        """Return the pilot of a single step from a mixture of many components; None if that is too long a one."""
        self.reference = mixture_of_states(self.machine, states, self.basins, MANY, self.config.seed)
        bridge = {**how, "exchange_rate": min(BRIDGE_RATE, self.config.exchange_rate), "rounds": BRIDGE_ROUNDS}
        pilot = self._pilot(1, key=key, **bridge)
        return pilot if pilot.settled else None

    def _laddered(self, states: NDArray[np.uint8], key: int, how: dict[str, Any]) -> Pilot:
        """Return the pilot of a schedule from a mixture of few components: each has its price at every rung."""
        self.reference = mixture_of_states(self.machine, states, self.basins, FEW, self.config.seed)
        return self._pilot(MODES_STEPS, key=key, **how)

    def _require_memory(self, n_rungs: int) -> None:
        """Raise ConfigError if the replicas on so many rungs would not fit."""
        n = self.config.n_replicates
        more = tempering_bytes(self.machine, n, n_rungs) - tempering_bytes(self.machine, n)
        require_memory(more, "--replicates", f"tempering {n} replicates of {n_rungs} rungs", "give fewer")

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
            self.sums.add(self._run_chunk())
            self.n_iterations += self.chunk
            now = time.monotonic()
            if now > deadline and self.sums.n_blocks > 1:
                self.stopped = "time limit"
            if tell and now - told > TELL_SECONDS and self.sums.n_blocks > 1:
                tell(self.n_iterations, self.next_check, self.bridge())
                told = now
            if save and now - saved > SAVE_SECONDS:
                save()
                saved = now

    def _run_chunk(self) -> Works:
        """Run a chunk, and look for renewals at a point of it that varies: exchanges may be periodic in time."""
        first = 1 + LOOK_STRIDE * (self.n_iterations // self.chunk) % self.chunk
        before = self.replicas.run(first)
        self.renewal.look(self.replicas, self.n_iterations + first)
        return Works.joined([before, self.replicas.run(self.chunk - first)]) if first < self.chunk else before

    def _at_its_end(self) -> bool:
        """Check the error where that is due, and decide whether the run is at its end."""
        if not self.stopped and self.n_iterations >= self.next_check:
            self.stopped = self._reason_to_stop() if self.n_iterations else ""
            self.next_check = self._next_check()
        return bool(self.stopped)

    @property
    def first_block(self) -> int:
        """The first block that is no burn-in."""
        return min(round(self.config.burn_in * self.sums.n_blocks), self.sums.n_blocks - 1)

    def bridge(self) -> Bridge:
        """Return the estimate from what is not burn-in."""
        return bridge_of_sums(self.sums, self.first_block)

    @property
    def log_z_0(self) -> float:
        """Log Z at β = 0, with the offset, nats."""
        return self.reference.log_z + self.offset

    @property
    def lower_bounds(self) -> Float:
        """Strict lower bounds of log Z, with the offset, the best one first, nats."""
        bounds: Float = self.basins.bounds + self.offset
        return bounds

    def lower_bound(self) -> LowerBound:
        """Return the strict lower bound of log Z by all basins known, those of the states here and now included.

        It hangs on no estimate; the offset is added to it, nats.
        """
        bound = with_basins_of(self.reduced, self.basins.lower_bound, self.replicas.v)
        return LowerBound(self._down(bound.value), bound.means)

    def weight_of_states(self) -> float:
        """Return log Σ p~ over the distinct states of all rungs here and now, with the offset: at most log Z."""
        v = self.replicas.v
        return self._down(weight_of_states(self.reduced, v.reshape(-1, v.shape[-1])))

    def _down(self, bound: float) -> float:
        """Return a bound with the offset, less what its sum over so many units may round to."""
        return bound + self.offset - HALF_UNIT_64 * self.machine.n_units * (abs(bound) + abs(self.offset))

    @property
    def n_burnt(self) -> int:
        """Iterations of the burn-in."""
        return self.first_block * self.sums.block

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to continue, as plain arrays."""
        return {
            "betas": self.replicas.schedule.betas,
            **{f"reference_{name}": value for name, value in self.reference.state_dict().items()},
            "settled": np.array(self.settled),
            "n_iterations": np.array(self.n_iterations),
            "next_check": np.array(self.next_check),
            **{f"replicas/{name}": value for name, value in self.replicas.state_dict().items()},
            **{f"sums/{name}": value for name, value in self.sums.state_dict().items()},
            **{f"renewal/{name}": value for name, value in self.renewal.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `state_dict` returned, instead of adapting the schedule."""
        parameters = _below(state, "reference_")
        self.reference = MixtureReference(**parameters) if "weights" in parameters else Reference(**parameters)
        self.settled = bool(state["settled"])
        self.n_iterations, self.next_check = int(state["n_iterations"]), int(state["next_check"])
        self.replicas = self._make(Schedule(state["betas"]), 0, None)
        self.replicas.load_state_dict(_below(state, "replicas/"))
        self.sums = WorkSums.from_state(_below(state, "sums/"))
        self.renewal = Renewal(self.config.n_replicates, len(state["betas"]))
        if "renewal/births" in state:  # which earlier versions did not keep
            self.renewal.load_state_dict(_below(state, "renewal/"))

    def target_samples(self, n: int, every: int, burn_in: int) -> NDArray[np.uint8]:
        """Return n states of the kept units at β = 1, (n, n_kept), `every` iterations apart in each replicate."""
        self.replicas.run(burn_in)
        samples: list[NDArray[np.uint8]] = []
        while len(samples) * self.config.n_replicates < n:
            self.replicas.run(every)
            samples.append(self.replicas.v[:, -1])
        return np.concatenate(samples)[:n]

    def _make(self, schedule: Schedule, round: int, v: NDArray[np.uint8] | None) -> Replicas:
        """Return replicas from the reference to the machine; round 0 is the run itself."""
        config = self.config
        return make_replicas(
            self.machine,
            schedule,
            config.n_replicates,
            config.seed,
            round,
            self.device,
            reference=self.reference,
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
        n_chains = self.config.n_replicates * len(self.replicas.schedule.betas)
        return max(MIN_ITERATIONS, int(CORE_SECONDS / (n_chains * seconds_per_sweep(self.reduced))))

    def _next_check(self) -> int:
        """Return the number of iterations after which the error is looked at next."""
        if self.config.n_sweeps:
            return self.config.n_sweeps // self.chunk * self.chunk
        if not self.n_iterations:
            return MIN_ITERATIONS
        wanted = MARGIN * (self.bridge().std_err / self.precision) ** 2
        check = math.ceil(self.n_iterations * min(GROWTH, max(MARGIN, wanted)))
        return min(check, self.most_iterations() or check) // self.chunk * self.chunk

    def _reason_to_stop(self) -> str:
        """Return why the run is at its end, or nothing."""
        if self.config.n_sweeps:
            return "sweeps"
        if self.bridge().std_err <= self.precision:
            return "precision"
        most = self.most_iterations()
        return "work" if most and self.n_iterations + self.chunk > most else ""


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
