"""Energy, specific heat, entropy, magnetisation and correlations of a machine along β, each with its error.

p_β(x) ∝ exp(-β E(x)), E = -(A(z) + constant) being minus the log-probability of the model as it was read.  Where
log Z can be had exactly, its derivatives are as well; else they are averages over a tempered run, whose rungs are
the machine at each β.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core import __version__
from dvae_core.errors import ConfigError
from dvae_core.io.memory import require_memory
from dvae_core.text import duration
from dvae_core.types import Float, Index

from ..config import LogZConfig, ObservablesConfig, betas_of
from ..couplings import used
from ..exact.moments import Moments, of_independent
from ..exact.moments_plan import MomentsPlan, moments_plan
from ..log_z.bar import influence_up_to
from ..log_z.methods import LogZTask, ProgressCallback, estimate_of_run, time_limit
from ..machine import BipartiteMachine, Machine
from ..objects import machine_from_object, units_of_object
from ..results import Check, ObservablesResult
from ..runtime.clock import Clock
from ..runtime.compute import available_cores
from ..runtime.memory_estimate import refuse_too_large
from ..runtime.resume import ResumeFile
from .averages import Averages, averages_bytes
from .checks import check_energies
from .jackknife import jackknife, std_errs
from .run import ObservingRun

__all__ = ["estimate_observables"]

# Predicted seconds, for all β together, up to which the exact route is taken by itself, or may be asked for.
AUTO_SECONDS, EXACT_SECONDS = 240.0, 3600.0
EXACT_SHARE, SEARCH_SHARE = 0.5, 0.1  # of a time limit
FROZEN = 1e-13  # a spread that is rounding alone
PACKAGES = ("torch", "numpy", "scipy", "pymbar", "numba")
SCALARS = ("log_z", "energy", "specific_heat", "entropy", "magnetisation")
ARRAYS = ("unit_means", "correlations")


def estimate_observables(
    model: Any,
    config: ObservablesConfig | None = None,
    *,
    description: dict[str, Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    constant: float = 0.0,
    units: str = "auto",
    sign: int = 1,
    beta: float = 1.0,
    **settings: Any,
) -> ObservablesResult:
    """Estimate averages over a Boltzmann machine at β = 1 and along β, with their errors and a verdict.

    Parameters
    ----------
    model : BipartiteMachine, GeneralMachine, tuple of arrays, or a model of dimod or networkx
        As for `estimate_log_z`, and so are `units`, `sign` and `beta`.
    config : ObservablesConfig, optional
        Settings; by default β = 1 alone, exactly where that takes some 4 minutes at the most.
    description : dict, optional
        What to say of the model's file in the result.  `units` in it, `01` or `pm1`, are those of the observables.
    device : str
        Where parallel tempering runs.
    threads : int, optional
        CPU threads; all by default.  The result does not depend on them.
    progress : callable, optional
        Called with (phase, done, in all, log Z at the largest β so far or None, its standard error or None).
    partial : Path, optional
        File for what is done so far, see `estimate_log_z`.
    constant : float
        Nats by which the model's log-probabilities are larger than the machine's: E is less by so much.
    **settings
        Fields of ObservablesConfig, such as betas=(0.5, 1, 2), method="pt" or seed=3.

    Returns
    -------
    ObservablesResult

    Raises
    ------
    ConfigError
        If a setting is not allowed, the exact values are asked for and take too long, or memory does not suffice.
    DataError
        If the arrays are no machine.
    OverlapError
        If neighbouring rungs share no mass.

    Examples
    --------
    A ring of four spins at temperature 1, E = -Σ s_i s_j:

    >>> import numpy as np
    >>> J = np.zeros((4, 4))
    >>> J[[0, 1, 2, 0], [1, 2, 3, 3]] = 1
    >>> found = estimate_observables((J, np.zeros(4)), units="pm1", betas=(0.5, 1))
    >>> t = np.tanh(1)
    >>> abs(found.energy + 4 * (t + t**3) / (1 + t**4)) < 1e-12
    True
    """
    started = time.monotonic()
    config = _configured(config, settings)
    machine, offset = machine_from_object(model, units=units, sign=sign, beta=beta)
    described = {"units": units_of_object(model, units), **(description or {}), **machine.description()}
    is_spin = described["units"] == "pm1"
    how = _Work(device, threads or available_cores(), progress, partial, Clock(time_limit(_log_z_config(config))))
    plan = _exact_plan(machine, config)
    if plan is not None:
        found = _exactly(plan, machine, config, constant + offset, is_spin, how)
    else:
        found = _by_tempering(machine, config, constant + offset, is_spin, how)
    return ObservablesResult.of(
        config,
        found.checks,
        **_fields(found.points, config.betas),
        bonds=found.view.bonds.tolist(),
        method="pt" if plan is None else "exact",
        model=described,
        settings={"device": device},
        diagnostics=found.diagnostics,
        started=started,
        packages=PACKAGES,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Where and within what time to work, and whom to tell."""

    device: str
    threads: int
    progress: ProgressCallback | None
    partial: Path | None
    clock: Clock

    def report(self, phase: str) -> Callable[[int, int], None] | None:
        """Return a callback of (done, in all) for a phase that has no estimate."""
        progress = self.progress
        return (lambda done, total: progress(phase, done, total, None, None)) if progress else None


