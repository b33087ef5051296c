"""The methods for log Z, each a function from a task to an `Estimate`: exact, tempering with BAR, annealing."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dvae_core.errors import ConfigError
from dvae_core.progress import Progress, Report, changed, ignore

from ..config import LogZConfig
from ..exact.plan import exact_log_z, exact_plan
from ..machine import Machine
from ..numbers import std_err_of_mean
from ..runtime.clock import Clock
from ..runtime.resume import Store
from ..trajectory import Trajectory
from ..verdict import Check
from .along_training import along_training_seconds, log_z_along_training
from .bar import Bridge
from .checks import (
    check_abrupt,
    check_bridge,
    check_exact,
    check_given_starts,
    check_known_states,
    check_lower_bound,
    check_renewal,
    check_replicates,
    groups_of_starts,
    student_limit,
)
from .post_run import post_run_diagnostics, post_run_seconds
from .referee import REFEREE_SHARE, referee_checks, referee_config, referee_details
from .renewal import promised_share
from .run import FEWEST_REPLICATES, HALF_UNIT, TemperedRun
from .sandwich import N_GROUPS, N_STEPS, sandwich, sandwich_seconds

# The default time limit; the share of a limit for diagnostics after a run, and the seconds always allowed for
# them; the share for a sandwich, which makes fewer steps to keep it.
AUTO_SECONDS, POST_RUN_SHARE, POST_RUN_SECONDS, SANDWICH_SHARE = 30.0, 0.15, 1.0, 0.4
EXACT_ALONG_SECONDS = 10.0  # predicted seconds below which all machines of a training are computed exactly
SEARCH_SHARE = 0.1  # of a time limit, for the search for an exact method
CONCLUSION_SHARE = 0.02  # of a time limit, for making the result, besides bounds and diagnostics
N_RUNNING = 20


@dataclass(frozen=True, slots=True)
class LogZTask:
    """What to estimate, with which settings, and on which device.

    Attributes
    ----------
    machine : BipartiteMachine or GeneralMachine
        Every unit has a coupling, except for the exact method.
    config : LogZConfig
    device : str
    threads : int
        CPU threads, or processes for repeats; the estimate does not depend on them.
    report : callable
        Called with the `Progress`, whose value is the estimate so far.
    store : Store, optional
        Storage of the progress, from which the estimate can be continued.
    n_comparisons : int
        Number of estimates whose checks are reported together; they share the false-alarm rate (Bonferroni).
    offset : float
        Nats added to log Z.
    clock : Clock
        Measures the time limit.
    starts : uint8, shape (n, n_kept), optional
        States of the kept units from which some replicates start.
    trajectory : Trajectory, optional
        The machine's training, if `config.path` is "trajectory".
    final_states : callable, optional
        Called with the final states of the kept units at β = 1, uint8 (n_replicates, n_kept), of the reported run.
    """

    machine: Machine
    config: LogZConfig
    device: str = "cpu"
    threads: int = 1
    report: Report = ignore
    store: Store | None = None
    n_comparisons: int = 1
    offset: float = 0.0
    clock: Clock = field(default_factory=Clock)
    starts: NDArray[np.uint8] | None = None
    trajectory: Trajectory | None = None
    final_states: Callable[[NDArray[np.uint8]], None] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of log Z.

    Attributes
    ----------
    log_z, std_err : float
        In nats; `std_err` is 0 for an exact value.
    repeats : list of float
        Independent estimates, of the replicates or of whole repeats; log_z is approximately their mean.
    n_independent : int
        Number of independent values from which std_err is computed; 0 for an exact value.
    checks : list of Check
    diagnostics : dict
        The quantities behind the checks, and arrays for figures: plain JSON values.
    """

    log_z: float
    std_err: float
    repeats: list[float]
    n_independent: int
    checks: list[Check]
    diagnostics: dict[str, Any]

    @property
    def ci95(self) -> list[float]:
        """95% confidence interval by Student's t, nats."""
        if not self.n_independent:
            return [self.log_z, self.log_z]
        half_width = float(stats.t.ppf(0.975, self.n_independent - 1)) * self.std_err
        return [self.log_z - half_width, self.log_z + half_width]


