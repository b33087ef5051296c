"""Bounds of the entropy of the distribution of reads, and thereby of KL(r || p_β).

H(r) is at least the entropy of the reads' frequencies, on average over sets of reads.  It is at most the
cross-entropy with any distribution; here that of a tree over the machine's bonds (Chow and Liu, 1968), fitted to
the other reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from dvae_core.rng import numpy_generator
from dvae_core.types import Float, Index

from .law import LawPoint
from .reads import Reads

FOLDS, NORMAL = 4, 1.96
BLOCK = 1 << 22  # values of bonds processed at once


@dataclass(frozen=True, slots=True)
class Entropy:
    """Bounds of the entropy of reads.

    Attributes
    ----------
    reads : Reads
    log_frequency : float64, shape (n_rows,)
        Log of the share of reads that have the same state.
    log_q : float64, shape (n_rows,)
        Log-probability of a read under the trees that were fitted without it.
    """

    reads: Reads
    log_frequency: Float
    log_q: Float

    @property
    def ci95(self) -> list[float]:
        """Lower and upper bound, nats, each extended outwards by its 95% error."""
        return self._between(-self.log_frequency, -self.log_q, 0.0)

    def kl(self, point: LawPoint) -> list[float]:
        """Return bounds of KL(r || p_β) = -H(r) - β <A>_r + log Z(β), nats, widened by their 95% errors."""
        energies = point.log_z - point.beta * self.reads.a
        low, high = self._between(self.log_q + energies, self.log_frequency + energies, point.log_z_std_err)
        return [max(0.0, low), high]

    def _between(self, low: Float, high: Float, error: float) -> list[float]:
        bounds = []
        for sign, values in ((-1, low), (1, high)):
            margin = NORMAL * math.hypot(self.reads.std_err(values), error)
            bounds.append(float(self.reads.mean(values)) + sign * margin)
        return bounds


def entropy_of(reads: Reads, bonds: Index, seed: int) -> Entropy:
    """Return the bounds of the entropy of reads.

    Parameters
    ----------
    reads : Reads
    bonds : int, shape (n_bonds, 2)
        Pairs that the tree may join.
    seed : int
        Determines which reads each tree is fitted to.
    """
    number, weights = reads.distinct()
    folds = _folds(reads.w, seed)
    log_q = np.zeros(len(reads.w))
    for held_out in folds:
        values = _log_q_of_tree(reads.x, reads.w - held_out, bonds)
        log_q += held_out / reads.w * values
    return Entropy(reads, np.log(weights / weights.sum())[number], log_q)


def _folds(w: Float, seed: int) -> Float:
    """Return the weight of every read in each fold, shape (FOLDS, n_rows); integer weights are split at random."""
    rng = numpy_generator(seed, "samples", 4)
    if bool((w == np.round(w)).all()) and w.max() < 2**62:
        return rng.multinomial(w.astype(np.int64), np.full(FOLDS, 1 / FOLDS)).T.astype(np.float64)
    fold = rng.integers(FOLDS, size=len(w))
    return np.where(np.arange(FOLDS)[:, None] == fold, w, 0.0)


def _log_q_of_tree(x: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], w: Float, bonds: Index) -> Float:
    """Return the log-probabilities of states under a tree fitted with weights w.

    Half a read is added to either value of a unit, a quarter to each of the four values of a pair.  Bonds whose
    mutual information is explained by chance are left out, so that independent units are possible.
    """
    n = w.sum() + 1
    p = (w @ x + 0.5) / n
    both = (_together(x, w, bonds) + 0.25) / n
    i, j = bonds.T.astype(np.int32)  # the indices that the spanning tree takes in scipy 1.13
    joint = np.array([[1 - p[i] - p[j] + both, p[j] - both], [p[i] - both, both]])
    alone = np.array([1 - p, p])
    gain = np.log(joint) - np.log(alone[:, None, i] * alone[None, :, j])
    information = (joint * gain).sum((0, 1))
    chosen = np.flatnonzero(information > math.log(n) / (2 * n))
    shape = (len(p), len(p))
    graph = csr_array((-information[chosen], (i[chosen], j[chosen])), shape=shape)
    place = csr_array((chosen + 1, (i[chosen], j[chosen])), shape=shape)
    rows, columns = minimum_spanning_tree(graph).nonzero()
    log_q = x @ (np.log(p) - np.log(1 - p)) + np.log(1 - p).sum()
    for bond in (np.asarray(place[rows, columns]).ravel() - 1).astype(np.intp) if len(rows) else ():
        log_q += gain[x[:, i[bond]], x[:, j[bond]], bond]
    return np.asarray(log_q)


def _together(x: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], w: Float, bonds: Index) -> Float:
    """Return Σ w x_i x_j for all bonds."""
    size = max(1, BLOCK // max(1, len(x)))
    parts = [np.empty(0)]
    for start in range(0, len(bonds), size):
        i, j = bonds[start : start + size].T
        parts.append(w @ (x[:, i] & x[:, j]))
    return np.concatenate(parts)
