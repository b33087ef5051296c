"""Means of units and pairs in the reads compared with the machine's: p-values, corrected for their number.

The number of reads in which a unit is on, or a pair agrees (spins) or is on together (0 and 1), is binomial.  If
the machine's mean has an error, the test uses a smaller number of reads, for which the variance of the difference
is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc
from scipy.stats import norm

from dvae_core.types import Float, Index

from .law import LawPoint
from .reads import Reads

BLOCK = 1 << 22
LEAST_P = 1e-300


@dataclass(frozen=True, slots=True)
class Deviations:
    """Shares of the reads and of the machine, and p, for every unit followed by every bond.

    Attributes
    ----------
    bonds : int, shape (n_bonds, 2)
    seen, expected : float64, shape (n_units + n_bonds,)
        Shares of reads in which a unit is on, or a pair as described above.
    p, adjusted : float64, shape (n_units + n_bonds,)
        Two-sided p, and p after Holm's correction for all of them.
    is_spin : bool
    """

    bonds: Index
    seen: Float
    expected: Float
    p: Float
    adjusted: Float
    is_spin: bool

    @property
    def z(self) -> Float:
        """Deviations as standard normal deviates of equal p-value."""
        size: Float = norm.isf(np.maximum(self.p, LEAST_P) / 2)
        return np.copysign(size, self.seen - self.expected)

    @property
    def least(self) -> float:
        """The least corrected p; 1 if there are no units."""
        return float(self.adjusted.min(initial=1.0))

    def worst(self, n: int, names: Sequence[str], numbers: Index) -> list[dict[str, Any]]:
        """Return the n deviations of least p, with means in the units' own values and `numbers` of the file."""
        n_units, z = len(self.p) - len(self.bonds), self.z
        values = [2 * share - 1 if self.is_spin else share for share in (self.seen, self.expected)]
        found = []
        for k in np.argsort(self.p, kind="stable")[:n].tolist():
            own = [k] if k < n_units else self.bonds[k - n_units].tolist()
            units = [int(numbers[unit]) for unit in own]
            found.append(
                {
                    "units": units,
                    "names": [names[unit] for unit in units],
                    "samples": float(values[0][k]),
                    "machine": float(values[1][k]),
                    "z": float(z[k]),
                    "p_holm": float(self.adjusted[k]),
                }
            )
        return found


def deviations_of(reads: Reads, point: LawPoint, bonds: Index, is_spin: bool) -> Deviations:
    """Return the deviations of the reads' units and bonds from p_β; `bonds` are those of `point.pairs`."""
    i, j = bonds.T
    m, error = point.units, np.broadcast_to(point.units_std_err, point.units.shape)
    pairs, pair_error = point.pairs, np.broadcast_to(point.pairs_std_err, point.pairs.shape)
    if is_spin:
        pairs = 1 - m[i] - m[j] + 2 * pairs
        pair_error = np.sqrt(4 * pair_error**2 + error[i] ** 2 + error[j] ** 2)
    expected = np.clip(np.concatenate((m, pairs)), 0.0, 1.0)  # against rounding
    seen = np.concatenate((reads.mean(reads.x), *_shares(reads, bonds, is_spin)))
    p = p_values(seen, expected, np.concatenate((error, pair_error)), reads.n_effective)
    return Deviations(bonds, seen, expected, p, holm(p), is_spin)


def _shares(reads: Reads, bonds: Index, is_spin: bool) -> Iterator[Float]:
    """Yield the shares of reads in which pairs agree, or are on together."""
    size = max(1, BLOCK // len(reads.w))
    for start in range(0, len(bonds), size):
        i, j = bonds[start : start + size].T
        a, b = reads.x[:, i], reads.x[:, j]
        yield reads.mean(a == b if is_spin else a & b)


def p_values(seen: Float, expected: Float, errors: Float, n: float) -> Float:
    """Return two-sided p of observed shares among n reads, under binomial distributions.

    Both tails include the observed share, so that p is too large rather than too small.
    """
    least = np.minimum(errors, 0.5)  # the mean of a frozen unit is known up to its error
    expected = np.clip(expected, least, 1 - least)
    variance = expected * (1 - expected)
    # Number of reads for which the variance is that of the difference.
    with np.errstate(divide="ignore", invalid="ignore"):
        few = np.where(variance > 0, variance / (variance / n + errors**2), n)
    few = np.maximum(few, 1e-9)
    k = seen * few
    below = np.where(k >= few, 1.0, betainc(few - k, k + 1, 1 - expected))
    above = np.where(k <= 0, 1.0, betainc(k, few - k + 1, expected))
    return np.asarray(np.clip(2 * np.minimum(below, above), 0.0, 1.0))


def holm(p: Float) -> Float:
    """Return p after Holm's correction: with probability at least 1 - α, none falls below α by chance."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    factors = len(p) - np.arange(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted
