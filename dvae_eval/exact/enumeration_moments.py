"""Moments of a machine by enumeration: all states of the kept units, the others summed out, in one pass.

With an independent set h summed out, A(z) = Σ_(i,j) J_ij z_i z_j + b'z has, given the kept units v, the mean
a(v) = b'v + v'Jv / 2 + Σ_j x_j σ(β x_j) and the variance Σ_j x_j^2 σ (1 - σ), with x_j the field of h_j.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float, Index

from ..runtime.compute import available_cores
from .moments import Moments, WeightedSums, couplings_of

# Up to this number of values, plain NumPy finishes before a compiled kernel is loaded.
PLAIN_VALUES = 1 << 17
CHUNK, TOGETHER = 1 << 12, 64  # states per partial sum, and the largest number of partial sums that wait
# Seconds on one core per field with its exponential, per product, and per state.
FIELD, PRODUCT, STATE, CORES = 12e-9, 0.4e-9, 50e-9, 2
MAX_KEPT = 32


@dataclass(frozen=True, slots=True)
class EnumeratedMoments:
    """A machine with its units kept, except for an independent set that is summed out.

    Attributes
    ----------
    kept, summed : int arrays
        Units; together, all of them once.
    W : float64, shape (n_kept, n_summed)
    J : float64, shape (n_kept, n_kept)
        Symmetric.
    biases : float64, shape (n_units,)
    bonds : int, shape (n_bonds, 2)
    """

    kept: Index
    summed: Index
    W: Float
    J: Float
    biases: Float
    bonds: Index

    @classmethod
    def of(cls, bonds: Index, couplings: Float, biases: Float, kept: Index) -> EnumeratedMoments:
        """Return the machine with these bonds; no two units outside of `kept` may be coupled."""
        rows, summed = couplings_of(bonds, couplings, len(biases), kept)
        W, J = (np.ascontiguousarray(rows[:, units]) for units in (summed, kept))
        return cls(kept, summed, W, J, biases, bonds)

    @property
    def seconds(self) -> float:
        """Predicted seconds on two cores."""
        n_kept, n_summed = self.W.shape
        n_units = n_kept + n_summed
        a_state = STATE + n_summed * FIELD + PRODUCT * n_kept * n_units
        return float(a_state * 2.0**n_kept / CORES)

    def moments(self, beta: float, report: Report = ignore, threads: int | None = None) -> Moments:
        """Return the moments at β, bit for bit the same for any number of threads."""
        n_states = 1 << len(self.kept)
        if n_states * len(self.biases) <= PLAIN_VALUES:
            return self._moments(self._sums(0, n_states, beta))
        starts, total = range(0, n_states, CHUNK), None
        with ThreadPoolExecutor(threads or available_cores()) as pool:
            for first in range(0, len(starts), TOGETHER):
                some = starts[first : first + TOGETHER]
                for sums in pool.map(lambda start: self._compiled_sums(start, start + CHUNK, beta), some):
                    total = sums if total is None else total.plus(sums)
                report(Progress("enumeration", min(n_states, some[-1] + CHUNK), n_states))
        assert total is not None
        return self._moments(total)

    def _compiled_sums(self, start: int, stop: int, beta: float) -> WeightedSums:
        """Return the sums over a range of state numbers."""
        from .moments_kernel import add_states  # imported here because numba loads slowly

        n_kept, n_units = len(self.kept), len(self.biases)
        sums, room = np.array([-math.inf, 0.0, 0.0, 0.0]), np.empty(n_units)
        units, pairs = np.zeros(n_units), np.zeros((n_kept, n_units))
        order = np.concatenate((self.kept, self.summed))
        b, c = self.biases[self.kept], self.biases[self.summed]
        stop = min(stop, 1 << n_kept)
        add_states(start, stop, beta, self.W, self.J, b, c, sums, room, units, pairs)
        in_order = np.empty_like(units), np.empty_like(pairs)
        in_order[0][order], in_order[1][:, order] = units, pairs
        top, weight, mean, inner = sums.tolist()
        return WeightedSums(top, weight, mean, inner, *in_order)

    def _sums(self, start: int, stop: int, beta: float) -> WeightedSums:
        """Return the sums over a range of state numbers."""
        v = (np.arange(start, stop)[:, None] >> np.arange(len(self.kept)) & 1).astype(np.float64)
        own = v @ self.biases[self.kept] + ((v @ self.J) * v).sum(1) / 2
        x = v @ self.W + self.biases[self.summed]
        less = np.exp(-np.abs(beta * x))
        h = np.where(beta * x > 0, 1.0, less) / (1 + less)
        log_p = beta * own + (np.maximum(beta * x, 0) + np.log1p(less)).sum(1)
        top = float(log_p.max())
        w = np.exp(log_p - top)
        a = own + (x * h).sum(1)
        variance = (x**2 * less / (1 + less) ** 2).sum(1)
        z = np.empty((len(v), len(self.biases)))
        z[:, self.kept], z[:, self.summed] = v, h
        centre = float(w @ a / w.sum())
        inner = float(w @ (variance + (a - centre) ** 2))
        return WeightedSums(top, float(w.sum()), centre, inner, w @ z, (v * w[:, None]).T @ z)

    def _moments(self, sums: WeightedSums) -> Moments:
        """Return the moments from the sums over all states."""
        place = np.full(len(self.biases), -1)
        place[self.kept] = np.arange(len(self.kept))
        i, j = self.bonds.T
        kept, other = np.where(place[i] >= 0, i, j), np.where(place[i] >= 0, j, i)
        pairs = sums.pairs[place[kept], other] / sums.weight
        log_z = sums.top + math.log(sums.weight)
        return Moments(log_z, sums.mean, sums.inner / sums.weight, sums.units / sums.weight, pairs)
