"""Energy, specific heat, entropy, magnetisation and correlations of a machine along β, each with its error.

p_β(x) ∝ exp(-β E(x)), with E = -(A(z) + constant) minus the log-probability of the model as it was read.
Where log Z can be computed exactly, so can its derivatives; otherwise the results are averages over a tempered
run, whose rungs are the machine at each β.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core.environment import Effort
from dvae_core.errors import ConfigError
from dvae_core.keywords import configured, with_settings
from dvae_core.progress import ProgressCallback, changed, report_to
from dvae_core.text import duration

from ..config import ObservablesConfig, betas_of
from ..exact.moments_plan import MomentsPlan, moments_plan
from ..log_z.methods import time_limit
from ..machine import Machine
from ..objects import machine_from_object, values_of_units
from ..results import ObservablesResult
from ..runtime.clock import Clock
from ..runtime.compute import available_cores
from .convention import View, fields_of
from .tempered import Found, Work, by_tempering, log_z_config_of

# Predicted seconds for all β together below which the exact route is the default, and below which it can be
# requested.
AUTO_SECONDS, EXACT_SECONDS = 240.0, 3600.0
EXACT_SHARE, SEARCH_SHARE = 0.5, 0.1  # of a time limit
PACKAGES = ("torch", "numpy", "scipy", "pymbar", "numba")
# Raise this when the same settings and seed give other digits; tests/eval/test_environment.py checks it.
ESTIMATOR_VERSION = 1


@with_settings(ObservablesConfig)
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
        As for `estimate_log_z`; `units`, `sign` and `beta` as well.
    config : ObservablesConfig, optional
        Settings; by default β = 1 alone, exact if that takes at most about 4 minutes.
    description : dict, optional
        Entries about the model's file for the result.  Its `units`, `01` or `pm1`, are those of the observables.
    device : str
        Device of parallel tempering.
    threads : int, optional
        CPU threads; all cores by default.  The result does not depend on them.
    progress : callable, optional
        Called with (phase, done, total, log Z at the largest β so far or None, its standard error or None).
    partial : Path, optional
        File for the work done so far, see `estimate_log_z`.
    constant : float
        Nats by which the model's log-probabilities exceed the machine's; E is lower by this constant.
    **settings
        Fields of ObservablesConfig, such as betas=(0.5, 1, 2), method="pt" or seed=3.

    Returns
    -------
    ObservablesResult

    Raises
    ------
    ConfigError
        If a setting is invalid, requested exact values take too long, or memory does not suffice.
    DataError
        If the arrays do not define a machine.
    OverlapError
        If two neighbouring rungs share no mass.

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
    effort = Effort()
    if settings.get("betas") is not None:
        settings["betas"] = _betas(settings["betas"])
    config = configured(ObservablesConfig, config, settings, estimate_observables)
    machine, offset = machine_from_object(model, units=units, sign=sign, beta=beta)
    described = {"units": values_of_units(model, units), **(description or {}), **machine.description()}
    is_spin = described["units"] == "pm1"
    clock = Clock(time_limit(log_z_config_of(config)))
    how = Work(device, threads or available_cores(), report_to(progress), partial, clock)
    plan = _exact_plan(machine, config)
    if plan is not None:
        found = _exactly(plan, machine, config, constant + offset, is_spin, how)
    else:
        found = by_tempering(machine, config, constant + offset, is_spin, how)
    return ObservablesResult.of(
        config,
        found.checks,
        **fields_of(found.points, config.betas),
        bonds=found.view.bonds.tolist(),
        method="pt" if plan is None else "exact",
        model=described,
        settings={"device": device},
        diagnostics=found.diagnostics,
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=PACKAGES,
    )


def _betas(values: Any) -> tuple[float, ...]:
    """Return inverse temperatures from a text or numbers."""
    if isinstance(values, str):
        return betas_of(values)
    try:
        return tuple(map(float, values if isinstance(values, Sequence | np.ndarray) else [values]))
    except (TypeError, ValueError):
        raise ConfigError(
            f"betas: {str(values)[:40]!r} is not a list of numbers; give, for example, (0.5, 1, 2)"
        ) from None


def _exact_plan(machine: Machine, config: ObservablesConfig) -> MomentsPlan | None:
    """Return the plan for exact values; None if they are not chosen or take too long."""
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
            f"--method exact: no method found takes less than {duration(most)} for {n} β; "
            "use --method pt, or fewer --betas"
        )
    return None


def _exactly(
    plan: MomentsPlan, machine: Machine, config: ObservablesConfig, constant: float, is_spin: bool, how: Work
) -> Found:
    """Return exact observables."""
    ends = machine.reduced().bonds()[0].astype(np.int64)
    view = View.of(machine.reduced_units(), ends, constant, is_spin)
    view = view if config.correlations else view.without_bonds()
    points = []
    for k, beta in enumerate(config.betas, 1):
        phase = f"β = {beta:.4g}, {k} of {len(config.betas)}"
        moments = plan.moments(beta, changed(how.report, phase), how.threads)
        points.append(view.exact_point(moments, beta))
    return Found(points, view, [], {"route": plan.route})
