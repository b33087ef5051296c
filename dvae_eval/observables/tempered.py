"""Observables from a tempered run: averages over its states at every β, with errors from its replicates."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core import __version__
from dvae_core.io.memory import require_memory
from dvae_core.progress import Report
from dvae_core.types import Float, Index

from ..config import LogZConfig, ObservablesConfig
from ..couplings import used
from ..exact.moments import Moments, of_independent
from ..log_z.bar import influence_up_to
from ..log_z.methods import LogZTask, estimate_of_run
from ..machine import BipartiteMachine, Machine
from ..runtime.clock import Clock
from ..runtime.memory_estimate import refuse_too_large
from ..runtime.resume import Store
from ..verdict import Check
from .averages import Averages, averages_bytes
from .checks import check_energies
from .convention import Point, View
from .jackknife import jackknife, std_errs
from .run import ObservingRun

FROZEN = 1e-13  # a smaller spread is rounding


@dataclass(frozen=True, slots=True)
class Work:
    """Device, threads and time limit of the work, and its progress."""

    device: str
    threads: int
    report: Report
    partial: Path | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class Found:
    """Results at every β, the numbering of bonds, checks and diagnostics."""

    points: list[Point]
    view: View
    checks: list[Check]
    diagnostics: dict[str, Any]


def log_z_config_of(config: ObservablesConfig) -> LogZConfig:
    """Return the settings of the run."""
    names = ("time_limit", "n_sweeps", "burn_in", "n_replicates", "exchange_rate", "seed")
    return LogZConfig(method="pt-bar", **{name: getattr(config, name) for name in names})


def by_tempering(machine: Machine, config: ObservablesConfig, constant: float, is_spin: bool, how: Work) -> Found:
    """Return observables from a tempered run."""
    parts = _Parts.of(machine)
    log_z_config, betas = log_z_config_of(config), np.array(config.betas)
    largest = float(betas[-1])
    offset = largest * constant + of_independent(parts.alone, largest).log_z
    _refuse_too_large(parts.coupled, config, log_z_config)
    where = (how.device, how.threads)
    run = ObservingRun(parts.coupled, betas, config.correlations, log_z_config, *where, offset, how.clock)
    settings = {"model": machine.sha256, "constant": constant, "device": how.device, "version": __version__}
    store = Store(how.partial, settings | dataclasses.asdict(config)) if how.partial else None
    task = LogZTask(run.machine, log_z_config, *where, how.report, store, offset=offset, clock=how.clock)
    estimate = estimate_of_run(run, task)
    run.finish_averages()
    view = View.of(parts.numbers, run.averages.bonds, constant, is_spin)
    energies = run.sums.energies_of_replicates(run.first_block)[..., run.observed_rungs]
    diagnostics = {**estimate.diagnostics, "n_looks": run.averages.n_seen, "largest_beta": largest}
    points = [_sampled_point(run, view, parts, k) for k in range(len(betas))]
    return Found(points, view, [*estimate.checks, *check_energies(energies)], diagnostics)


def _refuse_too_large(machine: Machine, config: ObservablesConfig, log_z_config: LogZConfig) -> None:
    """Raise ConfigError if the run or its averages would take more memory than there is."""
    refuse_too_large(machine, log_z_config)
    size = (len(config.betas), config.n_replicates, config.correlations)
    what = f"averages of {machine.n_units} units and their pairs at {size[0]} β"
    require_memory(averages_bytes(machine.reduced(), *size), "--betas", what, "give fewer, or --no-correlations")


@dataclass(frozen=True, slots=True)
class _Parts:
    """A machine of the coupled units, and the isolated ones.

    Attributes
    ----------
    coupled : BipartiteMachine or GeneralMachine
    alone : float64
        Biases of the isolated units.
    numbers : int, shape (n_units,)
        Indices in the model of the units of `coupled.reduced()`, followed by those of the isolated units.
    """

    coupled: Machine
    alone: Float
    numbers: Index

    @classmethod
    def of(cls, machine: Machine) -> _Parts:
        """Return the parts of a machine."""
        coupled, _ = machine.without_isolated_units()
        assert coupled is not None  # otherwise everything is exact
        if coupled is machine:
            return cls(machine, np.empty(0), machine.reduced_units())
        if isinstance(machine, BipartiteMachine):
            mask, biases = np.concatenate(used(machine.W)), np.concatenate((machine.b_left, machine.b_right))
        else:
            mask, biases = np.logical_or(*used(machine.J)), machine.b
        numbers = np.concatenate((np.flatnonzero(mask)[coupled.reduced_units()], np.flatnonzero(~mask)))
        order = machine.order if isinstance(machine, BipartiteMachine) else None
        return cls(coupled, biases[~mask], numbers if order is None else order[numbers])


def _sampled_point(run: ObservingRun, view: View, parts: _Parts, k: int) -> Point:
    """Return observables at the k-th β."""
    seen, beta = run.averages, float(run.observed_betas[k])
    alone = of_independent(parts.alone, beta)
    a, square, inner = seen.energy[:, k] / seen.n_seen
    log_z, repeats, log_z_error = _log_z(run, k)
    fluctuation, its_error = jackknife(lambda a, square, inner: inner + square - a**2, a, square, inner)
    entropies = repeats - beta * a
    values = {
        "log_z": (log_z + alone.log_z + beta * view.constant, log_z_error),
        "energy": (-(a.mean() + alone.mean + view.constant), std_errs(a)),
        "specific_heat": (beta**2 * (fluctuation + alone.variance), beta**2 * its_error),
        "entropy": (entropies.mean() + alone.log_z - beta * alone.mean, std_errs(entropies)),
    }
    return Point({**values, **_of_units(run, view, alone, k)})


def _of_units(run: ObservingRun, view: View, alone: Moments, k: int) -> dict[str, tuple[Any, Any]]:
    """Return magnetisation, means of units and correlations at the k-th β."""
    seen = run.averages
    units, pairs = seen.units[k] / seen.n_seen, seen.pairs[k] / seen.n_seen
    errors = np.concatenate((_unless_frozen(std_errs(units), seen), np.zeros(len(alone.units))))
    every = np.concatenate((units.mean(0), alone.units))
    i, j = view.ends.T
    correlations, their_errors = jackknife(
        lambda xy, x, y: xy - x * y, pairs[:, view.place], units[:, i], units[:, j]
    )
    magnetisation = view.in_convention(every).mean()
    of_replicates = units.sum(1) / len(every)
    scale = view.scale
    return {
        "magnetisation": (magnetisation, scale * std_errs(of_replicates)),
        "unit_means": (view.in_convention(every[view.order]), scale * errors[view.order]),
        "correlations": (scale**2 * correlations, scale**2 * _unless_frozen(their_errors, seen)),
    }


def _unless_frozen(errors: Float, seen: Averages) -> Float:
    """Return standard errors; if a value never changed, the error that a change in one state would make."""
    return np.where(errors > FROZEN, errors, 1 / (seen.n_replicates * seen.n_seen))


def _log_z(run: ObservingRun, k: int) -> tuple[float, Float, float]:
    """Return log Z of the coupled units at the k-th β, the replicates' estimates, and the standard error."""
    rung, bar = int(run.observed_rungs[k]), run.bridge()
    log_z = run.reference.log_z + float(bar.delta_f[:rung].sum())
    influence = influence_up_to(run.sums, rung, run.first_block)
    of_replicates = influence.mean(0)
    spread = max(float(std_errs(of_replicates)), float(std_errs(influence.ravel())))
    rounding = run.rounding * float(run.observed_betas[k] / run.observed_betas[-1])
    return log_z, log_z + of_replicates, math.hypot(spread, rounding)