def _configured(config: ObservablesConfig | None, settings: dict[str, Any]) -> ObservablesConfig:
    """Return the configuration with the settings that are given."""
    names = {field.name for field in dataclasses.fields(ObservablesConfig)}
    if unknown := sorted(set(settings) - names):
        raise ConfigError(f"{unknown[0]}: no such setting; there are {', '.join(sorted(names))}")
    given = {name: value for name, value in settings.items() if value is not None}
    if "betas" in given:
        given["betas"] = _betas(given["betas"])
    return dataclasses.replace(config or ObservablesConfig(), **given)


def _betas(values: Any) -> tuple[float, ...]:
    """Return inverse temperatures of a text or numbers."""
    if isinstance(values, str):
        return betas_of(values)
    try:
        return tuple(map(float, values if isinstance(values, Sequence | np.ndarray) else [values]))
    except (TypeError, ValueError):
        raise ConfigError(f"betas: {str(values)[:40]!r} are no numbers; give such as (0.5, 1, 2)") from None


def _log_z_config(config: ObservablesConfig) -> LogZConfig:
    """Return the settings of the run."""
    names = ("time_limit", "n_sweeps", "burn_in", "n_replicates", "exchange_rate", "seed")
    return LogZConfig(method="pt-bar", **{name: getattr(config, name) for name in names})


def _exact_plan(machine: Machine, config: ObservablesConfig) -> MomentsPlan | None:
    """Return how the exact values are had; None where they are not to be, or take too long."""
    if config.method == "pt" and machine.without_isolated_units()[0] is not None:
        return None
    n, limit = len(config.betas), config.time_limit or math.inf
    is_asked = config.method == "exact"
    most = EXACT_SECONDS if is_asked else min(AUTO_SECONDS, EXACT_SHARE * limit)
    plan = moments_plan(machine, most / n, math.inf if is_asked else SEARCH_SHARE * limit)
    if n * plan.seconds <= most:
        return plan
    if is_asked:
        raise ConfigError(
            f"--method exact: no way is found that takes less than {duration(most)} for {n} β; "
            "use --method pt, or fewer --betas"
        )
    return None


