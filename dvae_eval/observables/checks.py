"""Checks of mean energies along β: halves of the run, and random and ordered starts, agree within chance."""

from __future__ import annotations

import math

import numpy as np

from dvae_core.types import Float

from ..log_z.checks import UNMIXED, student_limit
from ..verdict import Check

MORE = "use more --sweeps, or a longer --time-limit"
LEAST = 1e-12


def check_energies(energies: Float) -> list[Check]:
    """Return the checks of energies at several β; each uses the largest difference.

    Parameters
    ----------
    energies : float64, shape (n_blocks, n_replicates, n_betas)
        Means over blocks of time of independent replicates, the second half of which started in the deepest
        basins.
    """
    n_blocks, n_replicates, n_betas = energies.shape
    limit = student_limit(n_replicates, n_betas)
    half = n_blocks // 2
    halves = energies[:half].mean(0) - energies[n_blocks - half :].mean(0) if half else np.zeros((2, 1))
    starts = _apart(energies.mean(0))
    return [
        Check.at_most("energies of the run's halves differ, in standard errors", _largest(halves), limit, MORE),
        Check.at_most(
            "energies from random and ordered starts differ, in standard errors",
            starts,
            limit,
            f"{UNMIXED}; {MORE}",
        ),
    ]


def _largest(differences: Float) -> float:
    """Return the largest |mean| over the first axis, in standard errors."""
    error = differences.std(0, ddof=1) / math.sqrt(len(differences))
    return float((np.abs(differences.mean(0)) / np.maximum(error, LEAST)).max())


def _apart(means: Float) -> float:
    """Return the largest difference between the two halves of the replicates, in standard errors."""
    n = len(means) // 2
    if n < 2:
        return 0.0
    random, ordered = means[: len(means) - n], means[len(means) - n :]
    error = np.sqrt(random.var(0, ddof=1) / len(random) + ordered.var(0, ddof=1) / len(ordered))
    return float((np.abs(random.mean(0) - ordered.mean(0)) / np.maximum(error, LEAST)).max())