def estimate_exactly(task: LogZTask) -> Estimate:
    """Return the exact value; ConfigError if computing it takes too long."""
    seconds = search_seconds(task.config)
    report = changed(task.report, "computing exactly")
    log_z = exact_log_z(task.machine, report, task.threads, seconds) + task.offset
    plan = exact_plan(task.machine, seconds)
    return Estimate(log_z, 0.0, [], 0, [], {"route": plan.route, **_exact_along(task, plan.seconds)})


def _exact_along(task: LogZTask, seconds: float) -> dict[str, Any]:
    """Return exact log Z along the training if all of its machines are quick to compute, else nothing."""
    found = task.trajectory
    if found is None or seconds * len(found.machines) > EXACT_ALONG_SECONDS:
        return {}
    log_z = [
        exact_log_z(m, threads=task.threads) + c for m, c in zip(found.machines, found.constants, strict=True)
    ]
    return {"trajectory": {"steps": list(found.steps), "log_z": log_z, "std_err": [0.0] * len(log_z)}}


def search_seconds(config: LogZConfig) -> float:
    """Return the seconds allowed for the search for an exact method."""
    return SEARCH_SHARE * config.time_limit if config.time_limit and config.method == "auto" else math.inf


def compared_with_exact(estimate: Estimate, exact: float) -> Estimate:
    """Return the estimate with the check against the exact value, nats."""
    limit = student_limit(estimate.n_independent)
    check = check_exact(estimate.log_z, estimate.std_err, exact, limit)
    diagnostics = {**estimate.diagnostics, "exact": {"log_z": exact}}
    return replace(estimate, checks=[*estimate.checks, check], diagnostics=diagnostics)


# --- parallel tempering and BAR -----------------------------------------------------------------------------


def tempered(task: LogZTask) -> tuple[TemperedRun, Estimate]:
    """Return a finished run by parallel tempering and BAR, and its estimate.

    The store, if there is one, then holds the end of the run, so that later steps can be repeated and the run can
    be continued.  Reference "auto" means the uniform reference here.

    Raises
    ------
    ConfigError
        If the couplings are too large for float32, or memory does not suffice.
    OverlapError
        If two neighbouring rungs share no mass.
    """
    is_fitted = task.config.reference == "fitted"
    clock = task.clock.part(1 - REFEREE_SHARE) if is_fitted else task.clock
    path = task.trajectory.path() if task.trajectory else None
    how: dict[str, Any] = {"offset": task.offset, "clock": clock, "starts": task.starts, "trajectory": path}
    run = TemperedRun(task.machine, task.config, task.device, task.threads, **how)
    with task.clock.paused(), clock.paused() if is_fitted else nullcontext():
        run.compile_kernels()
    adapt_or_resume(run, task)
    advance(run, task, reserve(run, task))
    keep_end(run, task)
    estimate = conclude_in_full(run, task)
    return run, _refereed(estimate, task, task.clock.left) if is_fitted else estimate


def keep_end(run: TemperedRun, task: LogZTask) -> None:
    """Store the end of a run, before later steps move its replicas."""
    if task.store:
        with suppress(OSError):  # a full disk must not lose the estimate
            task.store.save(run.state_dict())


def conclude_in_full(run: TemperedRun, task: LogZTask) -> Estimate:
    """Return the estimate of a finished run, with its diagnostics and all requested comparisons."""
    estimate = _conclude(run, task.n_comparisons, task.config.n_replicates)
    if task.final_states:
        task.final_states(run.replicas.v[:, -1].copy())
    if run.continued_from:
        found = {**estimate.diagnostics, "continued_from": run.continued_from}
        estimate = replace(estimate, diagnostics=found)
    if task.n_comparisons == 1:
        estimate = _with_diagnostics(run, estimate)
    if task.trajectory:
        estimate = _along_training(run, estimate, task.trajectory)
    return _bracketed(run, estimate, task.report) if task.config.sandwich else estimate


def _along_training(run: TemperedRun, estimate: Estimate, trajectory: Trajectory) -> Estimate:
    """Return the estimate with the chosen path, and log Z along the training if the path is the training's."""
    found: dict[str, Any] = {"path": run.paths}
    if run.paths["chosen"] == "trajectory":
        found["trajectory"] = log_z_along_training(run, trajectory)
    return replace(estimate, diagnostics={**estimate.diagnostics, **found})


