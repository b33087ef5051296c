"""Samples of a Boltzmann machine, with a verdict: exact where that is feasible, else from a tempered run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core import __version__
from dvae_core.environment import Effort
from dvae_core.errors import ConfigError
from dvae_core.io.memory import available_memory
from dvae_core.keywords import configured, with_settings
from dvae_core.progress import ProgressCallback, Report, changed, report_to
from dvae_core.rng import numpy_generator
from dvae_core.types import Float
from dvae_core.versions import package_versions

from ..exact.draws import best_exactly, draw_bytes, draw_exactly
from ..exact.plan import AUTO_SECONDS, EXACT_SECONDS, exact_plan
from ..log_z.methods import LogZTask, search_seconds, time_limit
from ..machine import Machine
from ..objects import machine_from_object, units_of_object
from ..readers import Reading
from ..runtime.clock import Clock
from ..runtime.compute import available_cores
from ..runtime.memory_estimate import refuse_too_large
from ..runtime.resume import Store
from ..starts import all_units, kept_units
from ..verdict import Check
from .config import StatesConfig
from .sampled import BestState, SampledStates
from .tempered import draw_by_tempering, log_weights, settled

Bits = NDArray[np.uint8]
PACKAGES = ("numpy", "scipy", "numba", "torch")
# Raise this when the same settings and seed give other digits; tests/eval/test_environment.py checks it.
ESTIMATOR_VERSION = 1
EXACT_SHARE = 0.5  # of a time limit: the exact method is chosen if it is predicted to take at most this share
MEMORY_SHARE = 0.5  # of the free memory, for tables of the exact method
RUN_SHARE = 0.6  # of a time limit, for the run before states are taken
BLOCK_VALUES = 1 << 22  # values of states per block of log-probabilities


@with_settings(StatesConfig)
def sample_states(
    model: Any,
    n: int | None = None,
    config: StatesConfig | None = None,
    *,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    **settings: Any,
) -> SampledStates:
    """Draw samples of a Boltzmann machine: all of its units, in its own order and values, with a verdict.

    They are independent where log Z can be computed exactly.  Otherwise they come from β = 1 of a run of parallel
    tempering, equally from all replicates, spaced by their measured autocorrelation time.

    Parameters
    ----------
    model : Reading, or what `estimate_log_z` takes
        For a `Reading` of `read_machine`, states have the file's convention; clamped units have their values.
    n : int, optional
        Number of states, 1000 by default.
    config : StatesConfig, optional
    device : str
        Device of parallel tempering.
    threads : int, optional
        CPU threads, all cores by default.  The states do not depend on them.
    progress : callable, optional
        Called with (phase, done, total, estimate of log Z so far or None, its standard error or None).
    partial : Path, optional
        File for the work done so far.  If it holds the beginning of this run, the run continues from it.  The
        caller removes it once the states are saved.
    **settings
        Fields of StatesConfig, such as seed=3, method="pt-bar" or best=True.

    Returns
    -------
    SampledStates

    Raises
    ------
    ConfigError
        If a setting is invalid, requested exact states are infeasible, or memory does not suffice.
    DataError
        If the model does not define a machine.
    OverlapError
        If two neighbouring rungs share no mass.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rbm = rng.normal(size=(30, 20)), rng.normal(size=30), rng.normal(size=20)
    >>> found = sample_states(rbm, 100, seed=1)
    >>> found.states.shape, found.method, found.trustworthy
    ((100, 50), 'exact', True)
    """
    effort = Effort()
    config = configured(StatesConfig, config, {"n": n, **settings}, sample_states)
    reading = model if isinstance(model, Reading) else as_reading(model)
    task = _Task(reading, config, device, threads or available_cores(), report_to(progress), partial)
    found = _exactly(task) or _tempered(task)
    machine, log_z = reading.machine, found.log_z + reading.constant
    log_p = _log_p(machine, found.x) - found.log_z
    best = None
    if found.best is not None:
        best_log_p = float(_log_p(machine, found.best[None])[0] - found.log_z)
        best = BestState(reading.states(found.best[None])[0], best_log_p, found.is_best)
    return SampledStates(
        states=reading.states(found.x),
        labels=reading.labels,
        units=reading.description["units"],
        log_p=log_p,
        method=found.method,
        log_z=log_z,
        std_err=found.std_err,
        checks=tuple(found.checks),
        best=best,
        model={**reading.description, **machine.description()},
        settings={**dataclasses.asdict(config), "device": device},
        seed=config.seed,
        diagnostics=found.diagnostics,
        versions=package_versions(*PACKAGES),
        wall_seconds=effort.wall_seconds,
        environment=effort.environment(),
        estimator_version=ESTIMATOR_VERSION,
        energy_scale=float(reading.description.get("beta", 1.0)),
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """What to draw, with which settings, and on which device; as in `sample_states`."""

    reading: Reading
    config: StatesConfig
    device: str
    threads: int
    report: Report
    partial: Path | None


@dataclass(frozen=True, slots=True)
class _Found:
    """States of the machine over {0,1}, in its own order, with estimate, checks and diagnostics."""

    x: Bits
    method: str
    log_z: float
    std_err: float
    checks: list[Check]
    diagnostics: dict[str, Any]
    best: Bits | None
    is_best: bool


def as_reading(model: Any) -> Reading:
    """Return an object as the reading of a file with the same numbers."""
    machine, constant = machine_from_object(model)
    units, labels = units_of_object(model)
    return Reading(machine, constant, {"units": units}, labels)


def _log_p(machine: Machine, x: Bits) -> Float:
    """Return log p̃ of states of all units over {0,1}, shape (n,)."""
    reduced, units = machine.reduced(), machine.reduced_units()
    n_kept, size = len(reduced.b), max(1, BLOCK_VALUES // max(1, machine.n_units))
    parts = [np.empty(0)]
    for start in range(0, len(x), size):
        v, h = np.split(x[start : start + size][:, units], [n_kept], axis=1)
        parts.append(log_weights(reduced, v, lambda field, h=h: field * h))  # type: ignore[misc]
    return np.concatenate(parts)


# --- exact method -------------------------------------------------------------------------------------------


def _exactly(task: _Task) -> _Found | None:
    """Return independent states; None if the exact method is not chosen."""
    config, machine = task.config, task.reading.machine
    if config.method == "pt-bar" and machine.without_isolated_units()[0] is not None:
        return None
    plan = exact_plan(machine, search_seconds(config.of_log_z()))
    limit = (
        EXACT_SECONDS
        if config.method == "exact"
        else min(AUTO_SECONDS, EXACT_SHARE * (config.time_limit or math.inf))
    )
    if plan.seconds > limit:
        if config.method == "exact":
            raise ConfigError(f"--method exact: {plan.need}, which takes too long; use --method pt-bar")
        return None
    if (needed := draw_bytes(plan)) > MEMORY_SHARE * available_memory():
        if config.method == "exact":
            raise ConfigError(f"--method exact: its tables take {needed / 1e9:.1f} GB; use --method pt-bar")
        return None
    report = changed(task.report, "drawing exactly")
    x, log_z = draw_exactly(machine, plan, config.n, config.seed, report, task.threads)
    best, is_best = None, True
    if config.best:
        best = best_exactly(machine, plan, changed(task.report, "finding the best state"), task.threads)
        if best is None:
            best, is_best = _best_of(machine, x[_log_p(machine, x).argmax()]), False
    return _Found(x, "exact", log_z, 0.0, [], {"route": plan.route}, best, is_best)


def _best_of(machine: Machine, x: Bits) -> Bits:
    """Return a state that no change of a class of units improves, starting from a sampled state."""
    reduced, units = machine.reduced(), machine.reduced_units()
    v = settled(reduced, x[units[: len(reduced.b)]])
    best = np.empty(machine.n_units, np.uint8)
    best[units] = np.concatenate((v, v @ reduced.W + reduced.c > 0))
    return best


# --- tempering ----------------------------------------------------------------------------------------------


def _tempered(task: _Task) -> _Found:
    """Return states from a run of parallel tempering; units without couplings are drawn separately."""
    config, machine = task.config, task.reading.machine
    clock = Clock(config.time_limit or math.inf)
    log_z_config = config.of_log_z()
    log_z_config = dataclasses.replace(log_z_config, method="pt-bar", time_limit=RUN_SHARE * config.time_limit)
    refuse_too_large(machine, log_z_config)
    coupled, alone = machine.without_isolated_units()
    assert coupled is not None  # otherwise the states are exact
    log_z_task = LogZTask(
        coupled,
        log_z_config,
        task.device,
        task.threads,
        task.report,
        store=_store(task),
        offset=alone,
        clock=Clock(time_limit(log_z_config)),
    )
    found = draw_by_tempering(log_z_task, config.n, clock)
    x = all_units(machine, found.v, numpy_generator(config.seed, "samples", 2))
    best = None
    if config.best:
        best = x[0].copy()
        best[kept_units(machine)] = found.best
        best = _best_of(machine, best)
    estimate = found.estimate
    checks, diagnostics = [*estimate.checks, *found.checks], {**estimate.diagnostics, "states": found.diagnostics}
    return _Found(x, "pt-bar", estimate.log_z, estimate.std_err, checks, diagnostics, best, False)


def _store(task: _Task) -> Store | None:
    """Return the file that stores the run's progress."""
    if task.partial is None:
        return None
    settings = {
        "model": task.reading.machine.sha256,
        "device": task.device,
        "version": __version__,
        "of": "states",
    }
    without = ("n", "best")  # settings on which the run does not depend
    return Store(
        task.partial,
        settings | {k: v for k, v in dataclasses.asdict(task.config).items() if k not in without},
    )
