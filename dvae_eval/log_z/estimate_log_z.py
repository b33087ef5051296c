"""log Z of a Boltzmann machine, with a verdict: exact where that can be had, else parallel tempering and BAR."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from scipy import stats

from dvae_core import __version__
from dvae_core.errors import ConfigError
from dvae_core.versions import package_versions

from ..config import LogZConfig
from ..exact.plan import AUTO_SECONDS, EXACT_SECONDS, exact_log_z, exact_plan
from ..machine import BipartiteMachine, GeneralMachine, Machine, machine_from_couplings
from ..results import LogZResult, verdict
from ..runtime.memory_estimate import refuse_too_large
from ..runtime.resume import Partial
from .annealed import estimate_by_annealing
from .checks import check_exact, student_limit
from .methods import Estimate, ProgressCallback, estimate_by_tempering
from .repeats import repeated

__all__ = ["estimate_log_z"]

# In which numbers a method computes.
DTYPES, SAMPLED = {"exact": "float64"}, "float32 fields, float64 sums"


def estimate_log_z(
    model: Machine | tuple[ArrayLike, ...],
    config: LogZConfig | None = None,
    *,
    description: dict[str, Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    constant: float = 0.0,
    **settings: Any,
) -> LogZResult:
    """Estimate log Z of a Boltzmann machine, with its error and a verdict.

    Parameters
    ----------
    model : BipartiteMachine, GeneralMachine or tuple of arrays
        (W, b_left, b_right) of an RBM, p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h) over {0,1}, W of shape (n_left,
        n_right); or (J, b) of a general machine, see `machine_from_couplings`.
    config : LogZConfig, optional
        Settings; by default the exact value where it can be had soon, else parallel tempering.
    description : dict, optional
        What to say of the model's file in the result, beside sizes and digest.
    device : str
        Where parallel tempering runs.
    threads : int, optional
        CPU threads, or processes with `n_repeats`; all by default.  The result does not depend on them.
    progress : callable, optional
        Called with (phase, done, in all, estimate so far or None, its standard error or None).
    partial : Path, optional
        File for what is done so far: if it holds the beginning of this very estimate, that is gone on with.  The
        caller removes it when the result is safe.
    constant : float
        Nats that are added to log Z, for a model whose log-probabilities are larger by so much.
    **settings
        Fields of LogZConfig, such as method="pt-bar", precision=0.01 or seed=3.

    Returns
    -------
    LogZResult

    Raises
    ------
    ConfigError
        If a setting is not allowed, the exact value is asked for and cannot be had, or memory does not suffice.
    DataError
        If the arrays are no machine.
    OverlapError
        If neighbouring rungs share no mass.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rbm = rng.normal(size=(30, 20)), rng.normal(size=30), rng.normal(size=20)
    >>> exact = estimate_log_z(rbm)
    >>> estimate = estimate_log_z(rbm, method="pt-bar", precision=0.01, seed=1)
    >>> abs(estimate.log_z - exact.log_z) < 6 * estimate.std_err
    True
    """
    started = time.monotonic()
    config = dataclasses.replace(config or LogZConfig(), **_known(settings))
    machine = _machine(model)
    refuse_too_large(machine, config, min(threads or available_cores(), config.n_repeats))
    if _is_exact(machine, config):
        fields = _exact(machine, threads, progress, constant)
    else:
        fields = _estimated(machine, config, device, threads or available_cores(), progress, partial, constant)
    trustworthy, reasons = fields.pop("verdict")
    return LogZResult(
        **fields,
        model={**(description or {}), **machine.description()},
        settings={**asdict(config), "device": device, "dtype": DTYPES.get(fields["method"], SAMPLED)},
        seed=config.seed,
        trustworthy=trustworthy,
        reasons=reasons,
        versions=package_versions("torch", "numpy", "scipy", "pymbar", "numba"),
        wall_seconds=time.monotonic() - started,
    )


def available_cores() -> int:
    """Return how many CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _machine(model: Machine | tuple[ArrayLike, ...]) -> Machine:
    """Return the machine that was handed in, or that the arrays are of."""
    if isinstance(model, BipartiteMachine | GeneralMachine):
        return model
    if isinstance(model, tuple) and len(model) in (2, 3):
        return BipartiteMachine.from_arrays(*model) if len(model) == 3 else machine_from_couplings(*model)
    raise ConfigError("model: give a BipartiteMachine, a GeneralMachine, (W, b_left, b_right) or (J, b)")


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, after making sure that LogZConfig has them."""
    names = {field.name for field in dataclasses.fields(LogZConfig)}
    if unknown := sorted(set(settings) - names):
        raise ConfigError(f"{unknown[0]}: no such setting; there are {', '.join(sorted(names))}")
    return {name: value for name, value in settings.items() if value is not None}


def _is_exact(machine: Machine, config: LogZConfig) -> bool:
    """Decide whether the exact value is the answer; ConfigError if it is wanted and cannot be had."""
    plan = exact_plan(machine)
    if config.against_exact and plan.seconds > EXACT_SECONDS:
        raise ConfigError(f"--against-exact: {plan.need}, which takes too long; leave it out")
    if machine.without_isolated_units()[0] is None:
        # A closed form: nothing is left to temper.
        return True
    return config.method == "exact" or (config.method == "auto" and plan.seconds <= AUTO_SECONDS)


def _exact(
    machine: Machine, threads: int | None, progress: ProgressCallback | None, constant: float
) -> dict[str, Any]:
    """Return a result's fields for the exact value; ConfigError if it takes too long."""
    tick = (lambda done, total: progress("summing all states", done, total, None, None)) if progress else None
    log_z = exact_log_z(machine, tick, threads) + constant
    return {
        "log_z": log_z,
        "std_err": 0.0,
        "ci95": [log_z, log_z],
        "method": "exact",
        "repeats": [],
        "diagnostics": {"route": exact_plan(machine).route, "checks": []},
        "verdict": (True, []),
    }


