"""Parallel tempering from the uniform reference, or from a mixture at the machine's modes where that is better.

Where basins have unequal weights, the path from the uniform reference moves mass between them abruptly, and
tempering is slow.  A mixture at the modes avoids this, but misses any basin that it lacks.  So a first run starts
from the uniform reference.  If it makes too little progress, the remaining time goes to a second run, from a
mixture of the modes that a search found and of those that the states of the first run lead to.  Half of its
replicates start in states that the mixture was not made from: modes of another search, and states of the first run
(the two paths of Surjanovic et al., 2022, one after the other).  Where such a state is in a basin that the mixture
lacks, its replicate stays there, and the two halves differ.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from dvae_core.progress import changed
from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..couplings import is_dense
from ..runtime.clock import Clock
from ..runtime.resume import above
from ..sampling.basins import Basins
from ..sampling.lower_bound import mean_field_bounds
from ..verdict import Check
from .checks import check_bridge, check_lower_bound, check_other_run, student_limit
from .methods import (
    Estimate,
    LogZTask,
    adapt_or_resume,
    advance,
    conclude_in_full,
    keep_end,
    reserve,
    tempered,
)
from .run import CORE_SECONDS, MODES_STEPS, PILOT_SHARE, PRECISION, TemperedRun

# Share of the work, or of the time limit, after which the first run is judged, and the least iterations before
# that.
PROBE_SHARE, PROBE_TIME, PROBE_ITERATIONS = 0.1, 0.3, 512
# Approximate iterations of all pilots of the second run, and the least seconds that it gets.
PILOT_ITERATIONS, LEAST_SECONDS = 800, 0.1
# Predicted standard error, nats, with which a sound first run continues if no precision was requested.  Otherwise
# the second run replaces it only if the second's predicted error is at most SMALLER times the first's.
GOOD, SMALLER = 2 * PRECISION, 0.7
# Share of the work of a search for basins, for the search for other starts.
OTHER_SEARCH = 0.3
# Components of the first mixture.
N_MODES = 24


def estimate_from_best_reference(task: LogZTask) -> Estimate:
    """Return the estimate of `tempered_from_best_reference`."""
    return tempered_from_best_reference(task)[1]


def tempered_from_best_reference(task: LogZTask) -> tuple[TemperedRun, Estimate]:
    """Return a run by parallel tempering from the reference that `config.reference` names, and its estimate.

    With "modes", the run starts from a mixture at the modes, after a first run from the uniform reference; with
    "auto", the first run decides whether the second is worth its time.

    Raises
    ------
    ConfigError, OverlapError
        As `tempered`.
    """
    config = task.config
    if config.reference not in ("auto", "modes") or task.trajectory:
        return tempered(task)
    is_open, is_second, is_final = config.reference == "auto", False, False
    first = _part(replace(task, config=replace(config, reference="uniform")), "first/")
    if is_open and not _may_have_modes(task):
        return tempered(replace(first, store=task.store))
    if task.store and (state := task.store.load()):
        is_second, is_final = "second/betas" in state, "is_final" in state
    run = _first_run(first, is_judged=is_second or is_final)
    if is_final or (is_open and not is_second and (run.stopped or not _is_slow(run))):
        return _first_to_its_end(run, first)
    second, own = _second_run(run, first)
    adapt_or_resume(second, own)
    if is_open and not is_second and _figure(second) > SMALLER * _figure(run):
        return _first_to_its_end(run, first)
    estimate = _to_its_end(second, own)
    return second, _compared(estimate, run, task.n_comparisons)


def _may_have_modes(task: LogZTask) -> bool:
    """Return whether a mixture may help: the machine is a dense RBM, and the run has no fixed length."""
    reduced, config = task.machine.reduced(), task.config
    return reduced.J is None and is_dense(reduced.W) and not config.n_sweeps and config.energies == "reduced"


def _part(task: LogZTask, prefix: str, **others: Any) -> LogZTask:
    """Return the task with a part of its store, to which the other arrays are added."""
    return replace(task, store=replace(task.store, prefix=prefix, others=others) if task.store else None)


def _first_run(task: LogZTask, is_judged: bool) -> TemperedRun:
    """Return the run from the uniform reference, advanced until it can be judged."""
    how: dict[str, Any] = {"offset": task.offset, "clock": task.clock, "starts": task.starts}
    run = TemperedRun(task.machine, task.config, task.device, task.threads, **how)
    with task.clock.paused():
        run.compile_kernels()
    adapt_or_resume(run, task)
    if not is_judged:
        advance(run, task, reserve(run, task), lambda: _can_be_judged(run))
        if task.store:
            task.store.save(run.state_dict())
    return run


def _can_be_judged(run: TemperedRun) -> bool:
    """Return whether a run has had its share of the work or of the time."""
    most = run.config.n_sweeps or run.most_iterations(CORE_SECONDS)
    is_long = run.n_iterations >= max(PROBE_SHARE * most, min(PROBE_ITERATIONS, most / 4))
    return run.sums.n_blocks > 1 and (is_long or run.clock.is_past(PROBE_TIME))


def _first_to_its_end(run: TemperedRun, task: LogZTask) -> tuple[TemperedRun, Estimate]:
    """Finish the first run, and return it with its estimate; no second run is made."""
    return run, _to_its_end(run, _part(task, "first/", is_final=np.array(True)))


def _to_its_end(run: TemperedRun, task: LogZTask) -> Estimate:
    """Finish a run, and return its estimate."""
    advance(run, task, reserve(run, task))
    keep_end(run, task)
    return conclude_in_full(run, task)


def _second_run(run: TemperedRun, first: LogZTask) -> tuple[TemperedRun, LogZTask]:
    """Return a run from the modes of the first run's states, and its task; it starts in states found otherwise."""
    arrays = above("first/", run.state_dict()) if first.store else {}
    config = replace(first.config, reference="modes")
    task = replace(
        first,
        config=config,
        clock=Clock(max(LEAST_SECONDS, run.clock.left), run.clock.now),
        report=changed(first.report, "{} from modes"),
    )
    task = _part(task, "second/", **arrays)
    means, W = run.lower_bound().means[:N_MODES], run.reduced.W
    basins = Basins(means, mean_field_bounds(run.reduced, W, means), run.basins.lower_bound)
    how: dict[str, Any] = {"basins": basins, "ordered": _other_starts(run), "starts": task.starts}
    second = TemperedRun(task.machine, config, task.device, task.threads, task.offset, task.clock, **how)
    second.core_seconds = (1 - PROBE_SHARE) * CORE_SECONDS
    with task.clock.paused(), first.clock.paused():
        second.compile_kernels()
    return second, task