# --- observables in the model's own convention ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Point:
    """Values at one β by name, each with its standard error."""

    values: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class _Found:
    """What is found at every β, how bonds are numbered, and what it rests on."""

    points: list[_Point]
    view: _View
    checks: list[Check]
    diagnostics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _View:
    """How moments of units 0 and 1 are told in the model's own convention and order.

    Attributes
    ----------
    constant : float
        E = -(A + constant).
    is_spin : bool
    order : int, shape (n_units,)
        For every unit of the model, its number among the moments.
    bonds : int, shape (n_bonds, 2)
        Pairs of the model's units, i < j, sorted.
    ends : int, shape (n_bonds, 2)
        The same pairs as numbers among the moments.
    place : int, shape (n_bonds,)
        For every bond, its number among the moments.
    """

    constant: float
    is_spin: bool
    order: Index
    bonds: Index
    ends: Index
    place: Index

    @classmethod
    def of(cls, numbers: Index, ends: Index, constant: float, is_spin: bool) -> _View:
        """Return the view of moments of units with these numbers in the model, and of these bonds."""
        bonds = np.sort(numbers[ends], axis=1)
        place = np.lexsort(bonds.T[::-1])
        return cls(constant, is_spin, np.argsort(numbers), bonds[place], ends[place], place)

    def without_bonds(self) -> _View:
        """Return the view of units alone."""
        return dataclasses.replace(self, bonds=self.bonds[:0], ends=self.ends[:0], place=self.place[:0])

    @property
    def scale(self) -> int:
        """What a unit's values are apart."""
        return 2 if self.is_spin else 1

    def exact_point(self, moments: Moments, beta: float) -> _Point:
        """Return exact observables."""
        energy = -(moments.mean + self.constant)
        log_z = moments.log_z + beta * self.constant
        i, j = self.ends.T
        units = self.told(moments.units[self.order])
        pairs = moments.pairs[self.place] - moments.units[i] * moments.units[j]
        values = {
            "log_z": log_z,
            "energy": energy,
            "specific_heat": beta**2 * moments.variance,
            "entropy": moments.log_z - beta * moments.mean,
            "magnetisation": float(units.mean()) if len(units) else math.nan,
            "unit_means": units,
            "correlations": self.scale**2 * pairs,
        }
        return _Point({name: (value, np.zeros_like(value)) for name, value in values.items()})

    def told(self, means: Float) -> Float:
        """Return means of units 0 and 1 as those of the model's."""
        return 2 * means - 1 if self.is_spin else means


def _fields(points: Sequence[_Point], betas: Sequence[float]) -> dict[str, Any]:
    """Return the result's fields: values at β = 1, and along β."""
    along: dict[str, list[Any]] = {"beta": list(betas)}
    at_one: dict[str, Any] = {}
    one = list(betas).index(1.0)
    for name in (*SCALARS, *ARRAYS):
        for suffix, part in (("", 0), ("_std_err", 1)):
            values = [np.asarray(point.values[name][part]).tolist() for point in points]
            along[f"{name}{suffix}"], at_one[f"{name}{suffix}"] = values, values[one]
    return {**at_one, "along_beta": along}


# --- exactly --------------------------------------------------------------------------------------------------


def _exactly(
    plan: MomentsPlan, machine: Machine, config: ObservablesConfig, constant: float, is_spin: bool, how: _Work
) -> _Found:
    """Return exact observables."""
    ends = machine.reduced().bonds()[0].astype(np.int64)
    view = _View.of(machine.reduced_units(), ends, constant, is_spin)
    view = view if config.correlations else view.without_bonds()
    points = []
    for k, beta in enumerate(config.betas, 1):
        phase = f"β = {beta:.4g}, {k} of {len(config.betas)}"
        points.append(view.exact_point(plan.moments(beta, how.report(phase), how.threads), beta))
    return _Found(points, view, [], {"route": plan.route})


# --- by parallel tempering ------------------------------------------------------------------------------------


