"""An estimate of log Z by annealed importance sampling, with the verdict of annealing the other way."""

from __future__ import annotations

import math

import numpy as np

from dvae_core.errors import ConfigError

from ..config import LogZConfig
from ..machine import Machine
from .bar import std_err_of_mean
from .checks import check_lower_bound, student_limit
from .methods import Estimate, ProgressCallback
from .run import HALF_UNIT, TemperedRun
from .sandwich import N_GROUPS, N_STEPS, sandwich

__all__ = ["estimate_by_annealing"]


def estimate_by_annealing(
    machine: Machine,
    config: LogZConfig,
    device: str = "cpu",
    threads: int = 1,
    progress: ProgressCallback | None = None,
    offset: float = 0.0,
) -> Estimate:
    """Return the estimate of annealed importance sampling, forward or reverse as `config.method` says.

    The other direction is run, too: a gap between them shows an annealing that was too quick.  Backward, the paths
    that carry the weight may all be missing without a trace in the weights that are there, and the estimate is too
    high by up to the gap: its standard error holds the gap.

    Raises
    ------
    ConfigError
        If a precision was asked for: annealing is as long as --sweeps and --chains make it.
    """
    if config.precision or config.time_limit:
        raise ConfigError(
            f"--method {config.method}: has no --precision or --time-limit; give --sweeps and --chains"
        )

    def tell(phase: str, done: int, total: int) -> None:
        if progress:
            progress(phase, done, total, None, None)

    n_steps = config.n_sweeps or N_STEPS
    run = TemperedRun(machine, config, device, threads, offset)
    run.adapt(progress=lambda done, total: tell("placing rungs", done, total))
    found = sandwich(run, n_steps, config.n_chains, tell)
    is_reverse = config.method == "reverse-ais"
    chosen = found.reverse if is_reverse else found.forward
    log_z, repeats = chosen.log_z + offset, chosen.repeats(N_GROUPS) + offset
    # Every step rounds every unit's part of the weight.
    rounding = run.rounding + HALF_UNIT * math.sqrt(n_steps * machine.n_units)
    gap = max(0.0, found.reverse.log_z - found.forward.log_z) if is_reverse else 0.0
    std_err = math.hypot(max(chosen.std_err, std_err_of_mean(repeats)), rounding, gap)
    limit = student_limit(N_GROUPS)
    checks = found.checks()
    checks.append(check_lower_bound(log_z, std_err, float(run.lower_bounds[0]), limit))
    diagnostics = {
        "rungs": run.replicas.schedule.betas.tolist(),
        "sandwich": found.to_dict(),
        "mean_field_bounds": run.lower_bounds.tolist(),
        "log_w": {"quantiles": np.quantile(chosen.log_w, np.linspace(0, 1, 21)).tolist()},
        "rounding": rounding,
        "gap": gap,
        "n_sweeps": n_steps,
        "n_chains": config.n_chains,
        "stopped": "sweeps",
    }
    return Estimate(log_z, std_err, repeats.tolist(), N_GROUPS, checks, diagnostics)