def _refereed(estimate: Estimate, task: LogZTask, seconds: float) -> Estimate:
    """Return an estimate from a fitted reference with the checks against a run from the uniform reference."""
    if math.isinf(seconds) and not task.config.n_sweeps:
        seconds = AUTO_SECONDS
    config = referee_config(task.config, seconds, estimate.std_err)
    report = changed(task.report, "{} from the uniform reference")
    # Two comparisons; the second run needs no diagnostics for figures.
    clock = Clock(config.time_limit or math.inf, task.clock.now)
    n_comparisons = max(2, task.n_comparisons)
    own = replace(task, config=config, report=report, store=None, n_comparisons=n_comparisons, clock=clock)
    own = replace(own, final_states=None)
    other = tempered(own)[1]
    checks = referee_checks(
        estimate.log_z, estimate.std_err, other.log_z, other.std_err, other.checks, config.n_replicates
    )
    found = referee_details(other.log_z, other.std_err, other.diagnostics)
    return replace(
        estimate,
        checks=[*estimate.checks, *checks],
        diagnostics={**estimate.diagnostics, "referee": found},
    )


def reserve(run: TemperedRun, task: LogZTask) -> float:
    """Return the seconds of the time limit to keep for the steps after the run."""
    if math.isinf(run.clock.limit):
        return 0.0
    seconds = CONCLUSION_SHARE * run.clock.limit + run.bounds_seconds()
    if task.n_comparisons == 1:
        seconds += post_run_seconds(run, _post_run_allowance(run))
    if task.trajectory:
        seconds += along_training_seconds(run, task.trajectory)
    return seconds + (_sandwich_share(run) * sandwich_seconds(run) if task.config.sandwich else 0.0)


def _post_run_allowance(run: TemperedRun) -> float:
    """Return the seconds that diagnostics may take after the run."""
    most = max(POST_RUN_SECONDS, POST_RUN_SHARE * run.clock.limit)
    return min(most, max(POST_RUN_SECONDS, run.clock.left)) if run.stopped else most


def _sandwich_share(run: TemperedRun) -> float:
    """Return the share of its steps that a sandwich can have within the time limit."""
    return min(1.0, SANDWICH_SHARE * run.clock.limit / sandwich_seconds(run))


def time_limit(config: LogZConfig) -> float:
    """Return the seconds that an estimate may take; infinite without a limit."""
    if config.time_limit:
        return config.time_limit
    return math.inf if config.precision or config.n_sweeps else AUTO_SECONDS


def adapt_or_resume(run: TemperedRun, task: LogZTask) -> None:
    """Adapt the schedule of a run, or restore a run from the store."""
    state = task.store.load() if task.store else None
    if state is not None:
        run.load_state_dict(state)
    else:
        run.adapt(task.report)
        if std_err := run.foreseen["std_err"]:
            task.report(Progress(f"predicted standard error ±{std_err:.1g} nats", 1, 1))


def advance(
    run: TemperedRun, task: LogZTask, reserve: float, is_paused: Callable[[], bool] = lambda: False
) -> None:
    """Run until `reserve` seconds of the time limit are left; report and store the progress."""
    store = task.store

    def report(done: int, total: int, bar: Bridge) -> None:
        task.report(Progress("tempering", done, total, run.log_z_0 + bar.total, bar.std_err))

    run.advance(reserve, report, (lambda: store.save(run.state_dict())) if store else None, is_paused)


def estimate_of_run(run: TemperedRun, task: LogZTask) -> Estimate:
    """Finish a run from the uniform reference, and return its estimate with checks."""
    with task.clock.paused():
        run.compile_kernels()
    adapt_or_resume(run, task)
    advance(run, task, reserve(run, task))
    return _with_diagnostics(run, _conclude(run, task.n_comparisons, task.config.n_replicates))


def _conclude(run: TemperedRun, n_comparisons: int, n_replicates: int) -> Estimate:
    """Return the estimate of a finished run, with its checks."""
    bar, limit = run.bridge(), student_limit(run.config.n_replicates, n_comparisons)
    log_z, std_err = run.log_z_0 + bar.total, math.hypot(bar.std_err, run.rounding)
    checks = check_bridge(run.sums, run.first_block, bar, run.replicas.round_trips, limit, run.n_given)
    checks += [check_given_starts(bar, run.n_given, n_comparisons)] if run.n_given else []
    certificate, bounds = _certificate(run, log_z, std_err, limit)
    renewal_check, renewal = _renewal(run)
    repeats = (run.log_z_0 + bar.repeats).tolist()
    diagnostics = {**_diagnostics(run, bar), **bounds, "renewal": renewal}
    checks += [*certificate, renewal_check]
    if run.config.n_replicates < min(n_replicates, FEWEST_REPLICATES):
        checks.append(check_replicates(run.config.n_replicates, FEWEST_REPLICATES))
    if run.config.n_replicates < n_replicates:
        diagnostics["replicates"] = {
            "asked": n_replicates,
            "run": run.config.n_replicates,
            "reason": "the time limit allows no more",
        }
    return Estimate(log_z, std_err, repeats, run.config.n_replicates, checks, diagnostics)


