"""Independent estimates of the same log Z, over processes: their spread is the error nobody can argue with."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from dvae_core.rng import numpy_generator

from ..config import LogZConfig
from ..machine import Machine
from ..results import Check
from ..runtime.pool import check_wanted, spread
from ..runtime.resume import Partial
from .annealed import estimate_by_annealing
from .checks import check_repeats
from .methods import Estimate, ProgressCallback, estimate_by_tempering

__all__ = ["repeated"]


def repeated(
    machine: Machine,
    config: LogZConfig,
    device: str = "cpu",
    workers: int = 1,
    progress: ProgressCallback | None = None,
    store: Partial | None = None,
    offset: float = 0.0,
) -> Estimate:
    """Return the mean of `config.n_repeats` independent estimates, each with its own pilot and random numbers.

    Parameters
    ----------
    machine, config, device, progress, offset
        As for `estimate_by_tempering`.
    workers : int
        Processes; the result does not depend on them.
    store : Partial, optional
        Where finished repeats are kept.
    """
    done = _load(store)
    todo = [i for i in range(config.n_repeats) if i not in done]
    for k, estimate in spread(one_repeat, (machine, config, device, offset), todo, workers):
        done[todo[k]] = estimate
        if store:
            store.save({"repeats": _packed(done)})
        if progress:
            values = np.array([e.log_z for e in done.values()])
            error = float(values.std(ddof=1)) / math.sqrt(len(done)) if len(done) > 1 else None
            progress("repeats", len(done), config.n_repeats, float(values.mean()), error)
    return _combined([done[i] for i in range(config.n_repeats)], config)


def one_repeat(shared: tuple[Machine, LogZConfig, str, float], index: int) -> Estimate:
    """Return the estimate of one repeat of (machine, config, device, offset), on one thread."""
    machine, config, device, offset = shared
    seed = int(numpy_generator(config.seed, "log_z", 4, index).integers(2**63))
    own = dataclasses.replace(config, seed=seed, n_repeats=1)
    tell: ProgressCallback = check_wanted
    if config.method in ("ais", "reverse-ais"):
        return estimate_by_annealing(machine, own, device, progress=tell, offset=offset)
    return estimate_by_tempering(
        machine, own, device, progress=tell, n_comparisons=config.n_repeats, offset=offset
    )


def _combined(done: list[Estimate], config: LogZConfig) -> Estimate:
    """Return the mean of the repeats; of every check the worst of all, and the diagnostics of the first."""
    values, errors = np.array([e.log_z for e in done]), np.array([e.std_err for e in done])
    n = len(done)
    std_err = max(float(values.std(ddof=1)), math.sqrt(float((errors**2).mean()))) / math.sqrt(n)
    # Rounding is the same in all of them, and so is what annealing back misses: no mean makes it less.
    gap = float(np.mean([e.diagnostics.get("gap", 0.0) for e in done]))
    std_err = math.hypot(std_err, done[0].diagnostics["rounding"], gap)
    checks = [_worst([e.checks[i] for e in done]) for i in range(len(done[0].checks))]
    n_independent = done[0].n_independent
    checks.append(check_repeats(values, errors, n_independent))
    diagnostics = {**done[0].diagnostics, "repeats_std_err": errors.tolist()}
    diagnostics["n_sweeps_of_repeats"] = [e.diagnostics["n_sweeps"] for e in done]
    return Estimate(float(values.mean()), std_err, values.tolist(), n, checks, diagnostics)


def _worst(checks: list[Check]) -> Check:
    """Return the first check that failed, else the one nearest to its limit."""
    return min(checks, key=lambda c: (c.passed, abs(c.value - c.threshold)))


def _packed(done: dict[int, Estimate]) -> Any:
    """Return the estimates as JSON bytes."""
    plain = {i: dataclasses.asdict(estimate) for i, estimate in done.items()}
    return np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)


def _load(store: Partial | None) -> dict[int, Estimate]:
    """Return the estimates that were finished before, by their number."""
    arrays = store.load() if store else None
    if arrays is None or "repeats" not in arrays:  # those of an earlier version are made anew
        return {}
    return {
        int(i): Estimate(**{**e, "checks": [Check(**c) for c in e["checks"]]})
        for i, e in json.loads(arrays["repeats"].tobytes().decode()).items()
    }
