"""Log Z of the machines along a training, each from samples of the two rungs that enclose it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from dvae_core.types import Float

from ..couplings import n_entries
from ..numbers import log_mean_exp, std_err_of_mean
from ..trajectory import Trajectory
from .bar import influence_up_to
from .run import TemperedRun

# Samples per rung, iterations before each sample, and the largest number of machines to evaluate.
N_SAMPLES, EVERY, MOST_POINTS = 8, 8, 100
# Seconds of one core per state and coupling, to compute a potential.
POTENTIAL_BOND = 3e-10


def along_training_seconds(run: TemperedRun, trajectory: Trajectory) -> float:
    """Return the approximate seconds that `log_z_along_training` takes."""
    n_points = min(MOST_POINTS, len(trajectory.machines))
    n_potentials = 3 * n_points * 2 * N_SAMPLES * run.config.n_replicates
    stretch = N_SAMPLES * EVERY * run.seconds_per_iteration(run.replicas)
    return float(stretch + n_potentials * n_entries(run.reduced.W) * POTENTIAL_BOND * run.slowness)


def log_z_along_training(run: TemperedRun, trajectory: Trajectory) -> dict[str, Any]:
    """Return log Z of the trajectory's machines, as plain JSON values.

    Machine j, at t_j, lies between two rungs whose log Z is known from BAR.  The samples of both rungs together
    are samples of an equal mixture of the two, whose density is known, and Z_j is a mean of ratios to it (Shirts
    and Chodera, 2008, for two states).  The error is the spread between replicates of this mean plus BAR's sum.

    Parameters
    ----------
    run : TemperedRun
        A finished run; some further iterations are made.
    trajectory : Trajectory
        The training whose path the run followed.

    Returns
    -------
    dict
        `steps`, `log_z` and `std_err`, in nats, lists of equal length.
    """
    assert run.trajectory is not None
    states = _samples(run)
    shift = 0 if trajectory.starts_independent else 1  # otherwise the path begins with one more machine
    knots = run.trajectory.knots
    n = len(trajectory.machines)
    chosen = np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(int)).tolist()
    between = _Between(run, states)
    found = [between.log_z(float(knots[j + shift])) for j in chosen]
    return {
        "steps": [trajectory.steps[j] for j in chosen],
        "log_z": [
            value - run.offset + trajectory.constants[j] for j, (value, _) in zip(chosen, found, strict=True)
        ],
        "std_err": [error for _, error in found],
    }


def _samples(run: TemperedRun) -> NDArray[np.uint8]:
    """Return states of the kept units, shape (n_samples, n_replicates, n_rungs, n_kept)."""
    states = []
    for _ in range(N_SAMPLES):
        run.replicas.run(EVERY)
        states.append(run.replicas.v)
    return np.stack(states)


class _Between:
    """Log Z anywhere on a path, from log Z and samples of the rungs."""

    def __init__(self, run: TemperedRun, states: NDArray[np.uint8]) -> None:
        self.run, self.states, self.betas = run, states, run.replicas.schedule.betas
        self.path = run.reference.path(run.machine.reduced())
        # Log Z of every rung, and the influence of each replicate on it.
        self.log_zs = run.log_z_0 + np.concatenate(([0.0], np.cumsum(run.bridge().delta_f)))
        of_rungs = [influence_up_to(run.sums, rung, run.first_block).mean(0) for rung in range(len(self.betas))]
        self.influence = np.stack(of_rungs, 1)

    def log_z(self, t: float) -> tuple[float, float]:
        """Return log Z at t and its standard error, nats; at a rung, BAR's own."""
        k = min(int(np.searchsorted(self.betas, t, "right")) - 1, len(self.betas) - 2)
        for rung in (k, k + 1):
            if t == self.betas[rung]:
                return float(self.log_zs[rung]), std_err_of_mean(self.influence[:, rung])
        pair = self.states[:, :, k : k + 2]
        v = torch.from_numpy(np.ascontiguousarray(pair).reshape(-1, pair.shape[-1])).double()
        own, low, high = (self.path.log_p(v, beta).numpy() for beta in (t, self.betas[k], self.betas[k + 1]))
        low, high = low - self.log_zs[k], high - self.log_zs[k + 1]
        log_w = own - np.logaddexp(low, high) + np.log(2)
        value = log_mean_exp(log_w)
        return value, std_err_of_mean(self._influence(k, log_w - value, low - high, pair.shape[:3]))

    def _influence(self, k: int, log_w: Float, log_odds: Float, shape: tuple[int, ...]) -> Float:
        """Return the influence of each replicate on log Z between rungs k and k + 1, shape (n_replicates,)."""
        w = np.exp(log_w)
        share = float((w * expit(log_odds)).mean())
        of_rungs = share * self.influence[:, k] + (1 - share) * self.influence[:, k + 1]
        total: Float = w.reshape(shape).mean((0, 2)) - 1 + of_rungs
        return total