def _certificate(
    run: TemperedRun, log_z: float, std_err: float, limit: float
) -> tuple[list[Check], dict[str, Any]]:
    """Return the checks against strict lower bounds of log Z, and the bounds; the bounds use no estimate."""
    bound, weight = run.lower_bound(), run.weight_of_states()
    checks = [
        check_lower_bound(log_z, std_err, bound.value, limit),
        check_known_states(log_z, std_err, weight, limit),
    ]
    return checks, {
        "mean_field_bounds": run.lower_bounds.tolist(),
        "lower_bound": bound.value,
        "n_basins": len(bound.means),
        "weight_of_states": weight,
    }


def _renewal(run: TemperedRun) -> tuple[Check, dict[str, float]]:
    """Return the check that states are renewed at the reference, and the shares that are not."""
    old = run.renewal.old(run.replicas, run.n_burnt)
    trips = float(run.replicas.round_trips.mean()) / old.shape[1] * (1 - run.n_burnt / run.n_iterations)
    share = float(old[:, -1].mean())
    promised = promised_share(trips, len(old))
    return check_renewal(share, promised), {"coldest": share, "all_rungs": float(old.mean()), "promised": promised}


def _with_diagnostics(run: TemperedRun, estimate: Estimate) -> Estimate:
    """Return the estimate with the diagnostics from further samples, and the check based on them."""
    found = post_run_diagnostics(run, _post_run_allowance(run))
    diagnostics = {**estimate.diagnostics, **found}
    error = found["cross_checks"]["thermodynamic_integration"].get("quadrature_error")
    if error is None or run.replicas.schedule.n_steps == 1:  # too little time, or no path to integrate along
        return replace(estimate, diagnostics=diagnostics)
    checks = [*estimate.checks, check_abrupt(error, estimate.diagnostics["independent_blocks"])]
    return replace(estimate, checks=checks, diagnostics=diagnostics)


def _bracketed(run: TemperedRun, estimate: Estimate, report: Report) -> Estimate:
    """Return the estimate with the checks of forward and reverse annealing."""
    report = changed(report, value=estimate.log_z, std_err=estimate.std_err)
    share = _sandwich_share(run)
    found = sandwich(run, max(1, int(share * N_STEPS)), run.config.n_chains, report, share)
    return replace(
        estimate,
        checks=[*estimate.checks, *found.checks(estimate.log_z)],
        diagnostics={**estimate.diagnostics, "sandwich": found.to_dict()},
    )