def _other_starts(run: TemperedRun) -> Float:
    """Return means of the kept units (n, n_kept): modes of another search and states of the run, alternating.

    The states are those of all rungs, the coldest first: hot ones may lead to basins that nothing else finds.
    """
    seed = int(numpy_generator(run.config.seed, "log_z", 12).integers(2**63))
    modes, v = run.find_basins(seed, OTHER_SEARCH).means, run.replicas.v[:, ::-1].astype(np.float64)
    states = v.swapaxes(0, 1).reshape(-1, v.shape[-1])
    n = min(len(modes), len(states))
    in_turn = np.stack((modes[:n], states[:n]), 1).reshape(-1, states.shape[1])
    return np.concatenate((in_turn, modes[n:], states[n:]))


def _is_slow(run: TemperedRun) -> bool:
    """Return whether a run is unsound so far, or its error will stay large, while there is time for another."""
    seconds = min(CORE_SECONDS, run.clock.left * run.threads)
    if PILOT_SHARE * seconds < PILOT_ITERATIONS * _seconds_from_modes(run):
        return False  # fits to few states and schedules that have not settled make larger errors still
    return bool(_failed(run)) or _figure(run) > (run.config.precision or GOOD) * math.sqrt(seconds)


def _seconds_from_modes(run: TemperedRun) -> float:
    """Return the approximate seconds of an iteration from modes on one core, with the rungs that it will need."""
    n_rungs = max(len(run.replicas.schedule.betas) / 2, MODES_STEPS + 1)
    return run.config.n_replicates * n_rungs * run.seconds_of_sweep(N_MODES)


def _figure(run: TemperedRun) -> float:
    """Return the standard error that one core-second gives, nats, by the run so far or by its pilot."""
    of_one = run.bridge().std_err * math.sqrt(run.n_iterations) if run.sums.n_blocks > 1 else run.of_one
    return of_one * math.sqrt(run.n_chains * run.sweep_seconds)


def _failed(run: TemperedRun) -> list[Check]:
    """Return the failed checks of the run so far."""
    limit = student_limit(run.config.n_replicates)
    checks = check_bridge(run.sums, run.first_block, run.bridge(), run.replicas.round_trips, limit)
    return [check for check in checks if not check.passed]


def _compared(estimate: Estimate, run: TemperedRun, n_comparisons: int) -> Estimate:
    """Return an estimate from modes, compared with the first run if that one is sound."""
    bar, limit = run.bridge(), student_limit(run.config.n_replicates, n_comparisons)
    log_z = run.log_z_0 + bar.total
    of_bound = check_lower_bound(log_z, bar.std_err, estimate.diagnostics["lower_bound"], limit)
    failed = [check.name for check in (*_failed(run), *([] if of_bound.passed else [of_bound]))]
    found = {"log_z": log_z, "std_err": bar.std_err, "n_sweeps": run.n_iterations, "failed_checks": failed}
    diagnostics = {**estimate.diagnostics, "uniform_run": found}
    distance = (estimate.log_z - log_z) / math.hypot(estimate.std_err, bar.std_err)
    checks = [] if failed else [check_other_run(distance, limit)]
    return replace(estimate, checks=[*estimate.checks, *checks], diagnostics=diagnostics)
