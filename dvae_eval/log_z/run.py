"""One estimate of log Z by parallel tempering and BAR: a run that stops when it is precise, and can be resumed."""

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
from dvae_core.io.containers import packed, unpacked
from dvae_core.io.memory import require_memory
from dvae_core.progress import Report, ignore
from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..config import LogZConfig
from ..couplings import is_full, n_entries
from ..machine import Machine, Reduced
from ..runtime.clock import Clock
from ..runtime.memory_estimate import tempering_bytes
from ..runtime.resume import FINISHED, above, below, with_part
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

# Without a requested precision: the standard error at which the run stops, and the core-seconds that it may take.
# These are predicted, not measured, so that the number does not depend on the load of the computer.
PRECISION, CORE_SECONDS = 0.002, 40.0
# Iterations that are added to the sums at a time, and the least iterations of a run.
CHUNK, MIN_ITERATIONS = 32, 640
# Early standard errors are unreliable: between two checks of it, a run at most doubles.
GROWTH, MARGIN = 2.0, 1.1
# Number of states at β = 1 to which a reference is fitted, and iterations between them.
N_FITTED, FIT_EVERY = 1000, 10
# Number of fits of a mixture; states per fit; components where a single step bridges mixture and machine, and
# where a schedule does.  A single step, whose two ends cost next to nothing, needs a lower acceptance than a
# schedule's.
N_FITS, N_FITTED_MODES, MANY, FEW = 2, 3200, 64, 24
# With a single step states are cheap, and what a fit leaves out gives the errors heavy tails: with four times as
# many states, the spread of z fell from 1.5 to 1.0.
N_FITTED_BRIDGE = 12_800
MODES_STEPS, BRIDGE_RATE, BRIDGE_ROUNDS = 6, 0.3, (60,)
# Relative rounding of float32, in which fields are computed.  Above the largest field, its last place is a nat.
HALF_UNIT, LARGEST_FIELD = 2.0**-24, 2.0**24
HALF_UNIT_64 = 2.0**-53
# Stride of the point within a chunk at which renewals are recorded; prime to the usual length of a chunk.
RENEWAL_STRIDE = 13
# Reasons to stop that survive an interruption; a time limit starts again with the process.
STOPS = ("", "precision", "sweeps", "work")
# Seconds that a mixture adds to a sweep: per unit, and per unit and component.
MIXTURE_UNIT, COMPONENT_UNIT = 5e-9, 4e-10
REPORT_SECONDS, SAVE_SECONDS = 0.5, 10.0
# Shares of a time limit at which each ends: the start of the search for basins, the search itself, the first of
# two pilots (for a fitted reference), any other pilot, and the time in which the schedule may be adapted again.
START_SHARE, BASINS_SHARE = 0.05, 0.15
FIRST_PILOT_SHARE, PILOT_SHARE, LAST_ADAPT_SHARE = 0.25, 0.4, 0.6
# The time limit at which the search for basins is as thorough as without one.
THOROUGH_SECONDS = 30.0
# Under a time limit there are fewer replicates where all of them could not make WANTED_ITERATIONS on USUAL_RUNGS
# rungs, pilot included; fewer than FEWEST_REPLICATES only where these could not make LEAST_ITERATIONS.
FEWEST_REPLICATES, USUAL_RUNGS = 8, 32
FEWEST_GIVEN = 2  # replicates that start from given states: a single one has no spread
WANTED_ITERATIONS, LEAST_ITERATIONS = 840, 120
# Shares of a time limit for the bounds after a run, by basins and by states; the seconds of a state per unit and
# per bond, and the seconds per bond of steps that read whole tables of couplings.
BOUND_SHARE, STATES_SHARE = 0.03, 0.03
STATE_UNIT, STATE_BOND, TABLES_BOND = 1e-7, 3e-10, 8e-8
FEWEST_KNOWN = 16  # given states to use, however long they take
# Seconds of a sweep of a sparse machine on an idle core: per unit, more per summed-out unit, and per bond.
SPARSE_UNIT, SPARSE_SUMMED, SPARSE_BOND = 5e-10, 6.6e-10, 5.4e-11
# Time between two checks of the clock: as a share of the limit, and in seconds.
CLOCK_SHARE, CLOCK_SECONDS = 0.005, 0.25
# Least chunks of a run under a time limit, and the fraction (1/8) of its sweeps before exchange rates are checked.
LEAST_CHUNKS, FIRST_CHECK = 24, 8
# Round number of a run whose schedule was adapted again, and the key of the pilot that did it.
SECOND_ROUND, SECOND_PILOT_KEY = 1000, 10
# The schedule is adapted again, once, if a pair exchanges at less than this rate or this share of the target.
LEAST_RATE, LEAST_SHARE = 0.15, 0.3
# Slowdown of a sweep where every rung has its own couplings, and the most rungs of the first pilot there.
ALONG_TRAINING, MOST_FIRST_RUNGS = 3.0, 24
BYTES_OF_RUNG = 40  # per coupling, while tables are made