def _by_tempering(
    machine: Machine, config: ObservablesConfig, constant: float, is_spin: bool, how: _Work
) -> _Found:
    """Return observables from a tempered run."""
    parts = _Parts.of(machine)
    log_z_config, betas = _log_z_config(config), np.array(config.betas)
    largest = float(betas[-1])
    offset = largest * constant + of_independent(parts.alone, largest).log_z
    _refuse_too_large(parts.coupled, config, log_z_config)
    where = (how.device, how.threads)
    run = ObservingRun(parts.coupled, betas, config.correlations, log_z_config, *where, offset, how.clock)
    settings = {"model": machine.sha256, "constant": constant, "device": how.device, "version": __version__}
    store = ResumeFile(how.partial, settings | dataclasses.asdict(config)) if how.partial else None
    task = LogZTask(run.machine, log_z_config, *where, how.progress, store, offset=offset, clock=how.clock)
    estimate = estimate_of_run(run, task)
    run.finish_averages()
    view = _View.of(parts.numbers, run.averages.bonds, constant, is_spin)
    energies = run.sums.energies_of_replicates(run.first_block)[..., run.observed_rungs]
    diagnostics = {**estimate.diagnostics, "n_looks": run.averages.n_seen, "largest_beta": largest}
    points = [_sampled_point(run, view, parts, k) for k in range(len(betas))]
    return _Found(points, view, [*estimate.checks, *check_energies(energies)], diagnostics)


def _refuse_too_large(machine: Machine, config: ObservablesConfig, log_z_config: LogZConfig) -> None:
    """Raise ConfigError if the run or its averages would take more memory than there is."""
    refuse_too_large(machine, log_z_config)
    size = (len(config.betas), config.n_replicates, config.correlations)
    what = f"averages of {machine.n_units} units and their pairs at {size[0]} β"
    require_memory(averages_bytes(machine.reduced(), *size), "--betas", what, "give fewer, or --no-correlations")


@dataclass(frozen=True, slots=True)
class _Parts:
    """A machine of the units that have a coupling, and the others.

    Attributes
    ----------
    coupled : BipartiteMachine or GeneralMachine
    alone : float64
        Biases of the other units.
    numbers : int, shape (n_units,)
        Numbers in the model of the units of `coupled.reduced()`, followed by those of the others.
    """

    coupled: Machine
    alone: Float
    numbers: Index

    @classmethod
    def of(cls, machine: Machine) -> _Parts:
        """Return the parts of a machine."""
        coupled, _ = machine.without_isolated_units()
        assert coupled is not None  # or else all is exact
        if coupled is machine:
            return cls(machine, np.empty(0), machine.reduced_units())
        if isinstance(machine, BipartiteMachine):
            mask, biases = np.concatenate(used(machine.W)), np.concatenate((machine.b_left, machine.b_right))
        else:
            mask, biases = np.logical_or(*used(machine.J)), machine.b
        numbers = np.concatenate((np.flatnonzero(mask)[coupled.reduced_units()], np.flatnonzero(~mask)))
        order = machine.order if isinstance(machine, BipartiteMachine) else None
        return cls(coupled, biases[~mask], numbers if order is None else order[numbers])


def _sampled_point(run: ObservingRun, view: _View, parts: _Parts, k: int) -> _Point:
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
    return _Point({**values, **_of_units(run, view, alone, k)})


def _of_units(run: ObservingRun, view: _View, alone: Moments, k: int) -> dict[str, tuple[Any, Any]]:
    """Return magnetisation, means of units and correlations at the k-th β."""
    seen = run.averages
    units, pairs = seen.units[k] / seen.n_seen, seen.pairs[k] / seen.n_seen
    errors = np.concatenate((_unless_frozen(std_errs(units), seen), np.zeros(len(alone.units))))
    every = np.concatenate((units.mean(0), alone.units))
    i, j = view.ends.T
    correlations, their_errors = jackknife(
        lambda xy, x, y: xy - x * y, pairs[:, view.place], units[:, i], units[:, j]
    )
    magnetisation = view.told(every).mean()
    of_replicates = units.sum(1) / len(every)
    scale = view.scale
    return {
        "magnetisation": (magnetisation, scale * std_errs(of_replicates)),
        "unit_means": (view.told(every[view.order]), scale * errors[view.order]),
        "correlations": (scale**2 * correlations, scale**2 * _unless_frozen(their_errors, seen)),
    }


def _unless_frozen(errors: Float, seen: Averages) -> Float:
    """Return standard errors; of what never changed, that of a change in a single state: it may be the next."""
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
