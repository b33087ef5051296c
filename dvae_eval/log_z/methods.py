"""From a finished run to an estimate: the number, its error, its checks, and what was seen on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import LogZConfig
from ..machine import Machine
from ..results import Check
from ..runtime.resume import Partial
from .bar import Bridge
from .checks import check_bridge, check_lower_bound, student_limit
from .post_run import look_afterwards
from .run import TemperedRun
from .sandwich import N_STEPS, sandwich

__all__ = ["Estimate", "ProgressCallback", "estimate_by_tempering"]

# What a progress bar hears: a phase in words, work done, work in all, the estimate so far and its error (or None).
ProgressCallback = Callable[[str, int, int, float | None, float | None], None]

# The default time limit, and how much of any may go into placing the rungs.
AUTO_SECONDS, PILOT_SHARE = 30.0, 0.4
N_RUNNING = 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of log Z.

    Attributes
    ----------
    log_z, std_err : float
        In nats.
    repeats : list of float
        Independent estimates whose mean it is, nearly: of the replicates, or of whole repeats.
    n_independent : int
        From how many independent values the error comes.
    checks : list of Check
    diagnostics : dict
        What the checks looked at, and arrays for figures: plain JSON values.
    """

    log_z: float
    std_err: float
    repeats: list[float]
    n_independent: int
    checks: list[Check]
    diagnostics: dict[str, Any]


def estimate_by_tempering(
    machine: Machine,
    config: LogZConfig,
    device: str = "cpu",
    threads: int = 1,
    progress: ProgressCallback | None = None,
    store: Partial | None = None,
    n_comparisons: int = 1,
    offset: float = 0.0,
) -> Estimate:
    """Return the estimate of one run by parallel tempering and BAR.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        Every unit has a coupling.
    config : LogZConfig
    device : str
    threads : int
    progress : callable, optional
        Called with (phase, done, in all, estimate or None, standard error or None).
    store : Partial, optional
        Where the run is kept, and gone on with.
    n_comparisons : int
        How many such runs a user will see the checks of: their false alarm is for all of them together.
    offset : float
        Nats that are added to log Z.
    """
    run = TemperedRun(machine, config, device, threads, offset)
    run.compile_kernels()
    limit, started = _time_limit(config), time.monotonic()
    state = store.load() if store else None
    if state is not None:
        run.load_state_dict(state)
    else:
        tick = (lambda done, total: progress("placing rungs", done, total, None, None)) if progress else None
        run.adapt(started + PILOT_SHARE * limit, tick)

    def tell(done: int, total: int, bar: Bridge) -> None:
        if progress:
            progress("tempering", done, total, run.log_z_0 + bar.total, bar.std_err)

    run.advance(started + limit, tell, (lambda: store.save(run.state_dict())) if store else None)
    estimate = _conclude(run, n_comparisons)
    if n_comparisons == 1:
        estimate = replace(estimate, diagnostics={**estimate.diagnostics, **look_afterwards(run)})
    return _between_annealings(run, estimate, progress) if config.sandwich else estimate


def _time_limit(config: LogZConfig) -> float:
    """Return the seconds that an estimate may take."""
    if config.time_limit:
        return config.time_limit
    return math.inf if config.precision or config.n_sweeps else AUTO_SECONDS


def _conclude(run: TemperedRun, n_comparisons: int) -> Estimate:
    """Return the estimate of a run that is at its end."""
    bar, limit = run.bridge(), student_limit(run.config.n_replicates, n_comparisons)
    log_z, std_err = run.log_z_0 + bar.total, math.hypot(bar.std_err, run.rounding)
    checks = check_bridge(run.sums, run.first_block, bar, run.replicas.round_trips, limit)
    checks.append(check_lower_bound(log_z, std_err, float(run.lower_bounds[0]), limit))
    repeats = (run.log_z_0 + bar.repeats).tolist()
    return Estimate(log_z, std_err, repeats, run.config.n_replicates, checks, _diagnostics(run, bar))


def _between_annealings(run: TemperedRun, estimate: Estimate, progress: ProgressCallback | None) -> Estimate:
    """Return the estimate with the checks of annealing forward and back."""

    def tell(phase: str, done: int, total: int) -> None:
        if progress:
            progress(phase, done, total, estimate.log_z, estimate.std_err)

    found = sandwich(run, N_STEPS, run.config.n_chains, tell)
    return replace(
        estimate,
        checks=[*estimate.checks, *found.checks(estimate.log_z)],
        diagnostics={**estimate.diagnostics, "sandwich": found.to_dict()},
    )


def _diagnostics(run: TemperedRun, bar: Bridge) -> dict[str, Any]:
    """Return what was seen on the way, for figures and for readers."""
    sums, start, log_z_0 = run.sums, run.first_block, run.log_z_0
    rates = sums.statistic("exchange", start).mean((0, 1))
    means, variances = sums.energies(start)
    n, replicates = len(bar.influence), bar.influence.mean(0)
    n_ordered = run.config.n_replicates // 2
    return {
        "betas": run.replicas.schedule.betas.tolist(),
        "exchange_rates": rates.tolist(),
        "barrier": float((1 - rates).sum()),
        "round_trips": run.replicas.round_trips.tolist(),
        "delta_f": bar.delta_f.tolist(),
        "overlaps": bar.overlaps.tolist(),
        "stepping_stones": _stepping_stones(run),
        "energies": {"mean": means.tolist(), "variance": variances.tolist()},
        "halves": [log_z_0 + bar.part(0, n // 2)[0], log_z_0 + bar.part(n // 2, n)[0]] if n > 1 else [],
        "starts": {
            "random": log_z_0 + bar.total + float(replicates[: len(replicates) - n_ordered].mean()),
            "ordered": log_z_0 + bar.total + float(replicates[len(replicates) - n_ordered :].mean()),
        },
        "mean_field_bounds": run.lower_bounds.tolist(),
        "running": _running(run, bar),
        "independent_blocks": bar.independent_blocks,
        "n_blocks": n,
        "rounding": run.rounding,
        "n_sweeps": run.n_iterations,
        "stopped": run.stopped,
        "schedule_settled": run.settled,
    }


def _stepping_stones(run: TemperedRun) -> dict[str, float]:
    """Return log Z by importance sampling up the schedule and down it: BAR's two one-sided relatives."""
    shift, start = run.sums.shift, run.first_block
    up, down = (run.sums.statistic(f"stone_{way}", start).mean((0, 1)) for way in ("forward", "reverse"))
    return {
        "forward": run.log_z_0 + float((np.log(up) - shift).sum()),
        "reverse": run.log_z_0 - float((np.log(down) + shift).sum()),
    }


def _running(run: TemperedRun, bar: Bridge) -> dict[str, list[float]]:
    """Return the estimate and its error as the run went on after burn-in."""
    n = len(bar.influence)
    stops = sorted({max(1, round(n * share)) for share in np.linspace(1 / N_RUNNING, 1, N_RUNNING)})
    parts = [bar.part(0, stop) for stop in stops]
    return {
        "n_sweeps": [(run.first_block + stop) * run.sums.block for stop in stops],
        "log_z": [run.log_z_0 + estimate for estimate, _ in parts],
        "std_err": [error for _, error in parts],
    }
