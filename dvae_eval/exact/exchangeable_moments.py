"""Moments of a machine by enumeration of counts: of n exchangeable units, only the number that is on matters.

Here units are exchangeable, of one kind, if they have equal biases and equal couplings to all third units: those
of a Curie-Weiss model are of one kind, those of a planted (Mattis) model of two.  Then

    Z = Σ_c Π_t C(n_t, c_t) exp(β (b'c + Σ_t J_tt c_t (c_t - 1) / 2 + Σ_{t<u} J_tu c_t c_u)) Π_j (1 + exp(β x_j)),

x_j = c_j + (c'W)_j, and all units of a kind have equal means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float, Index

from .groups import exchangeable_units
from .moments import Moments, WeightedSums, couplings_of

MAX_STATES = 1 << 26
ROUNDING = 1e-12  # of the largest bias: sums of many couplings in different orders differ by this much
CHUNK_VALUES = 1 << 18
# Seconds on one core per state and value: a field, its exponential, and its part in products.
VALUE = 25e-9


@dataclass(frozen=True, slots=True)
class ExchangeableMoments:
    """A machine with exchangeable kept units; the others are an independent set, which is summed out.

    Attributes
    ----------
    kind : int, shape (n_units,)
        Index of every kept unit's kind; for a summed-out unit, n_kinds + its index among these.
    sizes : int, shape (n_kinds,)
        Number of units of each kind.
    W : float64, shape (n_kinds, n_summed)
    J : float64, shape (n_kinds, n_kinds)
        Symmetric; the diagonal has the couplings within a kind.
    b, c : float64, shape (n_kinds,), (n_summed,)
    bonds : int, shape (n_bonds, 2)
    """

    kind: Index
    sizes: Index
    W: Float
    J: Float
    b: Float
    c: Float
    bonds: Index

    @classmethod
    def of(cls, bonds: Index, couplings: Float, biases: Float, kept: Index) -> ExchangeableMoments | None:
        """Return the machine with these bonds; None if no units are exchangeable, or there are too many kinds."""
        n = len(biases)
        rows, summed = couplings_of(bonds, couplings, n, kept)
        kinds = _kinds(rows[:, summed], rows[:, kept], biases[kept])
        if kinds is None or len(kinds) == len(kept):
            return None
        first = np.array([members[0] for members in kinds])
        J = rows[np.ix_(first, kept[first])]
        J[np.diag_indices(len(kinds))] = [rows[m[0], kept[m[-1]]] for m in kinds]
        kind = np.empty(n, np.int64)
        kind[summed] = len(kinds) + np.arange(len(summed))
        for t, members in enumerate(kinds):
            kind[kept[members]] = t
        b = np.array([biases[kept[members]].mean() for members in kinds])
        sizes = np.array([len(members) for members in kinds])
        found = cls(kind, sizes, rows[np.ix_(first, summed)], J, b, biases[summed], bonds)
        return found if found.n_states <= MAX_STATES else None

    @property
    def n_states(self) -> int:
        """Number of joint counts."""
        return math.prod((self.sizes + 1).tolist())

    @property
    def seconds(self) -> float:
        """Predicted seconds."""
        n_values = len(self.sizes) + len(self.c)
        return VALUE * self.n_states * n_values * (1 + len(self.sizes) / 16)

    def moments(self, beta: float, report: Report = ignore, threads: int | None = None) -> Moments:
        """Return the moments at β, the same for any number of threads."""
        n_kinds, n_summed = self.W.shape
        n_values = n_kinds + n_summed
        size = max(1, CHUNK_VALUES // n_values)
        total: WeightedSums | None = None
        for start in range(0, self.n_states, size):
            stop = min(self.n_states, start + size)
            sums = self._sums(start, stop, beta)
            total = sums if total is None else total.plus(sums)
            report(Progress("enumeration", stop, self.n_states))
        assert total is not None
        return self._moments(total)

    def _sums(self, start: int, stop: int, beta: float) -> WeightedSums:
        """Return the sums over a range of joint counts; `units` and `pairs` are of counts and summed-out units."""
        strides = np.cumprod([1, *(self.sizes[:-1] + 1)])
        counts = (np.arange(start, stop)[:, None] // strides % (self.sizes + 1)).astype(np.float64)
        log_ways = (gammaln(self.sizes + 1) - gammaln(counts + 1) - gammaln(self.sizes - counts + 1)).sum(1)
        own = counts @ (self.b - np.diag(self.J) / 2) + ((counts @ self.J) * counts).sum(1) / 2
        x = counts @ self.W + self.c
        less = np.exp(-np.abs(beta * x))
        h = np.where(beta * x > 0, 1.0, less) / (1 + less)
        log_p = log_ways + beta * own + (np.maximum(beta * x, 0) + np.log1p(less)).sum(1)
        top = float(log_p.max())
        w = np.exp(log_p - top)
        a, z = own + (x * h).sum(1), np.concatenate((counts, h), 1)
        mean = float(w @ a / w.sum())
        inner = float(w @ ((x**2 * less / (1 + less) ** 2).sum(1) + (a - mean) ** 2))
        return WeightedSums(top, float(w.sum()), mean, inner, w @ z, (counts * w[:, None]).T @ z)

    def _moments(self, sums: WeightedSums) -> Moments:
        """Return the moments of units from sums over all counts."""
        ones, twos = sums.units / sums.weight, sums.pairs / sums.weight
        sizes = np.concatenate((self.sizes, np.ones(len(self.c)))).astype(np.float64)
        n_kinds, within = len(self.sizes), np.maximum(self.sizes * (self.sizes - 1.0), 1)
        pairs = twos / (sizes[:n_kinds, None] * sizes)
        pairs[np.arange(n_kinds), np.arange(n_kinds)] = (np.diag(twos[:, :n_kinds]) - ones[:n_kinds]) / within
        kinds = np.sort(self.kind[self.bonds], axis=1)
        log_z, variance = sums.top + math.log(sums.weight), sums.inner / sums.weight
        return Moments(log_z, sums.mean, variance, (ones / sizes)[self.kind], pairs[kinds[:, 0], kinds[:, 1]])


def _kinds(W: Float, J: Float, b: Float) -> list[list[int]] | None:
    """Return the kept units of each kind; None if there are too many of them."""
    groups = exchangeable_units(W, J)
    if groups is None:
        return None
    tolerance, kinds = ROUNDING * np.abs(b).max(initial=0), []
    for members in groups:
        of_group: list[tuple[int, list[int]]] = []
        for unit, sign in members:
            same = (m for s, m in of_group if s == sign and abs(b[m[0]] - b[unit]) <= tolerance)
            mine = next(same, None)
            if mine is None:
                of_group.append((sign, [unit]))
            else:
                mine.append(unit)
        kinds += [members for _, members in of_group]
    return kinds
