"""Averages over the states of a tempered run, for every replicate and every requested β.

With the units h summed out, the averages use mean and variance of the energy given v, and the probabilities of the
summed-out units, instead of draws of h (Rao-Blackwell).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float

from ..machine import Reduced

Bits = NDArray[np.uint8]
# Largest number of states per replicate processed at once, and of values in them.
TOGETHER, VALUES = 16, 1 << 24
# Machines with a larger share of coupled pairs multiply matrices; others process bond by bond.
DENSE = 0.02
# Number of arrays over bonds that the jackknife needs, besides the sums.
AT_THE_END = 6


def averages_bytes(reduced: Reduced, n_betas: int, n_replicates: int, correlations: bool) -> int:
    """Return the approximate bytes of the sums and of the results at one β."""
    n_bonds = len(reduced.bonds()[0]) if correlations else 0
    return 8 * n_replicates * ((n_betas + 1) * len(reduced.biases) + (n_betas + AT_THE_END) * n_bonds)


class Averages:
    """Sums over recorded states.

    Parameters
    ----------
    reduced : Reduced
        The machine of p_β; averages are of A, minus its energy.
    betas : float64, shape (n_betas,)
    n_replicates : int
    correlations : bool
        Whether to average products of coupled units, too.
    """

    def __init__(self, reduced: Reduced, betas: Float, n_replicates: int, correlations: bool) -> None:
        self.reduced, self.betas, self.n_replicates = reduced, betas, n_replicates
        self.bonds = reduced.bonds()[0] if correlations else np.empty((0, 2), np.intp)
        n_kept, n_units, n_betas = len(reduced.b), len(reduced.biases), len(betas)
        self.is_dense = len(self.bonds) > DENSE * n_kept * n_units
        self.together = max(1, min(TOGETHER, VALUES // (n_replicates * max(1, n_units))))
        self.n_seen = 0
        # Sums of the mean of A given v, of its square, and of the variance of A given v.
        self.energy = np.zeros((3, n_betas, n_replicates))
        self.units = np.zeros((n_betas, n_replicates, n_units))
        self.pairs = np.zeros((n_betas, n_replicates, len(self.bonds)))
        self.waiting: list[Bits] = []

    def add(self, v: Bits) -> None:
        """Add states of the kept units, shape (n_replicates, n_betas, n_kept)."""
        self.waiting.append(v)
        self.n_seen += 1
        if len(self.waiting) == self.together:
            self.work_off()

    def work_off(self) -> None:
        """Add the waiting states."""
        if not self.waiting:
            return
        states = np.stack(self.waiting, 1)  # (n_replicates, n_waiting, n_betas, n_kept)
        self.waiting = []
        for k, beta in enumerate(self.betas):
            self._add(k, float(beta), states[:, :, k].astype(np.float64))

    def _add(self, k: int, beta: float, v: Float) -> None:
        """Add states v (n_replicates, n_waiting, n_kept) at the k-th β."""
        m, shape = self.reduced, v.shape[:2]
        flat = v.reshape(-1, v.shape[-1])
        x = flat @ m.W + m.c
        less = np.exp(-np.abs(beta * x))
        h = np.where(beta * x > 0, 1.0, less) / (1 + less)
        a = flat @ m.b + (x * h).sum(1)
        if m.J is not None:
            a += ((flat @ m.J) * flat).sum(1) / 2
        variance = (x**2 * less / (1 + less) ** 2).sum(1)
        self.energy[:, k] += [values.reshape(shape).sum(1) for values in (a, a**2, variance)]
        z = np.concatenate((v, h.reshape(*shape, -1)), -1)
        self.units[k] += z.sum(1)
        if len(self.bonds):
            self.pairs[k] += self._products(v, z)

    def _products(self, v: Float, z: Float) -> Float:
        """Return Σ z_i z_j over states for all bonds (their first unit is kept), shape (n_replicates, n_bonds)."""
        i, j = self.bonds.T
        if self.is_dense:
            return np.array([(mine.T @ all_units)[i, j] for mine, all_units in zip(v, z, strict=True)])
        total = np.zeros((len(z), len(self.bonds)))
        for k in range(z.shape[1]):
            total += z[:, k, i] * z[:, k, j]
        return total

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue, as plain arrays."""
        shape = (self.n_replicates, len(self.betas), len(self.reduced.b))
        return {
            "n_seen": np.array(self.n_seen),
            "energy": self.energy,
            "units": self.units,
            "pairs": self.pairs,
            "waiting": np.array(self.waiting, np.uint8).reshape(-1, *shape),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state that `state_dict` returned."""
        self.n_seen = int(state["n_seen"])
        self.energy, self.units, self.pairs = (state[name].copy() for name in ("energy", "units", "pairs"))
        self.waiting = list(state["waiting"])
