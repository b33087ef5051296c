"""log Z of a Boltzmann machine, with a verdict: exact where that can be had, else parallel tempering and BAR."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from dvae_core.checkpoint import package_versions
from dvae_core.errors import ConfigError

from .bridge import Bridge, bridge, std_err_of_mean, stepping_stones
from .config import LogZConfig
from .diagnostics import check_log_z
from .exact import MAX_ENUMERATED, exact_log_z, exact_route
from .ladder import Ladder
from .machine import Machine
from .results import LogZResult, verdict
from .tempering import Tempering, Works

__all__ = ["estimate_log_z"]

# What a progress bar hears: a phase in words, work done, work in all, and the estimate so far (or None).
ProgressCallback = Callable[[str, int, int, float | None], None]

PILOT_ROUNDS = 6
PILOT_ITERATIONS = 300
ANNEALING_SWEEPS = 5
# Pilots stop when every exchange rate is this near to what was asked for.
PILOT_TOLERANCE = 0.1


def estimate_log_z(
    machine: Machine,
    config: LogZConfig | None = None,
    *,
    model: dict[str, Any] | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> LogZResult:
    """Estimate log Z of a Boltzmann machine, with its error and a verdict.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The model, as arrays.
    config : LogZConfig, optional
        Settings; the defaults choose the exact value where at most `MAX_ENUMERATED` units must be enumerated.
    model : dict, optional
        What to say of the model's file in the result, beside sizes and digest.
    device : str
        Where parallel tempering runs.
    progress : callable, optional
        Called with (phase, done, in all, estimate so far or None).

    Returns
    -------
    LogZResult

    Raises
    ------
    ConfigError
        If the exact value is asked for and cannot be had.
    OverlapError
        If neighbouring rungs share no mass.

    Examples
    --------
    >>> import numpy as np
    >>> from dvae_eval.machine import BipartiteMachine
    >>> machine = BipartiteMachine.from_arrays(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
    >>> round(estimate_log_z(machine).log_z / np.log(2), 12)
    5.0
    """
    config = config or LogZConfig()
    started = time.monotonic()
    fields = (
        _exact(machine, progress) if _is_exact(machine, config) else _tempered(machine, config, device, progress)
    )
    trustworthy, reasons = fields.pop("verdict")
    return LogZResult(
        **fields,
        model={**(model or {}), **machine.description()},
        settings={**asdict(config), "device": device, "dtype": "float32 states, float64 sums"},
        seed=config.seed,
        trustworthy=trustworthy,
        reasons=reasons,
        versions=package_versions("torch", "numpy", "scipy", "pymbar"),
        wall_seconds=time.monotonic() - started,
    )


def _is_exact(machine: Machine, config: LogZConfig) -> bool:
    """Decide whether the exact value is the answer; ConfigError if it is asked for in vain."""
    n_kept = len(machine.reduced().b)
    if n_kept == 0:
        # All units are summed out: nothing is left to temper.
        return True
    if config.method == "pt-bar" and not config.against_exact:
        return False
    feasible = exact_route(machine) is not None
    if not feasible and (config.method == "exact" or config.against_exact):
        option = "--method exact" if config.method == "exact" else "--against-exact"
        raise ConfigError(
            f"{option}: {n_kept} units would have to be enumerated, which is done for at most "
            f"{MAX_ENUMERATED} units; use --method pt-bar alone"
        )
    return feasible and config.method != "pt-bar"


def _exact(machine: Machine, progress: ProgressCallback | None) -> dict[str, Any]:
    """Return a result's fields for the enumerated value."""
    tick = (lambda done, total: progress("enumerating", done, total, None)) if progress else None
    log_z = exact_log_z(machine, tick)
    return {
        "log_z": log_z,
        "std_err": 0.0,
        "ci95": [log_z, log_z],
        "method": "exact",
        "repeats": [],
        "diagnostics": {"checks": []},
        "verdict": (True, []),
    }


def _tempered(
    machine: Machine, config: LogZConfig, device: str, progress: ProgressCallback | None
) -> dict[str, Any]:
    """Return a result's fields for the estimate by parallel tempering and BAR."""
    ladder = _pilot(machine, config, device, progress)
    tempering = Tempering(machine, ladder, config.n_ladders, config.seed, round=0, device=device)
    tempering.anneal(ANNEALING_SWEEPS)
    log_z_0 = machine.n_units * math.log(2)
    works = tempering.run(config.n_sweeps)
    works = works.after(round(config.burn_in * config.n_sweeps))
    bar = bridge(works)
    exact = exact_log_z(machine) if config.against_exact else None
    checks = check_log_z(works, bar, tempering.round_trips.tolist(), log_z_0, exact)
    half_width = float(stats.t.ppf(0.975, config.n_ladders - 1)) * bar.std_err
    log_z = log_z_0 + bar.total
    return {
        "log_z": log_z,
        "std_err": bar.std_err,
        "ci95": [log_z - half_width, log_z + half_width],
        "method": "pt-bar",
        "repeats": (log_z_0 + bar.repeats).tolist(),
        "diagnostics": _diagnostics(tempering, works, bar, log_z_0)
        | {"checks": [asdict(check) for check in checks]}
        | ({} if exact is None else {"exact": {"log_z": exact}}),
        "verdict": verdict(checks),
    }


def _pilot(machine: Machine, config: LogZConfig, device: str, progress: ProgressCallback | None) -> Ladder:
    """Place and count the rungs in rounds, until neighbours exchange at the rate that was asked for."""
    ladder = Ladder.uniform(16)
    for round in range(1, PILOT_ROUNDS + 1):
        tempering = Tempering(machine, ladder, config.n_ladders, config.seed, round, device)
        tempering.anneal(ANNEALING_SWEEPS)
        works = tempering.run(PILOT_ITERATIONS).after(PILOT_ITERATIONS // 4)
        rates = works.exchange_rates
        if progress:
            progress("placing rungs", round, PILOT_ROUNDS, None)
        following = ladder.equalised(1 - rates, config.exchange_rate)
        settled = following.n_steps == ladder.n_steps and np.abs(rates - rates.mean()).max() < PILOT_TOLERANCE
        ladder = following
        if settled:
            break
    return ladder


def _live(
    phase: str, log_z_0: float, progress: ProgressCallback | None
) -> Callable[[int, int, Works], None] | None:
    """Return a callback that tells the mean of the two stepping-stone estimates of the later half so far."""
    if progress is None:
        return None

    def tell(done: int, total: int, works: Works) -> None:
        progress(phase, done, total, log_z_0 + sum(stepping_stones(works.after(done // 2))) / 2)

    return tell


def _diagnostics(tempering: Tempering, works: Works, bar: Bridge, log_z_0: float) -> dict[str, Any]:
    """Return what was seen on the way, for figures and for readers."""
    forward, reverse = stepping_stones(works)
    n = len(bar.influence)
    stops = sorted({max(2, round(n * share)) for share in np.linspace(0.05, 1, 20)})
    running = [bar.part(0, stop) for stop in stops]
    return {
        "ladder": tempering.ladder.betas.tolist(),
        "exchange_rates": works.exchange_rates.tolist(),
        "barrier": float((1 - works.exchange_rates).sum()),
        "round_trips": tempering.round_trips.tolist(),
        "delta_f": bar.delta_f.tolist(),
        "overlaps": bar.overlaps.tolist(),
        "stepping_stones": {"forward": log_z_0 + forward, "reverse": log_z_0 + reverse},
        "halves": [log_z_0 + bar.part(0, n // 2)[0], log_z_0 + bar.part(n // 2, n)[0]],
        "running": {
            "n_sweeps": stops,
            "log_z": [log_z_0 + estimate for estimate, _ in running],
            "std_err": [error for _, error in running],
        },
        "statistical_inefficiency": _inefficiency(bar),
    }


def _inefficiency(bar: Bridge) -> float:
    """Return how many sweeps are worth one independent sample: the variance of ladder means over white noise's."""
    n = len(bar.influence)
    white = float(bar.influence.var()) / n
    return float(n and (std_err_of_mean(bar.influence.mean(0)) ** 2 * bar.influence.shape[1]) / max(white, 1e-300))
