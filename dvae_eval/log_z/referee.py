"""Comparison of an estimate from a fitted reference with a run from the uniform reference.

A reference fitted to a machine's modes or samples covers only those that were found.  Estimates from it can pass
all other checks and still be too low, by -log of the share of the mass that was found.  The uniform reference has
no such blind spot: it is slow where there are many basins, but its checks then fail.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from dvae_core.rng import numpy_generator

from ..config import LogZConfig
from ..verdict import Check
from .checks import student_limit

# Share of the time limit kept for this run, and the smallest standard error that it aims for, nats.
REFEREE_SHARE, REFEREE_PRECISION = 0.5, 0.03
# The largest standard error with which the comparison is meaningful, nats, and the probability that a sound
# estimate fails it.  A sound estimate that is refused costs a longer run; a wrong one that passes misleads.
LARGEST_ERROR, FALSE_ALARM = 0.3, 1e-2
REMEDY = (
    "the reference covers only the modes that were found, so that others may be missing; use a longer "
    "--time-limit, more --sweeps, or --reference uniform"
)


def referee_config(config: LogZConfig, seconds: float, std_err: float) -> LogZConfig:
    """Return the settings of the run from the uniform reference, for an estimate with standard error `std_err`."""
    seed = int(numpy_generator(config.seed, "log_z", 7).integers(2**63))
    return replace(
        config,
        method="pt-bar",
        reference="uniform",
        precision=0.0 if config.n_sweeps else max(REFEREE_PRECISION, std_err),
        time_limit=0.0 if math.isinf(seconds) else max(seconds, 0.1),
        n_repeats=1,
        sandwich=False,
        against_exact=False,
        seed=seed,
    )


def referee_checks(
    log_z: float, std_err: float, other: float, other_err: float, checks: list[Check], n: int
) -> list[Check]:
    """Return the checks that compare an estimate with a run of n replicates from the uniform reference.

    Parameters
    ----------
    log_z, std_err, other, other_err : float
        Both estimates and their standard errors, nats.
    checks : list of Check
        Checks of the other run; if one failed, its standard error may mean nothing.
    """
    failed = [check.name for check in checks if not check.passed]
    distance = abs(log_z - other) / math.hypot(std_err, other_err)
    limit = student_limit(n, alarm=FALSE_ALARM)
    why = f"that run failed: {', '.join(failed)}; {REMEDY}" if failed else REMEDY
    return [
        Check("checks that a run from the uniform reference fails", len(failed), 0.0, not failed, why),
        _at_most("standard error of a run from the uniform reference, nats", other_err, LARGEST_ERROR),
        _at_most("difference from a run from the uniform reference, in standard errors", distance, limit),
    ]


def referee_details(log_z: float, std_err: float, diagnostics: dict[str, Any]) -> dict[str, Any]:
    """Return what the result reports about the run from the uniform reference."""
    kept = ("barrier", "independent_blocks", "n_blocks", "n_sweeps", "stopped")
    return {"log_z": log_z, "std_err": std_err, **{name: diagnostics[name] for name in kept}}


def _at_most(name: str, value: float, threshold: float) -> Check:
    return Check(name, value, threshold, value <= threshold, REMEDY)
