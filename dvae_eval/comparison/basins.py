"""Weights of a machine's basins in reads and in the machine's own samples.

The basin of a state is the mean-field mode nearest to where mean-field iterations from the state lead.  It is a
function of the state, so for reads and samples of one distribution the weights agree, for any modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from dvae_core.types import Float

from ..machine import Machine
from ..sampling.basins import find_basins, nearest_basin
from ..starts import spread
from .reads import Reads

Bits = NDArray[np.uint8]
# Largest number of reads, and of states, to assign; work limit of the search; largest number of basins.
MOST, WORK, MOST_BASINS = 4000, 5e9, 16
FEWEST = 5.0  # least expected count in a basin; smaller basins are merged
LEAST_P = 1e-300


@dataclass(frozen=True, slots=True)
class BasinWeights:
    """Weights of basins, and their difference as a standard normal deviate of equal p-value."""

    basins: list[dict[str, Any]]
    z: float


def basin_weights(machine: Machine, reads: Reads, states: Bits, n_independent: float, seed: int) -> BasinWeights:
    """Return the weights of the basins of a machine, the heaviest in its samples first.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The machine of p_β.
    reads : Reads
    states : uint8, shape (n, n_units)
        Samples of it.
    n_independent : float
        Effective number of these samples.
    seed : int
    """
    reduced = machine.reduced()
    kept = machine.reduced_units()[: len(reduced.b)]
    modes = find_basins(reduced, seed, MOST_BASINS, WORK).means
    rows = spread(np.arange(len(reads.w)), MOST)
    w, v = reads.w[rows], reads.v[rows]
    some = spread(states, MOST)
    own, theirs = (nearest_basin(reduced, modes, x[:, kept]) for x in (some, reads.x[rows]))
    machine_share = np.bincount(own, minlength=len(modes)) / len(some)
    share = np.bincount(theirs, w, len(modes)) / w.sum()
    n_reads, n_states = float(w.sum() ** 2 / v.sum()), n_independent * len(some) / len(states)
    basins = [
        {
            "samples": float(share[k]),
            "samples_std_err": math.sqrt(share[k] * (1 - share[k]) / n_reads),
            "machine": float(machine_share[k]),
            "machine_std_err": math.sqrt(machine_share[k] * (1 - machine_share[k]) / n_states),
        }
        for k in np.argsort(-machine_share, kind="stable").tolist()
        if share[k] + machine_share[k] > 0
    ]
    return BasinWeights(basins, _apart(share, machine_share, n_reads, n_states))


def _apart(p: Float, q: Float, n: float, m: float) -> float:
    """Return the difference of two multinomial samples by Pearson's chi-square, as a standard normal deviate."""
    pooled = (n * p + m * q) / (n + m)
    often = min(n, m) * pooled >= FEWEST
    p, q, pooled = (np.append(x[often], x[~often].sum()) for x in (p, q, pooled))
    p, q, pooled = p[pooled > 0], q[pooled > 0], pooled[pooled > 0]
    if len(pooled) < 2:
        return 0.0
    square = float(((p - q) ** 2 / pooled).sum() / (1 / n + 1 / m))
    return float(norm.isf(max(chi2.sf(square, len(pooled) - 1), LEAST_P) / 2))