def _estimated(
    machine: Machine,
    config: LogZConfig,
    device: str,
    threads: int,
    progress: ProgressCallback | None,
    partial: Path | None,
    constant: float,
) -> dict[str, Any]:
    """Return a result's fields for an estimate, or the mean of several independent ones."""
    task = {"model": machine.sha256, "constant": constant, "device": device, "version": __version__}
    task |= asdict(config)
    store = Partial(partial, task) if partial else None
    coupled, alone = machine.without_isolated_units()
    assert coupled is not None  # or else the answer is exact
    offset = alone + constant
    if config.n_repeats > 1:
        estimate = repeated(coupled, config, device, threads, progress, store, offset)
    elif config.method in ("ais", "reverse-ais"):
        estimate = estimate_by_annealing(coupled, config, device, threads, progress, offset)
    else:
        estimate = estimate_by_tempering(coupled, config, device, threads, progress, store, offset=offset)
    exact = exact_log_z(machine) + constant if config.against_exact else None
    return _fields(config, estimate, exact)


def _fields(config: LogZConfig, estimate: Estimate, exact: float | None) -> dict[str, Any]:
    """Return a result's fields; the estimate is held against the exact value where that is known."""
    log_z, error, limit = estimate.log_z, estimate.std_err, student_limit(estimate.n_independent)
    checks = list(estimate.checks)
    diagnostics = dict(estimate.diagnostics)
    if exact is not None:
        checks.append(check_exact(log_z, error, exact, limit))
        diagnostics["exact"] = {"log_z": exact}
    half_width = float(stats.t.ppf(0.975, estimate.n_independent - 1)) * error
    return {
        "log_z": log_z,
        "std_err": error,
        "ci95": [log_z - half_width, log_z + half_width],
        "method": config.method if config.method != "auto" else "pt-bar",
        "repeats": estimate.repeats,
        "diagnostics": {**diagnostics, "checks": [asdict(c) for c in checks]},
        "verdict": verdict(checks),
    }
