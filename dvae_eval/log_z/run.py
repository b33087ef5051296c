"""One estimate of log Z by parallel tempering and BAR: a run that ends when it is precise, and can be resumed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dvae_core.environment import now_utc
from dvae_core.errors import ConfigError, DvaeError
from dvae_core.io.memory import require_memory
from dvae_core.rng import numpy_generator

from ..config import LogZConfig
from ..couplings import is_full, n_entries
from ..machine import Machine, Reduced
from ..runtime.clock import Clock
from ..runtime.memory_estimate import tempering_bytes
from ..runtime.resume import packed, unpacked
from ..sampling.basins import WORK, Basins, drawn_in_turn, find_basins, with_basins_of
from ..sampling.lower_bound import LowerBound, weight_of_states
from ..sampling.mixture import AnyReference, MixtureReference
from ..sampling.modes import mixture_of_modes, mixture_of_states
from ..sampling.reference import Reference, fitted_reference
from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from ..sampling.tempering import make_replicas
from ..sampling.trajectory import TrajectoryReference
from ..starts import spread
from .adapt import FIRST_RUNGS, LONGER_ROUNDS, ROUNDS, Pilot, run_pilot, states_on
from .bar import Bridge, WorkSums, bridge_of_sums
from .record import rule_of
from .renewal import Renewal

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
# Why a run is at its end, also after a break; a time limit begins again with the process.
STOPS = ("", "precision", "sweeps", "work")
# What a mixture adds to a sweep, in seconds for a unit, and for a unit of every component.
MIXTURE_UNIT, COMPONENT_UNIT = 5e-9, 4e-10
TELL_SECONDS, SAVE_SECONDS = 0.5, 10.0
# Shares of a time limit: where the start of the search for basins ends, the search itself, the first of two pilots
# (for a fitted reference), any other pilot, and after which no rungs are placed anew.
START_SHARE, BASINS_SHARE = 0.05, 0.15
FIRST_PILOT_SHARE, PILOT_SHARE, ANEW_SHARE = 0.25, 0.4, 0.6
# The limit for which the search for basins is as thorough as without any.
THOROUGH_SECONDS = 30.0
# Within a limit there are fewer replicates, but not fewer than these, where all of them would not make so many
# iterations on so many rungs, pilot included; fewer than these only where they would not make the second number.
FEWEST_REPLICATES, USUAL_RUNGS = 8, 32
FEWEST_GIVEN = 2  # replicates that start from given states: the spread of one cannot be told
WANTED_ITERATIONS, LEAST_ITERATIONS = 840, 120
# What bounds may take of a time limit after a run: by basins, and by states, each of which takes so many seconds
# for a unit and for a bond; and the seconds for a bond of what looks at whole tables of couplings.
BOUND_SHARE, STATES_SHARE = 0.03, 0.03
STATE_UNIT, STATE_BOND, TABLES_BOND = 1e-7, 3e-10, 8e-8
FEWEST_KNOWN = 16  # given states, however long they take
# Seconds of a sweep of a sparse machine on an idle core: for a unit, for a summed-out one more, and for a bond.
SPARSE_UNIT, SPARSE_SUMMED, SPARSE_BOND = 5e-10, 6.6e-10, 5.4e-11
# Between two looks at the clock, a share of the limit and seconds.
LOOK_SHARE, LOOK_SECONDS = 0.005, 0.25
# Chunks that a run within a limit is to make at the least, and the part of its sweeps before rates are looked at.
LEAST_CHUNKS, FIRST_LOOK = 24, 8
# The number of the round that is the run itself after its rungs were placed anew, and the key of their pilot.
ANEW, ANEW_KEY = 1000, 10
# Rungs are placed anew once where a pair exchanges at less than this, or this share of the rate asked for.
LEAST_RATE, LEAST_SHARE = 0.15, 0.3
# How much longer a sweep takes where every rung has couplings of its own, and the most rungs of its first pilot.
ALONG_TRAINING, MOST_FIRST_RUNGS = 3.0, 24
BYTES_OF_RUNG = 40  # of every coupling, while tables are made


class TemperedRun:
    """Parallel tempering of one machine until the standard error is small enough, or the run is long enough.

    The first half of the replicates starts at β = 0, the other in the deepest basins that `find_basins` knows:
    that the two agree is a check.  Where states are given, a third of the replicates, the last ones, starts from
    them, and must agree with all others.  All random numbers follow from the seed, whatever the number of threads.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    config : LogZConfig
    device : str
    threads : int
        Of the CPU.
    offset : float
        Nats that are added to log Z: what is not the machine's own, such as units that were taken out of it.
    clock : Clock, optional
        Where a time limit ends the run: by then, what is left of it is used up.
    basins : Basins, optional
        Basins that are known; by default a search finds them.
    ordered : float64, shape (n, n_kept), optional
        Means of the kept units from which the second half of the replicates starts, instead of the basins'.
    starts : uint8, shape (n, n_kept), optional
        States of the kept units that are known.
    trajectory : TrajectoryReference, optional
        The path along the machine's training, which `config.path` may ask for.

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
    config : LogZConfig
        As given, but with the replicates that there is time for.
    foreseen : dict
        What the pilot foretold: sweeps and standard error at the end, None where it could not.
    placed_anew : bool
        Whether the rungs were placed once more after the run had begun.
    paths : dict
        Which path was chosen, and the barriers by which; empty where there was no choice.
    continued_from : list of dict
        The ends of earlier runs that this one continues: their `precision`, `time_limit`, `n_sweeps` and `n_done`,
        `std_err` in nats, and `date`.
    """

    def __init__(
        self,
        machine: Machine,
        config: LogZConfig,
        device: str = "cpu",
        threads: int = 1,
        offset: float = 0.0,
        clock: Clock | None = None,
        basins: Basins | None = None,
        ordered: Float | None = None,
        starts: NDArray[np.uint8] | None = None,
        trajectory: TrajectoryReference | None = None,
    ) -> None:
        self.trajectory = trajectory if config.path == "trajectory" else None
        self.machine, self.device, self.threads, self.offset = machine, device, threads, offset
        self.starts = starts
        self.clock = clock or Clock()
        self.reduced = machine.reduced()
        for reduced in (self.reduced, *(self.trajectory.machines() if self.trajectory else ())):
            _check_range(reduced, config.method)
        self.is_along = self.trajectory is not None
        self.reference: AnyReference = Reference.uniform(machine)
        self.config = dataclasses.replace(config, n_replicates=self._affordable(config))
        # The default limit is a safeguard: what is within it hangs on the work alone, not on the machine's load.
        self.is_timed = config.time_limit > 0
        self.basins_work = WORK * min(1.0, self.clock.limit / THOROUGH_SECONDS)
        self.basins = basins or self.find_basins(config.seed, given=starts)
        self.ordered = ordered
        self.core_seconds = CORE_SECONDS
        self.n_iterations, self.next_check, self.stopped = 0, 0, ""
        self.placed_anew, self.looked, self.of_one = False, False, math.inf
        self.paths: dict[str, Any] = {}
        self.foreseen: dict[str, float | None] = {"n_sweeps": None, "std_err": None}
        self.spent = _Spent()
        self.chunk = chunk_of(config.n_sweeps)
        self.continued_from: list[dict[str, Any]] = []
        self._forget_looks()

    def _forget_looks(self) -> None:
        """Begin to keep what other rules to stop would have seen: errors by iterations, and rates by chunks."""
        self.errors: dict[int, float] = {}
        self.next_error = MIN_ITERATIONS
        self.least_rates: list[float] = []

    def find_basins(self, seed: int, share: float = 1.0, given: NDArray[np.uint8] | None = None) -> Basins:
        """Return what a search finds, from given states too, with a share of the work that it may take."""
        is_late, is_over = (self._search_later_than(share) for share in (START_SHARE, BASINS_SHARE))
        work = share * self.basins_work
        return find_basins(self.reduced, seed, work=work, is_over=is_over, is_late=is_late, given=given)

    def compile_kernels(self) -> None:
        """Let numba compile what this machine needs, or read it from its cache, before any clock is started."""
        is_mixture = self.config.reference == "modes"
        reference = mixture_of_modes(self.machine, self.basins) if is_mixture else self.trajectory
        replicas = make_replicas(self.machine, Schedule.uniform(1), 2, 0, 0, self.device, reference=reference)
        replicas.anneal(1)
        replicas.run(1)

    def _affordable(self, config: LogZConfig) -> int:
        """Return how many of the replicates there is time for; the number does not hang on the machine's load."""
        if math.isinf(self.clock.limit):
            return config.n_replicates
        seconds = self.clock.limit * self.threads if config.time_limit else CORE_SECONDS
        chain_sweeps = seconds / self.sweep_seconds / USUAL_RUNGS
        wanted, least = (int(chain_sweeps / n) for n in (WANTED_ITERATIONS, LEAST_ITERATIONS))
        n = max(wanted // 2 * 2, min(FEWEST_REPLICATES, least // 2 * 2), 2)
        return min(config.n_replicates, n)

    def _later_than(self, share: float) -> Callable[[], bool]:
        """Return a callback that says whether this share of the time limit has gone."""
        return lambda: self.clock.is_past(share)

    def _search_later_than(self, share: float) -> Callable[[], bool]:
        """Return the same for a search for basins, whose work alone bounds it where no limit was asked for."""
        return self._later_than(share if self.is_timed else math.inf)

    def _slice(self, replicas: Replicas) -> int:
        """Return how many iterations may pass before the clock is looked at."""
        if math.isinf(self.clock.limit):
            return max(ROUNDS)
        seconds = self.seconds_per_iteration(replicas)
        look = max(LOOK_SECONDS, LOOK_SHARE * self.clock.limit)
        return min(max(ROUNDS), max(1, int(look / seconds)))

    def seconds_per_iteration(self, replicas: Replicas) -> float:
        """Return the wall seconds of an iteration, as measured, or else as predicted."""
        n_chains = self.config.n_replicates * len(replicas.schedule.betas)
        return n_chains * (self.spent.per_sweep or self.sweep_seconds / self.threads)

    def _timed(self, replicas: Replicas, n: int) -> Works:
        """Run n iterations, and keep in mind how long that takes."""
        began = self.clock.elapsed
        works = replicas.run(n)
        self.spent.add(n * self.config.n_replicates * len(replicas.schedule.betas), self.clock.elapsed - began)
        return works

    def adapt(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Adapt the schedule in a pilot run, and in another for every fit of the reference.

        All of them end within their shares of the time limit.
        """
        how: dict[str, Any] = {"progress": progress}
        if self.config.reference == "modes":
            pilot = self._pilot_from_modes(how)
        elif self.config.reference == "fitted":
            pilot = self._pilot(share=FIRST_PILOT_SHARE, **how)
            self.replicas = self._make(pilot.schedule, 0, pilot.v)
            samples = self.target_samples(self._n_fitted(N_FITTED), FIT_EVERY, FIT_EVERY)
            self.reference = fitted_reference(self.machine, samples)
            pilot = self._pilot(key=1, **how)
        elif self.trajectory:
            pilot = self._pilot_of_paths(self.trajectory, how)
        else:
            pilot = self._pilot(**how)
        self._begin(pilot, 0)
        self.foreseen = self._foresee(pilot)

    def _n_fitted(self, most: int) -> int:
        """Return how many states a reference is fitted to: those that half of what is left to the pilot allows."""
        seconds = (PILOT_SHARE * self.clock.limit - self.clock.elapsed) / 2
        if math.isinf(seconds):
            return most
        n = int(seconds / (FIT_EVERY * self.seconds_per_iteration(self.replicas)))
        return min(most, max(1, n) * self.config.n_replicates)

    def _pilot_within(self, share: float) -> dict[str, Any]:
        """Return the arguments that end a pilot when this share of the time limit has gone."""
        return {"is_over": self._later_than(share), "run": self._timed, "slice_of": self._slice}

    def _begin(self, pilot: Pilot, round: int) -> None:
        """Begin the run where a pilot has ended."""
        self.settled = pilot.settled
        self._require_memory(len(pilot.schedule.betas))
        self.replicas = self._make(pilot.schedule, round, pilot.v)
        if math.isfinite(self.clock.limit):  # two chunks make an estimate, and some more an error bar
            affordable = self.clock.left / self.seconds_per_iteration(self.replicas) / LEAST_CHUNKS
            self.chunk = min(self.chunk, max(1, int(affordable)))
        self.sums = WorkSums(pilot.shift, self.config.n_replicates, self.chunk)
        self.renewal = Renewal(self.config.n_replicates, len(pilot.schedule.betas))

    def _pilot(self, steps: int = FIRST_RUNGS, share: float = PILOT_SHARE, **how: Any) -> Pilot:
        """Return the pilot from the present reference; some of its replicates start in basins or given states."""
        size = self.n_ordered, steps + 1, self.config.seed
        ordered = self.basins.draw(*size) if self.ordered is None else drawn_in_turn(self.ordered, *size)
        if self.starts is not None:
            ordered = np.concatenate((ordered, self._given(steps + 1)))
        how = {"exchange_rate": self.config.exchange_rate, **self._pilot_within(share), **how}
        return run_pilot(self._make, ordered=ordered, steps=steps, **how)

    @property
    def n_given(self) -> int:
        """Replicates that start from given states, the last ones: a third, or none where there are few."""
        n = self.config.n_replicates // 3
        return n if self.starts is not None and n >= FEWEST_GIVEN else 0

    @property
    def n_ordered(self) -> int:
        """Replicates that start in basins, those before: half of the others."""
        return (self.config.n_replicates - self.n_given) // 2

    def _given(self, n_rungs: int) -> NDArray[np.uint8]:
        """Return given states (n_given, n_rungs, n_kept), each as often as any other, or nearly so."""
        assert self.starts is not None
        rng, n = numpy_generator(self.config.seed, "log_z", 9), self.n_given * n_rungs
        rounds = [rng.permutation(len(self.starts)) for _ in range(math.ceil(n / len(self.starts)))]
        which = np.concatenate((np.empty(0, np.intp), *rounds))[:n]
        return self.starts[which].reshape(self.n_given, n_rungs, self.starts.shape[1])

    def _pilot_from_modes(self, how: dict[str, Any]) -> Pilot:
        """Return the pilot from a mixture at the machine's modes, fitted again and again to what it leads to."""
        self.reference = mixture_of_modes(self.machine, self.basins)
        shares = np.linspace(BASINS_SHARE, PILOT_SHARE, N_FITS + 2)[1:].tolist()
        pilot = self._pilot(MODES_STEPS, share=shares[0], **how)
        for key in range(1, N_FITS + 1):
            self.replicas = self._make(pilot.schedule, key, pilot.v)
            most = N_FITTED_BRIDGE if pilot.schedule.n_steps == 1 else N_FITTED_MODES
            states = self.target_samples(self._n_fitted(most), FIT_EVERY, FIT_EVERY)
            how["share"] = shares[key]
            pilot = self._bridged(states, 2 * key, how) or self._laddered(states, 2 * key + 1, how)
        return pilot

    def _pilot_of_paths(self, trajectory: TrajectoryReference, how: dict[str, Any]) -> Pilot:
        """Return the pilot of the path with the smaller barrier: in β, or along the training."""
        straight = self._pilot(share=FIRST_PILOT_SHARE, **how)
        uniform, self.reference, spent = self.reference, trajectory, self.spent
        self.spent = _Spent(spent.sweeps, ALONG_TRAINING * spent.seconds)
        steps = min(MOST_FIRST_RUNGS, max(FIRST_RUNGS, len(trajectory.W) - 1))
        along = self._pilot(steps, key=1, **how)
        barriers = [float((1 - pilot.works.exchange_rates).sum()) for pilot in (straight, along)]
        chosen = shorter_path(*barriers)
        self.paths = {"chosen": chosen, "barrier_beta": barriers[0], "barrier_trajectory": barriers[1]}
        if chosen == "trajectory":
            return along
        self.reference, self.spent, self.is_along = uniform, spent, False
        return straight

    def _bridged(self, states: NDArray[np.uint8], key: int, how: dict[str, Any]) -> Pilot | None:
        """Return the pilot of a single step from a mixture of many components; None if that is too long a one."""
        self.reference = self._fitted(states, MANY)
        bridge = {**how, "exchange_rate": min(BRIDGE_RATE, self.config.exchange_rate), "rounds": BRIDGE_ROUNDS}
        pilot = self._pilot(1, key=key, **bridge)
        return pilot if pilot.settled else None

    def _laddered(self, states: NDArray[np.uint8], key: int, how: dict[str, Any]) -> Pilot:
        """Return the pilot of a schedule from a mixture of few components: each has its price at every rung."""
        self.reference = self._fitted(states, FEW)
        return self._pilot(MODES_STEPS, key=key, **how)

    def _fitted(self, states: NDArray[np.uint8], n_components: int) -> MixtureReference:
        """Return the mixture that fits states, as far as there is time for the fit."""
        is_over = self._later_than(PILOT_SHARE)
        return mixture_of_states(self.machine, states, self.basins, n_components, self.config.seed, is_over)

    def _foresee(self, pilot: Pilot) -> dict[str, float | None]:
        """Return the sweeps and the standard error with which the run will end, by the works of the pilot.

        `of_one`, which is set, is the error times the root of the sweeps.
        """
        n = len(pilot.works.forward)
        sums = WorkSums(pilot.shift, self.config.n_replicates, n)
        sums.add(pilot.works)
        try:
            of_one = bridge_of_sums(sums).std_err * math.sqrt(n / (1 - self.config.burn_in))
        except DvaeError:
            of_one = math.nan
        self.of_one = of_one if math.isfinite(of_one) else math.inf
        return self._foreseen()

    def _foreseen(self) -> dict[str, float | None]:
        """Return the sweeps and the standard error with which the run will end, by `of_one`."""
        if math.isinf(self.of_one):
            return {"n_sweeps": None, "std_err": None}
        planned = self._planned(self.of_one)
        return {"n_sweeps": float(round(planned)), "std_err": self.of_one / math.sqrt(max(1.0, planned))}

    def _planned(self, of_one: float) -> float:
        """Return the sweeps that the run will make if `of_one` over their root is its standard error."""
        if self.config.n_sweeps:
            return float(self.config.n_sweeps)
        wanted = max(MIN_ITERATIONS, (of_one / self.precision) ** 2)
        affordable = self.clock.left / self.seconds_per_iteration(self.replicas)
        return min(wanted, self._most() or math.inf, affordable)

    def _require_memory(self, n_rungs: int) -> None:
        """Raise ConfigError if the replicas on so many rungs would not fit."""
        n = self.config.n_replicates
        more = tempering_bytes(self.machine, n, n_rungs) - tempering_bytes(self.machine, n)
        if isinstance(self.reference, TrajectoryReference):
            more += n_rungs * BYTES_OF_RUNG * self.reference.W[0].size
        require_memory(more, "--replicates", f"tempering {n} replicates of {n_rungs} rungs", "give fewer")

    def advance(
        self,
        reserve: float = 0.0,
        tell: Callable[[int, int, Bridge], None] | None = None,
        save: Callable[[], None] | None = None,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run to the end, or until it is paused.

        Parameters
        ----------
        reserve : float
            Seconds of the time limit that are left to what comes after the run.
        tell : callable, optional
            Called with (iterations done, planned, estimate so far) about twice a second.
        save : callable, optional
            Called now and then, when `state_dict` is worth keeping.
        is_paused : callable
            Whether to return before the end; another call continues.
        """
        told = saved = self.clock.elapsed
        while not self._at_its_end() and not is_paused():
            works = self._next_works(reserve)
            if works is None:
                self.stopped = "time limit"
                break
            self.sums.add(works)
            self.n_iterations += self.chunk
            self._keep_looks()
            now = self.clock.elapsed
            if tell and now - told > TELL_SECONDS and self.sums.n_blocks > 1:
                tell(self.n_iterations, self.next_check, self.bridge())
                told = now
            if save and now - saved > SAVE_SECONDS:
                save()
                saved = now
        if self.stopped and self.n_iterations:
            self.errors[self.n_iterations] = self._error()

    def _keep_looks(self) -> None:
        """Keep what a stricter rule would see here: a run that continues then decides as one from the start.

        Far from its precision, a rule looks whenever the run has doubled.
        """
        if self.config.n_sweeps and self.n_iterations < MIN_ITERATIONS + self.chunk:
            self.least_rates.append(float(self._late_rates().min()) if self.sums.n_blocks > 1 else math.nan)
        if self.n_iterations >= self.next_error:
            self.errors[self.n_iterations] = self._error()
            self.next_error = int(GROWTH * self.n_iterations) // self.chunk * self.chunk

    def _error(self) -> float:
        """Return the standard error so far, nats; infinite where there is no estimate yet."""
        try:
            return self.bridge().std_err
        except DvaeError:
            return math.inf

    def _late_rates(self) -> Float:
        """Return the exchange rate of every pair in the second half of the run, shape (n_steps,)."""
        rates: Float = self.sums.statistic("exchange", self.sums.n_blocks // 2).mean((0, 1))
        return rates

    def _next_works(self, reserve: float) -> Works | None:
        """Run a chunk; None if the time is over before that, and there is an estimate.

        Renewals are looked for at a point of the chunk that varies: exchanges may be periodic in time.
        """
        look = 1 + LOOK_STRIDE * (self.n_iterations // self.chunk) % self.chunk
        parts: list[Works] = []
        done = 0
        while done < self.chunk:
            if self.sums.n_blocks > 1 and self.clock.left < reserve:
                return None
            size = min(self._slice(self.replicas), (look if done < look else self.chunk) - done)
            parts.append(self._timed(self.replicas, size))
            done += size
            if done == look:
                self.renewal.look(self.replicas, self.n_iterations + look)
        return Works.joined(parts)

    def _at_its_end(self) -> bool:
        """Check the error where that is due, and decide whether the run is at its end."""
        if self._is_first_look():
            self.looked = True
            self._place_anew()
        if not self.stopped and self.n_iterations >= self.next_check:
            self.stopped = self._reason_to_stop() if self.n_iterations else ""
            self.next_check = self._next_check()
            if self.n_iterations and not self.config.n_sweeps:
                self.errors[self.n_iterations] = self._error()
        return bool(self.stopped)

    def _is_first_look(self) -> bool:
        """Return whether the exchange rates are to be looked at, as they are once in a run."""
        due, late = first_look_of(self.config.n_sweeps), (PILOT_SHARE + ANEW_SHARE) / 2
        is_due = self.n_iterations >= due or self.clock.is_past(late)
        return not self.looked and is_due and self.sums.n_blocks > 1 and not self.stopped

    def _place_anew(self) -> None:
        """Place the rungs once more, and begin again, if a pair exchanges far less often than the pilot saw."""
        rates, asked = self._late_rates(), self.config.exchange_rate
        if rates.min() >= least_rate_of(asked) or self.clock.is_past(ANEW_SHARE):
            return
        schedule = self.replicas.schedule.equalised(1 - rates, asked)
        start = schedule, states_on(self.replicas, schedule)
        how = {**self._pilot_within(ANEW_SHARE), "start": start, "rounds": LONGER_ROUNDS, "key": ANEW_KEY}
        pilot = run_pilot(self._make, asked, **how)
        self._begin(pilot, ANEW)
        self.n_iterations, self.next_check, self.placed_anew = 0, 0, True
        self._forget_looks()

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
        share = self.clock.elapsed / self.clock.limit + BOUND_SHARE
        known, states, is_over = self.basins.lower_bound, self.replicas.v, self._search_later_than(share)
        bound = with_basins_of(self.reduced, known, states, self.basins_work, is_over)
        return LowerBound(self._down(bound.value), bound.means)

    def bounds_seconds(self) -> float:
        """Return about how many seconds `lower_bound` and `weight_of_states` take."""
        n_states = self.config.n_replicates * len(self.replicas.schedule.betas) + len(self._known_states())
        of_states = min(STATES_SHARE * self.clock.limit, n_states * self._seconds_per_state())
        of_tables = TABLES_BOND * self._n_bonds * self.slowness
        return BOUND_SHARE * self.clock.limit + of_states + of_tables

    def _seconds_per_state(self) -> float:
        """Return about how many seconds the probability of a state takes."""
        return self._foretold_per_state * self.slowness

    @cached_property
    def _foretold_per_state(self) -> float:
        return STATE_UNIT * len(self.reduced.biases) + STATE_BOND * self._n_bonds

    @cached_property
    def _n_bonds(self) -> int:
        m = self.reduced
        return n_entries(m.W) + (0 if m.J is None else n_entries(m.J))

    @property
    def slowness(self) -> float:
        """How much longer sweeps of a thread take than foretold; 1 at least, for what has not been measured."""
        idle = self.sweep_seconds * share_of_sparse(self.reduced)
        return max(1.0, self.spent.per_sweep * self.threads / idle)

    def weight_of_states(self) -> float:
        """Return log Σ p~ over the distinct states of all rungs here and now, and those given: at most log Z.

        The offset is added.  Within a time limit that was asked for they may be those of the coldest rungs alone.
        """
        v = self.replicas.v
        if self.is_timed and math.isfinite(self.clock.limit):
            of_rung = len(v) * self._seconds_per_state()
            v = v[:, -max(1, int(STATES_SHARE * self.clock.limit / of_rung)) :]
        states = np.concatenate((v.reshape(-1, v.shape[-1]), self._known_states()))
        return self._down(weight_of_states(self.reduced, states))

    def _known_states(self) -> NDArray[np.uint8]:
        """Return the given states whose probabilities there is time for."""
        if self.starts is None:
            return np.empty((0, len(self.reduced.b)), np.uint8)
        most = STATES_SHARE * CORE_SECONDS / self._foretold_per_state
        if self.is_timed:
            most = min(most, STATES_SHARE * self.clock.limit / self._seconds_per_state())
        return spread(self.starts, max(FEWEST_KNOWN, int(most)))

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
            "looked": np.array([self.looked, self.placed_anew]),
            **{f"paths/{name}": np.array(barrier) for name, barrier in self.paths.items() if name != "chosen"},
            "foreseen": np.array(list(self.foreseen.values()), np.float64),
            "of_one": np.array(self.of_one),
            "errors": np.array(list(self.errors.items()), np.float64).reshape(-1, 2),
            "next_error": np.array(self.next_error),
            "least_rates": np.array(self.least_rates),
            "record": packed({**rule_of(self.config), "continued_from": self.continued_from, "date": now_utc()}),
            "n_replicates": np.array(self.config.n_replicates),
            "n_iterations": np.array(self.n_iterations),
            "next_check": np.array(self.next_check),
            "stopped": np.array(STOPS.index(self.stopped if self.stopped in STOPS else "")),
            **{f"replicas/{name}": value for name, value in self.replicas.state_dict().items()},
            **{f"sums/{name}": value for name, value in self.sums.state_dict().items()},
            **{f"renewal/{name}": value for name, value in self.renewal.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `state_dict` returned, instead of adapting the schedule.

        Where it is of a run that had another rule to stop, that run is continued.
        """
        parameters = _below(state, "reference_")
        self._take_reference(parameters)
        barriers = {name: float(value) for name, value in _below(state, "paths/").items()}
        if barriers:
            self.is_along = isinstance(self.reference, TrajectoryReference)
            self.paths = {"chosen": "trajectory" if self.is_along else "beta", **barriers}
        self.settled = bool(state["settled"])
        self.looked, self.placed_anew = map(bool, state["looked"])
        values = [None if math.isnan(x) else x for x in state["foreseen"].tolist()]
        self.foreseen = dict(zip(self.foreseen, values, strict=True))
        self.config = dataclasses.replace(self.config, n_replicates=int(state["n_replicates"]))
        self.n_iterations, self.next_check = int(state["n_iterations"]), int(state["next_check"])
        self.stopped = STOPS[int(state["stopped"])]
        self.replicas = self._make(Schedule(state["betas"]), ANEW if self.placed_anew else 0, None)
        self.replicas.load_state_dict(_below(state, "replicas/"))
        self.sums = WorkSums.from_state(_below(state, "sums/"))
        self.renewal = Renewal(self.config.n_replicates, len(state["betas"]))
        if "renewal/births" in state:  # which earlier versions did not keep
            self.renewal.load_state_dict(_below(state, "renewal/"))
        self.chunk = self.sums.chunk
        self.of_one, self.next_error = float(state["of_one"]), int(state["next_error"])
        self.errors = {int(n): error for n, error in state["errors"].tolist()}
        self.least_rates = state["least_rates"].tolist()
        self._take_record(unpacked(state["record"]))

    def _take_record(self, record: dict[str, Any]) -> None:
        """Continue under the own rule to stop a run whose rule and past a record tells.

        To stop by precision twice is the same optional stopping as to stop so once: the run that goes on has the
        same samples as one that had the stricter rule from the start, and is looked at when that one would have
        been, as far as the errors that were kept allow.
        """
        self.continued_from = record.pop("continued_from")
        date, rule = record.pop("date"), rule_of(self.config)
        if record == rule:
            return
        error = self.errors.get(self.n_iterations, math.nan)
        self.continued_from.append({**record, "n_done": self.n_iterations, "std_err": error, "date": date})
        self.stopped, self.foreseen = "", self._foreseen()
        if self.config.n_sweeps:
            self.looked = self.placed_anew or self.n_iterations >= first_look_of(self.config.n_sweeps)
        self.next_check = self._replayed_check()

    def _replayed_check(self) -> int:
        """Return after how many iterations the rule looks next, as if it had been the rule from the start."""
        if self.config.n_sweeps:
            return self._next_check()
        check = MIN_ITERATIONS
        for n, error in sorted(self.errors.items()):
            if n >= check and error <= self.precision:
                return n
            check = self._check_after(n, error) if n >= check else check
        return check

    def _take_reference(self, parameters: dict[str, NDArray[Any]]) -> None:
        """Go back to the reference of these parameters."""
        if "trajectory" in parameters:
            assert self.trajectory is not None  # a state is of the same task
            self.reference = self.trajectory
        else:
            self.reference = (MixtureReference if "weights" in parameters else Reference)(**parameters)

    def target_samples(self, n: int, every: int, burn_in: int) -> NDArray[np.uint8]:
        """Return n states of the kept units at β = 1, (n, n_kept), `every` iterations apart in each replicate."""
        self.replicas.run(burn_in)
        samples: list[NDArray[np.uint8]] = []
        while len(samples) * self.config.n_replicates < n:
            self.replicas.run(every)
            samples.append(self.replicas.v[:, -1])
        return np.concatenate(samples)[:n]

    def _make(self, schedule: Schedule, round: int, v: NDArray[np.uint8] | None) -> Replicas:
        """Return replicas from the reference to the machine; round 0, or `ANEW`, is the run itself."""
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

    @cached_property
    def rounding(self) -> float:
        """What float32 may do to log Z, nats: half a unit in the last place of all terms at a mode."""
        m, v = self.reduced, self.basins.means
        h = expit(m.c + v @ m.W)
        terms = (v @ abs(m.W) * h).sum(1) + v @ np.abs(m.b) + h @ np.abs(m.c)
        if m.J is not None:
            terms += (v @ abs(m.J) * v).sum(1) / 2
        return HALF_UNIT * float(terms.max() + math.log(2) * self.machine.n_units)

    @property
    def sweep_seconds(self) -> float:
        """Roughly what a sweep of one chain with works and exchange takes on one core, in seconds."""
        n = len(self.reference.weights) if isinstance(self.reference, MixtureReference) else 0
        return self.seconds_of_sweep(n) * (ALONG_TRAINING if self.is_along else 1)

    def seconds_of_sweep(self, n_components: int) -> float:
        """Return the same from a mixture of so many components; none is a reference of independent units."""
        of_mixture = sum(self.reduced.W.shape) * (MIXTURE_UNIT + COMPONENT_UNIT * n_components)
        return seconds_per_sweep(self.reduced) + (of_mixture if n_components else 0.0)

    @property
    def n_chains(self) -> int:
        """Chains on all rungs of all replicates."""
        return self.config.n_replicates * len(self.replicas.schedule.betas)

    def most_iterations(self, seconds: float) -> int:
        """Return how many iterations so many seconds of one core allow, of all threads."""
        return max(MIN_ITERATIONS, int(seconds / (self.n_chains * self.sweep_seconds)))

    def _most(self) -> int | None:
        """Return how many iterations the work allows; None where a precision was asked for."""
        return None if self.config.precision else self.most_iterations(self.core_seconds)

    def _next_check(self) -> int:
        """Return the number of iterations after which the error is looked at next."""
        if self.config.n_sweeps:
            return self.config.n_sweeps // self.chunk * self.chunk
        if not self.n_iterations:
            return MIN_ITERATIONS
        return self._check_after(self.n_iterations, self.bridge().std_err)

    def _check_after(self, n_iterations: int, std_err: float) -> int:
        """Return the same after a look at that error, nats, at so many iterations."""
        wanted = MARGIN * (std_err / self.precision) ** 2
        check = math.ceil(n_iterations * min(GROWTH, max(MARGIN, wanted)))
        return min(check, self._most() or check) // self.chunk * self.chunk

    def _reason_to_stop(self) -> str:
        """Return why the run is at its end, or nothing."""
        if self.config.n_sweeps:
            return "sweeps"
        if self.bridge().std_err <= self.precision:
            return "precision"
        most = self._most()
        return "work" if most and self.n_iterations + self.chunk > most else ""


def chunk_of(n_sweeps: int) -> int:
    """Return how many iterations of a run of `n_sweeps` are added up at a time; 0 sweeps are no fixed length."""
    return min(CHUNK, max(1, n_sweeps // 40)) if n_sweeps else CHUNK


def first_look_of(n_sweeps: int) -> int:
    """Return after how many iterations of such a run the exchange rates are looked at."""
    return min(MIN_ITERATIONS, n_sweeps // FIRST_LOOK or MIN_ITERATIONS)


def least_rate_of(exchange_rate: float) -> float:
    """Return the exchange rate below which rungs are placed anew, where so much was asked for."""
    return min(LEAST_RATE, LEAST_SHARE * exchange_rate)


def shorter_path(barrier_beta: float, barrier_trajectory: float) -> str:
    """Return the name of the path with the smaller barrier."""
    return "trajectory" if barrier_trajectory <= barrier_beta else "beta"


def _check_range(reduced: Reduced, method: str) -> None:
    """Refuse couplings and biases that float32 cannot hold to a nat."""
    fields = [np.abs(reduced.b) + abs(reduced.W).sum(1), np.abs(reduced.c) + abs(reduced.W).sum(0)]
    if reduced.J is not None:
        fields[0] += abs(reduced.J).sum(1)
    if (largest := float(max(field.max() for field in fields if field.size))) > LARGEST_FIELD:
        raise ConfigError(
            f"--method {method}: couplings and biases of a unit add up to {largest:.3g} nats, more than "
            "float32 can tell apart to a nat; use --method exact, or scale them down"
        )


@dataclasses.dataclass(slots=True)
class _Spent:
    """Wall seconds and sweeps of chains, lately: with every call, what is past counts half."""

    sweeps: float = 0.0
    seconds: float = 0.0

    @property
    def per_sweep(self) -> float:
        """Seconds of a sweep of one chain, all threads at work; 0 before any."""
        return self.seconds / self.sweeps if self.sweeps else 0.0

    def add(self, sweeps: float, seconds: float) -> None:
        """Add a call."""
        self.sweeps, self.seconds = self.sweeps / 2 + sweeps, self.seconds / 2 + seconds


def seconds_per_sweep(reduced: Reduced) -> float:
    """Return roughly what a sweep of one chain with works and exchange takes on one core, in seconds."""
    n_kept, n_summed = reduced.W.shape
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J) // 2)
    return float(1e-9 * (50 + 0.02 * n_bonds + 3 * (n_kept + n_summed)))


def share_of_sparse(reduced: Reduced) -> float:
    """Return which share of `seconds_per_sweep` a sweep takes on an idle core if tables are sparse; or else 1.

    That one decides how long runs without a limit are: it stays as it was when sparse machines were swept slowly.
    """
    if is_full(reduced.W):
        return 1.0
    n_kept, n_summed = reduced.W.shape
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J) / 2)
    seconds = SPARSE_UNIT * (n_kept + n_summed) + SPARSE_SUMMED * n_summed + SPARSE_BOND * n_bonds
    return min(1.0, float(seconds) / seconds_per_sweep(reduced))


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