class TemperedRun:
    """Parallel tempering of one machine until the standard error is small enough, or the run is long enough.

    The first half of the replicates starts at β = 0, the second in the deepest basins that `find_basins` found;
    that the halves agree is a check.  If states are given, the last third of the replicates starts from them, and
    must agree with all others.  All random numbers follow from the seed, for any number of threads.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    config : LogZConfig
    device : str
    threads : int
        CPU threads.
    offset : float
        Nats added to log Z for terms outside the machine, such as isolated units that were removed.
    clock : Clock, optional
        Time limit; the run stops in time for the steps after it.
    basins : Basins, optional
        Known basins; by default a search finds them.
    ordered : float64, shape (n, n_kept), optional
        Means of the kept units from which the second half of the replicates starts, instead of the basins.
    starts : uint8, shape (n, n_kept), optional
        Known states of the kept units.
    trajectory : TrajectoryReference, optional
        The path along the machine's training, for `config.path` "trajectory".

    Raises
    ------
    ConfigError
        If the couplings are too large for float32.

    Attributes
    ----------
    n_iterations : int
        Block Gibbs sweeps of every chain since the schedule was adapted.
    stopped : str
        Why the run stopped: `precision`, `sweeps`, `work` or `time limit`; empty while it runs.
    config : LogZConfig
        The given settings, with the number of replicates that the time limit allows.
    foreseen : dict
        Sweeps and standard error at the end as predicted by the pilot; None if it could not predict them.
    adapted_again : bool
        Whether the schedule was adapted again after the run had begun.
    paths : dict
        The chosen path and the barriers of both; empty if there was no choice.
    continued_from : list of dict
        Ends of earlier runs that this one continues: their `precision`, `time_limit`, `n_sweeps` and `n_done`,
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
        # The default limit is a safeguard: within it, numbers depend on the work alone, not on the computer's
        # load.
        self.is_timed = config.time_limit > 0
        self.basins_work = WORK * min(1.0, self.clock.limit / THOROUGH_SECONDS)
        self.basins = basins or self.find_basins(config.seed, given=starts)
        self.ordered = ordered
        self.core_seconds = CORE_SECONDS
        self.n_iterations, self.next_check, self.stopped = 0, 0, ""
        self.adapted_again, self.rates_checked, self.of_one = False, False, math.inf
        self.paths: dict[str, Any] = {}
        self.foreseen: dict[str, float | None] = {"n_sweeps": None, "std_err": None}
        self.spent = _Spent()
        self.chunk = chunk_of(config.n_sweeps)
        self.continued_from: list[dict[str, Any]] = []
        self._reset_history()

    def _reset_history(self) -> None:
        """Start the history that another stopping rule would need: errors by iteration, rates by chunk."""
        self.errors: dict[int, float] = {}
        self.next_error = MIN_ITERATIONS
        self.least_rates: list[float] = []

    def find_basins(self, seed: int, share: float = 1.0, given: NDArray[np.uint8] | None = None) -> Basins:
        """Return the basins of a search, from given states too, with a share of the work for searches."""
        is_late, is_over = (self._search_later_than(share) for share in (START_SHARE, BASINS_SHARE))
        work = share * self.basins_work
        return find_basins(self.reduced, seed, work=work, is_over=is_over, is_late=is_late, given=given)

    def compile_kernels(self) -> None:
        """Have numba compile the kernels for this machine, or load them from its cache, before a clock starts."""
        is_mixture = self.config.reference == "modes"
        reference = mixture_of_modes(self.machine, self.basins) if is_mixture else self.trajectory
        replicas = make_replicas(self.machine, Schedule.uniform(1), 2, 0, 0, self.device, reference=reference)
        replicas.anneal(1)
        replicas.run(1)

    def _affordable(self, config: LogZConfig) -> int:
        """Return how many replicates the time limit allows; it does not depend on the computer's load."""
        if math.isinf(self.clock.limit):
            return config.n_replicates
        seconds = self.clock.limit * self.threads if config.time_limit else CORE_SECONDS
        chain_sweeps = seconds / self.sweep_seconds / USUAL_RUNGS
        wanted, least = (int(chain_sweeps / n) for n in (WANTED_ITERATIONS, LEAST_ITERATIONS))
        n = max(wanted // 2 * 2, min(FEWEST_REPLICATES, least // 2 * 2), 2)
        return min(config.n_replicates, n)

    def _later_than(self, share: float) -> Callable[[], bool]:
        """Return a callback that returns whether this share of the time limit is past."""
        return lambda: self.clock.is_past(share)

    def _search_later_than(self, share: float) -> Callable[[], bool]:
        """Return the same for a search for basins, which is bounded by work alone unless a limit was requested."""
        return self._later_than(share if self.is_timed else math.inf)

    def _slice(self, replicas: Replicas) -> int:
        """Return the number of iterations before the next check of the clock."""
        if math.isinf(self.clock.limit):
            return max(ROUNDS)
        seconds = self.seconds_per_iteration(replicas)
        look = max(CLOCK_SECONDS, CLOCK_SHARE * self.clock.limit)
        return min(max(ROUNDS), max(1, int(look / seconds)))

    def seconds_per_iteration(self, replicas: Replicas) -> float:
        """Return the wall seconds of an iteration: measured, or predicted before the first."""
        n_chains = self.config.n_replicates * len(replicas.schedule.betas)
        return n_chains * (self.spent.per_sweep or self.sweep_seconds / self.threads)

    def _timed(self, replicas: Replicas, n: int) -> Works:
        """Run n iterations, and record the time that they take."""
        began = self.clock.elapsed
        works = replicas.run(n)
        self.spent.add(n * self.config.n_replicates * len(replicas.schedule.betas), self.clock.elapsed - began)
        return works

    def adapt(self, report: Report = ignore) -> None:
        """Adapt the schedule in a pilot run, and in another for every fit of the reference.

        All pilots end within their shares of the time limit.
        """
        how: dict[str, Any] = {"report": report}
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
        self.foreseen = self._predict(pilot)

    def _n_fitted(self, most: int) -> int:
        """Return the number of states for a fit: those that half of the remaining pilot time allows."""
        seconds = (PILOT_SHARE * self.clock.limit - self.clock.elapsed) / 2
        if math.isinf(seconds):
            return most
        n = int(seconds / (FIT_EVERY * self.seconds_per_iteration(self.replicas)))
        return min(most, max(1, n) * self.config.n_replicates)

    def _pilot_within(self, share: float) -> dict[str, Any]:
        """Return the arguments with which a pilot ends at this share of the time limit."""
        return {"is_over": self._later_than(share), "run": self._timed, "slice_of": self._slice}

    def _begin(self, pilot: Pilot, round: int) -> None:
        """Start the run from the end of a pilot."""
        self.settled = pilot.settled
        self._require_memory(len(pilot.schedule.betas))
        self.replicas = self._make(pilot.schedule, round, pilot.v)
        if math.isfinite(self.clock.limit):  # two chunks make an estimate, and a few more an error bar
            affordable = self.clock.left / self.seconds_per_iteration(self.replicas) / LEAST_CHUNKS
            self.chunk = min(self.chunk, max(1, int(affordable)))
        self.sums = WorkSums(pilot.shift, self.config.n_replicates, self.chunk)
        self.renewal = Renewal(self.config.n_replicates, len(pilot.schedule.betas))

    def _pilot(self, steps: int = FIRST_RUNGS, share: float = PILOT_SHARE, **how: Any) -> Pilot:
        """Return the pilot from the present reference; some replicates start in basins or given states."""
        size = self.n_ordered, steps + 1, self.config.seed
        ordered = self.basins.draw(*size) if self.ordered is None else drawn_in_turn(self.ordered, *size)
        if self.starts is not None:
            ordered = np.concatenate((ordered, self._given(steps + 1)))
        how = {"exchange_rate": self.config.exchange_rate, **self._pilot_within(share), **how}
        return run_pilot(self._make, ordered=ordered, steps=steps, **how)

    @property
    def n_given(self) -> int:
        """Number of replicates, the last ones, that start from given states: a third, or 0 if that is too few."""
        n = self.config.n_replicates // 3
        return n if self.starts is not None and n >= FEWEST_GIVEN else 0

    @property
    def n_ordered(self) -> int:
        """Number of replicates that start in basins: the second half of the others."""
        return (self.config.n_replicates - self.n_given) // 2

    def _given(self, n_rungs: int) -> NDArray[np.uint8]:
        """Return given states (n_given, n_rungs, n_kept), each used equally often up to one."""
        assert self.starts is not None
        rng, n = numpy_generator(self.config.seed, "log_z", 9), self.n_given * n_rungs
        rounds = [rng.permutation(len(self.starts)) for _ in range(math.ceil(n / len(self.starts)))]
        which = np.concatenate((np.empty(0, np.intp), *rounds))[:n]
        return self.starts[which].reshape(self.n_given, n_rungs, self.starts.shape[1])

    def _pilot_from_modes(self, how: dict[str, Any]) -> Pilot:
        """Return the pilot from a mixture at the machine's modes, fitted again to the states that it reaches."""
        self.reference = mixture_of_modes(self.machine, self.basins)
        shares = np.linspace(BASINS_SHARE, PILOT_SHARE, N_FITS + 2)[1:].tolist()
        pilot = self._pilot(MODES_STEPS, share=shares[0], **how)
        for key in range(1, N_FITS + 1):
            self.replicas = self._make(pilot.schedule, key, pilot.v)
            most = N_FITTED_BRIDGE if pilot.schedule.n_steps == 1 else N_FITTED_MODES
            states = self.target_samples(self._n_fitted(most), FIT_EVERY, FIT_EVERY)
            how["share"] = shares[key]
            pilot = self._bridged(states, 2 * key, how) or self._scheduled(states, 2 * key + 1, how)
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
        """Return the pilot of a single step from a mixture of many components; None if the step is too long."""
        self.reference = self._fitted(states, MANY)
        bridge = {**how, "exchange_rate": min(BRIDGE_RATE, self.config.exchange_rate), "rounds": BRIDGE_ROUNDS}
        pilot = self._pilot(1, key=key, **bridge)
        return pilot if pilot.settled else None

    def _scheduled(self, states: NDArray[np.uint8], key: int, how: dict[str, Any]) -> Pilot:
        """Return the pilot of a schedule from a mixture of few components: each adds to the cost of every rung."""
        self.reference = self._fitted(states, FEW)
        return self._pilot(MODES_STEPS, key=key, **how)

    def _fitted(self, states: NDArray[np.uint8], n_components: int) -> MixtureReference:
        """Return the mixture that fits states, as far as time allows."""
        is_over = self._later_than(PILOT_SHARE)
        return mixture_of_states(self.machine, states, self.basins, n_components, self.config.seed, is_over)

    def _predict(self, pilot: Pilot) -> dict[str, float | None]:
        """Return the predicted sweeps and standard error at the end of the run, from the works of the pilot.

        Sets `of_one`, the standard error times the square root of the number of sweeps.
        """
        n = len(pilot.works.forward)
        sums = WorkSums(pilot.shift, self.config.n_replicates, n)
        sums.add(pilot.works)
        try:
            of_one = bridge_of_sums(sums).std_err * math.sqrt(n / (1 - self.config.burn_in))
        except DvaeError:
            of_one = math.nan
        self.of_one = of_one if math.isfinite(of_one) else math.inf
        return self._prediction()

    def _prediction(self) -> dict[str, float | None]:
        """Return the predicted sweeps and standard error at the end of the run, from `of_one`."""
        if math.isinf(self.of_one):
            return {"n_sweeps": None, "std_err": None}
        planned = self._planned(self.of_one)
        return {"n_sweeps": float(round(planned)), "std_err": self.of_one / math.sqrt(max(1.0, planned))}

    def _planned(self, of_one: float) -> float:
        """Return the number of sweeps that the run will make if its standard error is `of_one` over their root."""
        if self.config.n_sweeps:
            return float(self.config.n_sweeps)
        wanted = max(MIN_ITERATIONS, (of_one / self.precision) ** 2)
        affordable = self.clock.left / self.seconds_per_iteration(self.replicas)
        return min(wanted, self._most() or math.inf, affordable)

    def _require_memory(self, n_rungs: int) -> None:
        """Raise ConfigError if the replicas on `n_rungs` rungs do not fit into memory."""
        n = self.config.n_replicates
        more = tempering_bytes(self.machine, n, n_rungs) - tempering_bytes(self.machine, n)
        if isinstance(self.reference, TrajectoryReference):
            more += n_rungs * BYTES_OF_RUNG * self.reference.W[0].size
        task = f"tempering {n} replicates of {n_rungs} rungs"
        require_memory(more, "--replicates", task, "use fewer")

    def advance(
        self,
        reserve: float = 0.0,
        report: Callable[[int, int, Bridge], None] | None = None,
        save: Callable[[], None] | None = None,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run until the end, or until it is paused.

        Parameters
        ----------
        reserve : float
            Seconds of the time limit to keep for the steps after the run.
        report : callable, optional
            Called with (iterations done, planned, estimate so far) about twice a second.
        save : callable, optional
            Called from time to time, when `state_dict` is worth saving.
        is_paused : callable
            Returns whether to stop before the end; another call of `advance` continues.
        """
        reported = saved = self.clock.elapsed
        while not self._at_its_end() and not is_paused():
            works = self._next_works(reserve)
            if works is None:
                self.stopped = "time limit"
                break
            self.sums.add(works)
            self.n_iterations += self.chunk
            self._record_history()
            now = self.clock.elapsed
            if report and now - reported > REPORT_SECONDS and self.sums.n_blocks > 1:
                report(self.n_iterations, self.next_check, self.bridge())
                reported = now
            if save and now - saved > SAVE_SECONDS:
                save()
                saved = now
        if self.stopped and self.n_iterations:
            self.errors[self.n_iterations] = self._error()

    def _record_history(self) -> None:
        """Record what a stricter rule would see here, so that a run continued under it decides equally.

        Far from its precision, a rule checks the error whenever the run has doubled.
        """
        if self.config.n_sweeps and self.n_iterations < MIN_ITERATIONS + self.chunk:
            self.least_rates.append(float(self._late_rates().min()) if self.sums.n_blocks > 1 else math.nan)
        if self.n_iterations >= self.next_error:
            self.errors[self.n_iterations] = self._error()
            self.next_error = int(GROWTH * self.n_iterations) // self.chunk * self.chunk

    def _error(self) -> float:
        """Return the standard error so far, nats; infinite if there is no estimate yet."""
        try:
            return self.bridge().std_err
        except DvaeError:
            return math.inf

    def _late_rates(self) -> Float:
        """Return the exchange rate of every pair in the second half of the run, shape (n_steps,)."""
        rates: Float = self.sums.statistic("exchange", self.sums.n_blocks // 2).mean((0, 1))
        return rates

    def _next_works(self, reserve: float) -> Works | None:
        """Run a chunk; return None if the time is up first and there is an estimate.

        Renewals are recorded at a point of the chunk that varies, because exchanges may be periodic in time.
        """
        look = 1 + RENEWAL_STRIDE * (self.n_iterations // self.chunk) % self.chunk
        parts: list[Works] = []
        done = 0
        while done < self.chunk:
            if self.sums.n_blocks > 1 and self.clock.left < reserve:
                return None
            size = min(self._slice(self.replicas), (look if done < look else self.chunk) - done)
            parts.append(self._timed(self.replicas, size))
            done += size
            if done == look:
                self.renewal.record(self.replicas, self.n_iterations + look)
        return Works.joined(parts)

    def _at_its_end(self) -> bool:
        """Check the error where that is due, and return whether the run is at its end."""
        if self._is_rate_check_due():
            self.rates_checked = True
            self._adapt_again()
        if not self.stopped and self.n_iterations >= self.next_check:
            self.stopped = self._reason_to_stop() if self.n_iterations else ""
            self.next_check = self._next_check()
            if self.n_iterations and not self.config.n_sweeps:
                self.errors[self.n_iterations] = self._error()
        return bool(self.stopped)

    def _is_rate_check_due(self) -> bool:
        """Return whether the exchange rates are to be checked, which happens once per run."""
        due, late = first_rate_check(self.config.n_sweeps), (PILOT_SHARE + LAST_ADAPT_SHARE) / 2
        is_due = self.n_iterations >= due or self.clock.is_past(late)
        return not self.rates_checked and is_due and self.sums.n_blocks > 1 and not self.stopped

    def _adapt_again(self) -> None:
        """Adapt the schedule once more and restart if a pair exchanges far less often than in the pilot."""
        rates, asked = self._late_rates(), self.config.exchange_rate
        if rates.min() >= least_rate_of(asked) or self.clock.is_past(LAST_ADAPT_SHARE):
            return
        schedule = self.replicas.schedule.equalised(1 - rates, asked)
        start = schedule, states_on(self.replicas, schedule)
        within = self._pilot_within(LAST_ADAPT_SHARE)
        how = {**within, "start": start, "rounds": LONGER_ROUNDS, "key": SECOND_PILOT_KEY}
        pilot = run_pilot(self._make, asked, **how)
        self._begin(pilot, SECOND_ROUND)
        self.n_iterations, self.next_check, self.adapted_again = 0, 0, True
        self._reset_history()

    @property
    def first_block(self) -> int:
        """Index of the first block after burn-in."""
        return min(round(self.config.burn_in * self.sums.n_blocks), self.sums.n_blocks - 1)

    def bridge(self) -> Bridge:
        """Return the estimate from the blocks after burn-in."""
        return bridge_of_sums(self.sums, self.first_block)

    @property
    def log_z_0(self) -> float:
        """Log Z at β = 0, with the offset, nats."""
        return self.reference.log_z + self.offset

    @property
    def lower_bounds(self) -> Float:
        """Strict lower bounds of log Z, with the offset, the best first, nats."""
        bounds: Float = self.basins.bounds + self.offset
        return bounds

    def lower_bound(self) -> LowerBound:
        """Return the strict lower bound of log Z from all known basins and those of the replicas' present states.

        It uses no estimate; the offset is included, nats.
        """
        share = self.clock.elapsed / self.clock.limit + BOUND_SHARE
        known, states, is_over = self.basins.lower_bound, self.replicas.v, self._search_later_than(share)
        bound = with_basins_of(self.reduced, known, states, self.basins_work, is_over)
        return LowerBound(self._down(bound.value), bound.means)

    def bounds_seconds(self) -> float:
        """Return the approximate seconds of `lower_bound` and `weight_of_states`."""
        n_states = self.config.n_replicates * len(self.replicas.schedule.betas) + len(self._known_states())
        of_states = min(STATES_SHARE * self.clock.limit, n_states * self._seconds_per_state())
        of_tables = TABLES_BOND * self._n_bonds * self.slowness
        return BOUND_SHARE * self.clock.limit + of_states + of_tables

    def _seconds_per_state(self) -> float:
        """Return the approximate seconds to compute the probability of a state."""
        return self._predicted_per_state * self.slowness

    @cached_property
    def _predicted_per_state(self) -> float:
        return STATE_UNIT * len(self.reduced.biases) + STATE_BOND * self._n_bonds

    @cached_property
    def _n_bonds(self) -> int:
        m = self.reduced
        return n_entries(m.W) + (0 if m.J is None else n_entries(m.J))

    @property
    def slowness(self) -> float:
        """Measured over predicted time of a thread's sweeps, at least 1; it scales predictions of other work."""
        idle = self.sweep_seconds * share_of_sparse(self.reduced)
        return max(1.0, self.spent.per_sweep * self.threads / idle)

    def weight_of_states(self) -> float:
        """Return log Σ p~ over the distinct present states of all rungs and the given ones: at most log Z, nats.

        The offset is included.  Under a requested time limit, only the coldest rungs may be used.
        """
        v = self.replicas.v
        if self.is_timed and math.isfinite(self.clock.limit):
            of_rung = len(v) * self._seconds_per_state()
            v = v[:, -max(1, int(STATES_SHARE * self.clock.limit / of_rung)) :]
        states = np.concatenate((v.reshape(-1, v.shape[-1]), self._known_states()))
        return self._down(weight_of_states(self.reduced, states))

    def _known_states(self) -> NDArray[np.uint8]:
        """Return the given states whose probabilities the time allows."""
        if self.starts is None:
            return np.empty((0, len(self.reduced.b)), np.uint8)
        most = STATES_SHARE * CORE_SECONDS / self._predicted_per_state
        if self.is_timed:
            most = min(most, STATES_SHARE * self.clock.limit / self._seconds_per_state())
        return spread(self.starts, max(FEWEST_KNOWN, int(most)))

    def _down(self, bound: float) -> float:
        """Return a bound with the offset, reduced by the possible rounding of its sum over all units."""
        return bound + self.offset - HALF_UNIT_64 * self.machine.n_units * (abs(bound) + abs(self.offset))

    @property
    def n_burnt(self) -> int:
        """Iterations of the burn-in."""
        return self.first_block * self.sums.block

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue, as plain arrays."""
        return {
            "betas": self.replicas.schedule.betas,
            **above("reference_", self.reference.state_dict()),
            "settled": np.array(self.settled),
            "looked": np.array([self.rates_checked, self.adapted_again]),
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
            **above("replicas/", self.replicas.state_dict()),
            **above("sums/", self.sums.state_dict()),
            **above("renewal/", self.renewal.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state that `state_dict` returned, instead of adapting the schedule.

        A run that had another stopping rule is continued under this one.
        """
        parameters = below("reference_", state)
        self._take_reference(parameters)
        barriers = {name: float(value) for name, value in below("paths/", state).items()}
        if barriers:
            self.is_along = isinstance(self.reference, TrajectoryReference)
            self.paths = {"chosen": "trajectory" if self.is_along else "beta", **barriers}
        self.settled = bool(state["settled"])
        self.rates_checked, self.adapted_again = map(bool, state["looked"])
        values = [None if math.isnan(x) else x for x in state["foreseen"].tolist()]
        self.foreseen = dict(zip(self.foreseen, values, strict=True))
        self.config = dataclasses.replace(self.config, n_replicates=int(state["n_replicates"]))
        self.n_iterations, self.next_check = int(state["n_iterations"]), int(state["next_check"])
        self.stopped = STOPS[int(state["stopped"])]
        self.replicas = self._make(Schedule(state["betas"]), SECOND_ROUND if self.adapted_again else 0, None)
        self.replicas.load_state_dict(below("replicas/", state))
        self.sums = WorkSums.from_state(below("sums/", state))
        self.renewal = Renewal(self.config.n_replicates, len(state["betas"]))
        if "renewal/births" in state:  # earlier versions did not store it
            self.renewal.load_state_dict(below("renewal/", state))
        self.chunk = self.sums.chunk
        self.of_one, self.next_error = float(state["of_one"]), int(state["next_error"])
        self.errors = {int(n): error for n, error in state["errors"].tolist()}
        self.least_rates = state["least_rates"].tolist()
        self._take_record(unpacked(state["record"]), is_finished=FINISHED in state)

    def _take_record(self, record: dict[str, Any], is_finished: bool) -> None:
        """Continue a recorded run under this run's own stopping rule.

        To stop by precision twice is the same optional stopping as to stop by it once.  The continued run has the
        same samples as one under the stricter rule from the start, and checks its error where that one would have,
        as far as the recorded errors allow.
        """
        self.continued_from = record.pop("continued_from")
        date, is_same = record.pop("date"), record == rule_of(self.config)
        if is_finished or not is_same:
            error = self.errors.get(self.n_iterations, math.nan)
            part = {**record, "n_done": self.n_iterations, "std_err": error, "date": date}
            self.continued_from = with_part(self.continued_from, part)
        if is_same:
            return
        self.stopped, self.foreseen = "", self._prediction()
        if self.config.n_sweeps:
            self.rates_checked = self.adapted_again or self.n_iterations >= first_rate_check(self.config.n_sweeps)
        self.next_check = self._replayed_check()

    def _replayed_check(self) -> int:
        """Return the iterations after which the rule checks next, as if it had been the rule from the start."""
        if self.config.n_sweeps:
            return self._next_check()
        check = MIN_ITERATIONS
        for n, error in sorted(self.errors.items()):
            if n >= check and error <= self.precision:
                return n
            check = self._check_after(n, error) if n >= check else check
        return check

    def _take_reference(self, parameters: dict[str, NDArray[Any]]) -> None:
        """Restore the reference with these parameters."""
        if "trajectory" in parameters:
            assert self.trajectory is not None  # a stored state belongs to the same task
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
        """Return replicas from the reference to the machine; round 0, or `SECOND_ROUND`, is the run itself."""
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
        """The standard error at which the run stops, nats."""
        return self.config.precision or PRECISION

    @cached_property
    def rounding(self) -> float:
        """Rounding error of log Z in float32, nats: half a unit in the last place of all terms at a mode."""
        m, v = self.reduced, self.basins.means
        h = expit(m.c + v @ m.W)
        terms = (v @ abs(m.W) * h).sum(1) + v @ np.abs(m.b) + h @ np.abs(m.c)
        if m.J is not None:
            terms += (v @ abs(m.J) * v).sum(1) / 2
        return HALF_UNIT * float(terms.max() + math.log(2) * self.machine.n_units)

    @property
    def sweep_seconds(self) -> float:
        """Approximate seconds of a sweep of one chain on one core, works and exchange included."""
        n = len(self.reference.weights) if isinstance(self.reference, MixtureReference) else 0
        return self.seconds_of_sweep(n) * (ALONG_TRAINING if self.is_along else 1)

    def seconds_of_sweep(self, n_components: int) -> float:
        """Return the same for a mixture of n components; 0 stands for a reference of independent units."""
        of_mixture = sum(self.reduced.W.shape) * (MIXTURE_UNIT + COMPONENT_UNIT * n_components)
        return seconds_per_sweep(self.reduced) + (of_mixture if n_components else 0.0)

    @property
    def n_chains(self) -> int:
        """Number of chains: all rungs of all replicates."""
        return self.config.n_replicates * len(self.replicas.schedule.betas)

    def most_iterations(self, seconds: float) -> int:
        """Return how many iterations `seconds` core-seconds allow."""
        return max(MIN_ITERATIONS, int(seconds / (self.n_chains * self.sweep_seconds)))

    def _most(self) -> int | None:
        """Return how many iterations the work limit allows; None if a precision was requested."""
        return None if self.config.precision else self.most_iterations(self.core_seconds)

    def _next_check(self) -> int:
        """Return the number of iterations at which the error is checked next."""
        if self.config.n_sweeps:
            return self.config.n_sweeps // self.chunk * self.chunk
        if not self.n_iterations:
            return MIN_ITERATIONS
        return self._check_after(self.n_iterations, self.bridge().std_err)

    def _check_after(self, n_iterations: int, std_err: float) -> int:
        """Return the same after the error `std_err`, nats, was found at `n_iterations`."""
        wanted = MARGIN * (std_err / self.precision) ** 2
        check = math.ceil(n_iterations * min(GROWTH, max(MARGIN, wanted)))
        return min(check, self._most() or check) // self.chunk * self.chunk

    def _reason_to_stop(self) -> str:
        """Return the reason to stop, or an empty string."""
        if self.config.n_sweeps:
            return "sweeps"
        if self.bridge().std_err <= self.precision:
            return "precision"
        most = self._most()
        return "work" if most and self.n_iterations + self.chunk > most else ""


def chunk_of(n_sweeps: int) -> int:
    """Return the iterations per chunk of a run of `n_sweeps`; 0 stands for no fixed length."""
    return min(CHUNK, max(1, n_sweeps // 40)) if n_sweeps else CHUNK


def first_rate_check(n_sweeps: int) -> int:
    """Return the number of iterations after which such a run checks its exchange rates."""
    return min(MIN_ITERATIONS, n_sweeps // FIRST_CHECK or MIN_ITERATIONS)


def least_rate_of(exchange_rate: float) -> float:
    """Return the exchange rate below which the schedule is adapted again, for this target rate."""
    return min(LEAST_RATE, LEAST_SHARE * exchange_rate)


def shorter_path(barrier_beta: float, barrier_trajectory: float) -> str:
    """Return the name of the path with the smaller barrier."""
    return "trajectory" if barrier_trajectory <= barrier_beta else "beta"


def _check_range(reduced: Reduced, method: str) -> None:
    """Raise ConfigError if couplings and biases are too large for float32 to resolve a nat."""
    fields = [np.abs(reduced.b) + abs(reduced.W).sum(1), np.abs(reduced.c) + abs(reduced.W).sum(0)]
    if reduced.J is not None:
        fields[0] += abs(reduced.J).sum(1)
    if (largest := float(max(field.max() for field in fields if field.size))) > LARGEST_FIELD:
        raise ConfigError(
            f"--method {method}: couplings and biases of a unit sum to {largest:.3g} nats, where float32 does not "
            "resolve a nat; use --method exact, or scale them down"
        )


@dataclasses.dataclass(slots=True)
class _Spent:
    """Wall seconds and chain sweeps of late: every call halves the weight of the past."""

    sweeps: float = 0.0
    seconds: float = 0.0

    @property
    def per_sweep(self) -> float:
        """Seconds of a sweep of one chain with all threads at work; 0 before the first."""
        return self.seconds / self.sweeps if self.sweeps else 0.0

    def add(self, sweeps: float, seconds: float) -> None:
        """Record a call."""
        self.sweeps, self.seconds = self.sweeps / 2 + sweeps, self.seconds / 2 + seconds


def seconds_per_sweep(reduced: Reduced) -> float:
    """Return the approximate seconds of a sweep of one chain on one core, works and exchange included."""
    n_kept, n_summed = reduced.W.shape
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J) // 2)
    return float(1e-9 * (50 + 0.02 * n_bonds + 3 * (n_kept + n_summed)))


def share_of_sparse(reduced: Reduced) -> float:
    """Return the share of `seconds_per_sweep` that a sweep takes on an idle core if tables are sparse, else 1.

    `seconds_per_sweep` decides the length of runs without a limit, so it keeps the speed of earlier versions,
    which swept sparse machines slowly.
    """
    if is_full(reduced.W):
        return 1.0
    n_kept, n_summed = reduced.W.shape
    n_bonds = n_entries(reduced.W) + (0 if reduced.J is None else n_entries(reduced.J) / 2)
    seconds = SPARSE_UNIT * (n_kept + n_summed) + SPARSE_SUMMED * n_summed + SPARSE_BOND * n_bonds
    return min(1.0, float(seconds) / seconds_per_sweep(reduced))