def _diagnostics(run: TemperedRun, bar: Bridge) -> dict[str, Any]:
    """Return the diagnostics of a run, for figures and result files."""
    sums, start, log_z_0 = run.sums, run.first_block, run.log_z_0
    rates = sums.statistic("exchange", start).mean((0, 1))
    means, variances = sums.energies(start)
    n = len(bar.influence)
    return {
        "reference": "uniform" if run.config.reference == "auto" else run.config.reference,
        "betas": run.replicas.schedule.betas.tolist(),
        "exchange_rates": rates.tolist(),
        "barrier": float((1 - rates).sum()),
        "round_trips": run.replicas.round_trips.tolist(),
        "delta_f": bar.delta_f.tolist(),
        "overlaps": bar.overlaps.tolist(),
        "stepping_stones": _stepping_stones(run),
        "energies": {"mean": means.tolist(), "variance": variances.tolist()},
        "halves": [log_z_0 + bar.part(0, n // 2)[0], log_z_0 + bar.part(n // 2, n)[0]] if n > 1 else [],
        "starts": _starts(run, bar),
        "running": _running(run, bar),
        "independent_blocks": bar.independent_blocks,
        "n_blocks": n,
        "rounding": run.rounding,
        "n_sweeps": run.n_iterations,
        "stopped": run.stopped,
        "schedule_settled": run.settled,
        "placed_anew": run.adapted_again,
        "foreseen": run.foreseen,
    }


def _starts(run: TemperedRun, bar: Bridge) -> dict[str, float]:
    """Return the estimates of the replicates that started at random, in basins, and from given states."""
    groups = groups_of_starts(bar.influence.mean(0), run.n_given)
    named = zip(("random", "ordered", "given"), groups, strict=True)
    return {name: run.log_z_0 + bar.total + float(group.mean()) for name, group in named if len(group)}


def _stepping_stones(run: TemperedRun) -> dict[str, float]:
    """Return log Z by importance sampling forward and in reverse along the schedule: BAR's one-sided relatives."""
    shift, start = run.sums.shift, run.first_block
    up, down = (run.sums.statistic(f"stone_{way}", start).mean((0, 1)) for way in ("forward", "reverse"))
    return {
        "forward": run.log_z_0 + float((np.log(up) - shift).sum()),
        "reverse": run.log_z_0 - float((np.log(down) + shift).sum()),
    }


def _running(run: TemperedRun, bar: Bridge) -> dict[str, list[float]]:
    """Return the estimate and its error at N_RUNNING points of the run after burn-in."""
    n = len(bar.influence)
    stops = sorted({max(1, round(n * share)) for share in np.linspace(1 / N_RUNNING, 1, N_RUNNING)})
    parts = [bar.part(0, stop) for stop in stops]
    return {
        "n_sweeps": [(run.first_block + stop) * run.sums.block for stop in stops],
        "log_z": [run.log_z_0 + estimate for estimate, _ in parts],
        "std_err": [error for _, error in parts],
    }


# --- annealing ----------------------------------------------------------------------------------------------


def estimate_by_annealing(task: LogZTask) -> Estimate:
    """Return the estimate of annealed importance sampling, forward or reverse as `config.method` says.

    The other direction runs too: a gap between the two shows that the annealing was too quick.  In reverse, paths
    that carry most of the weight may all be missing without a trace in the weights that are there, and the
    estimate is too high by up to the gap; its standard error therefore includes the gap.

    Raises
    ------
    ConfigError
        If a precision or time limit was given: --sweeps and --chains set the length of annealing.
    """
    config = task.config
    if config.precision or config.time_limit:
        raise ConfigError(
            f"--method {config.method}: --precision and --time-limit do not apply; use --sweeps and --chains"
        )
    n_steps = config.n_sweeps or N_STEPS
    path = task.trajectory.path() if task.trajectory else None
    how: dict[str, Any] = {"offset": task.offset, "starts": task.starts, "trajectory": path}
    run = TemperedRun(task.machine, config, task.device, task.threads, **how)
    run.adapt(task.report)
    found = sandwich(run, n_steps, config.n_chains, task.report)
    is_reverse = config.method == "reverse-ais"
    chosen = found.reverse if is_reverse else found.forward
    log_z, repeats = chosen.log_z + task.offset, chosen.repeats(N_GROUPS) + task.offset
    # Every step rounds every unit's contribution to the weight.
    rounding = run.rounding + HALF_UNIT * math.sqrt(n_steps * task.machine.n_units)
    gap = max(0.0, found.reverse.log_z - found.forward.log_z) if is_reverse else 0.0
    std_err = math.hypot(max(chosen.std_err, std_err_of_mean(repeats)), rounding, gap)
    certificate, bounds = _certificate(run, log_z, std_err, student_limit(N_GROUPS))
    checks = [*found.checks(), *certificate]
    diagnostics = {
        "rungs": run.replicas.schedule.betas.tolist(),
        "sandwich": found.to_dict(),
        **bounds,
        **({"path": run.paths} if run.paths else {}),
        "log_w": {"quantiles": np.quantile(chosen.log_w, np.linspace(0, 1, 21)).tolist()},
        "rounding": rounding,
        "gap": gap,
        "n_sweeps": n_steps,
        "n_chains": config.n_chains,
        "stopped": "sweeps",
    }
    estimate = Estimate(log_z, std_err, repeats.tolist(), N_GROUPS, checks, diagnostics)
    if config.reference in ("auto", "uniform"):
        return estimate
    # n_sweeps counts steps of annealing here, not sweeps of the run to compare with.
    return _refereed(estimate, replace(task, config=replace(config, n_sweeps=0)), AUTO_SECONDS)
