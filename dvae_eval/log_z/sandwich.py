"""log Z between two annealings: forward from the reference (too low) and reverse from the machine (too high)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dvae_core.progress import Report, changed, ignore

from ..sampling.annealing import Annealing, annealed_importance_sampling, betas_along, reverse_ais
from ..verdict import Check
from .checks import FALSE_ALARM, check_gap, check_inside, check_weights, student_limit
from .run import TemperedRun

N_GROUPS, N_STEPS = 16, 1000
# Sweeps between the samples of the machine that start reverse chains, and sweeps before the first.
EVERY, BURN_IN = 20, 200
# Cost of a step of an annealed chain, in sweeps of a tempered one.
ANNEALED_SWEEP = 5


@dataclass(frozen=True, slots=True)
class Sandwich:
    """Annealing from the reference to the machine and back from its samples; `offset` is added to log Z."""

    forward: Annealing
    reverse: Annealing
    offset: float

    def checks(self, log_z: float | None = None) -> list[Check]:
        """Return the checks of both annealings; with `log_z`, also that it lies between their bounds."""
        ways = (self.forward, self.reverse)
        error = math.hypot(*(way.std_err for way in ways))
        checks = [check_weights(name, way.ess) for name, way in zip(("forward", "reverse"), ways, strict=True)]
        checks.append(check_gap(self.reverse.log_z - self.forward.log_z, error, student_limit(N_GROUPS)))
        if log_z is not None:
            checks.append(check_inside(log_z, *(way.bound(1 - FALSE_ALARM) + self.offset for way in ways)))
        return checks

    def to_dict(self) -> dict[str, Any]:
        """Return estimates, errors and 95% bounds, in nats, as plain numbers."""
        names = {"ais": self.forward, "reverse_ais": self.reverse}
        found = {
            name: {"log_z": a.log_z + self.offset, "std_err": a.std_err, "ess": a.ess} for name, a in names.items()
        }
        bounds = [way.bound() + self.offset for way in (self.forward, self.reverse)]
        return {**found, "lower_bound": bounds[0], "upper_bound": bounds[1]}


def sandwich_seconds(run: TemperedRun) -> float:
    """Return the approximate seconds of a sandwich of `N_STEPS` steps on `run.threads` threads."""
    iterations = BURN_IN + EVERY * math.ceil(run.config.n_chains / run.config.n_replicates)
    n_chains = run.config.n_replicates * len(run.replicas.schedule.betas)
    per_sweep = run.seconds_per_iteration(run.replicas) / n_chains
    return (iterations * n_chains + 2 * ANNEALED_SWEEP * N_STEPS * run.config.n_chains) * per_sweep


def sandwich(
    run: TemperedRun, n_steps: int, n_chains: int, report: Report = ignore, share: float = 1.0
) -> Sandwich:
    """Return both annealings along the rungs of a run, whose replicas at β = 1 start the reverse chains.

    The reverse bound is valid only if these replicas are samples of the machine.  `share` scales the number of
    sweeps between them, for runs with a time limit.
    """
    seed = run.config.seed
    betas = betas_along(run.replicas.schedule, n_steps)
    how: dict[str, Any] = {"reference": run.reference, "device": run.device, "threads": run.threads}
    samples = run.target_samples(n_chains, math.ceil(share * EVERY), math.ceil(share * BURN_IN))
    forward = annealed_importance_sampling(run.machine, betas, n_chains, seed, report=report, **how)
    report = changed(report, "reverse annealing")
    reverse = reverse_ais(run.machine, samples, betas, seed, report=report, **how)
    return Sandwich(forward, reverse, run.offset)
