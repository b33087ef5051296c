"""Strict lower bounds of log Z: from mean field in one basin, from many basins, and from known states.

*One basin.*  Let q be a product distribution over **all** units, the kept ones with means m, the summed-out ones
with means σ(c + W'm), which are optimal given m.  Gibbs' inequality says

    log Z >= B(m) = b'm + m'Jm / 2 + H(m) + Σ_j log(1 + exp(c_j + (W'm)_j)).

It holds for an RBM with either side kept, and for a general machine: J has a zero diagonal, so the mean of v'Jv
under q is m'Jm.

*Many basins.*  With q = Σ_k w_k q_k, the same inequality is

    log Z >= Σ_k w_k (B_k - log w_k) - Σ_k w_k E_{q_k} log(1 + Σ_{j≠k} w_j q_j / (w_k q_k)).

Now log(1 + Σ_j r_j) <= Σ_j log(1 + r_j) <= C Σ_j √r_j with C the maximum of log(1 + r) / √r, and the mean of
√(q_j / q_k) under q_k is the Bhattacharyya coefficient of two products,

    BC_kj = Σ_z √(q_k(z) q_j(z)) = Π_i (√(m_ki m_ji) + √((1 - m_ki) (1 - m_ji))),   i over all units, both sides,

so that, for any means and weights,

    log Z >= Σ_k w_k (B_k - log w_k) - C Σ_{k≠j} √(w_k w_j) BC_kj.

With w ∝ exp(B), the first sum is log Σ_k exp(B_k).  Without the second it would not be a bound: overlapping basins
would count twice.

*Known states.*  A partial sum of positive terms: log Z >= log Σ p~(v) over distinct v, the other units summed out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit, logsumexp

from dvae_core.types import Float

from ..machine import Reduced

# At least the maximum of log(1 + r) / √r, which is 0.804743 at r = 3.92.
C = 0.80475
# Basins lighter than all others together by this number of nats are left out: each has at most 6e-6 of the mass.
LIGHT = 12.0
HALF_UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A strict lower bound of log Z.

    Attributes
    ----------
    value : float
        The bound in nats, reduced by the possible rounding of float64.
    means : float64, shape (n_basins, n_kept)
        Means of the kept units in the basins that it sums over, the heaviest first.
    """

    value: float
    means: Float


def mean_field_bounds(reduced: Reduced, W: Any, v: Float) -> Float:
    """Return B(m) for means v (n, n_kept) of the kept units, shape (n,); W is `reduced.W`, possibly sparse."""
    energy = v @ reduced.b
    if reduced.J is not None:
        energy += (v @ reduced.J * v).sum(1) / 2
    bounds: Float = energy + (entr(v) + entr(1 - v)).sum(1) + np.logaddexp(0, v @ W + reduced.c).sum(1)
    return bounds


def mixture_bound(bounds: Float, log_w: Float, overlap: Float) -> float:
    """Return the bound of log Z by a mixture of products, nats, without allowance for rounding.

    Parameters
    ----------
    bounds : float64, shape (n,)
        B_k of every product.
    log_w : float64, shape (n,)
        Logarithms of weights that sum to 1; any such weights give a bound.
    overlap : float64, shape (n, n)
        Bhattacharyya coefficients of the products; the diagonal is ignored.
    """
    w = np.exp(log_w)
    root = np.sqrt(w)
    correction = root @ overlap @ root - (w * overlap.diagonal()).sum()
    return float((w * (bounds - log_w)).sum() - C * correction)


def overlaps(roots: Float, others: Float) -> Float:
    """Return the Bhattacharyya coefficients of a product, (2, n_units) from `_roots`, with n others, (n,)."""
    coefficients: Float = (roots * others).sum(1).prod(1)
    return coefficients


def sum_over_basins(reduced: Reduced, W: Any, v: Float, bounds: Float, most: int) -> LowerBound:
    """Return the bound from those basins that raise it, added greedily, the best first.

    Parameters
    ----------
    reduced : Reduced
    W : array or sparse array
        Couplings of `reduced`, possibly sparse.
    v : float64, shape (n, n_kept)
        Means of the kept units; any means give a bound.
    bounds : float64, shape (n,)
        Their `mean_field_bounds`, sorted, the largest first.
    most : int
        Largest number of basins to sum over.
    """
    v, bounds = v[bounds > bounds[0] - LIGHT], bounds[bounds > bounds[0] - LIGHT]
    n = 2 * len(reduced.b) + len(reduced.c)
    roots, overlap = np.empty((0, 2, len(reduced.biases))), np.empty((0, 0))
    chosen: list[int] = []
    value = -np.inf
    for i, bound in enumerate(bounds):
        if len(chosen) == most or bound < value - LIGHT:
            break
        own = _roots(reduced, W, v[i])
        row = overlaps(own, roots) * (1 + 4 * n * HALF_UNIT)
        together = np.block([[overlap, row[:, None]], [row[None], np.zeros((1, 1))]])
        B = bounds[[*chosen, i]]
        if (with_it := mixture_bound(B, B - logsumexp(B), together)) > value:
            value, overlap, roots = with_it, together, np.concatenate((roots, own[None]))
            chosen.append(i)
    rounding = float(_rounding(reduced, W, v[chosen], n + 32).max()) + (len(chosen) + 32) * HALF_UNIT * abs(value)
    return LowerBound(value - rounding, v[chosen])


def _roots(reduced: Reduced, W: Any, v: Float) -> Float:
    """Return √m and √(1 - m) of all units of a product with means v of the kept ones, shape (2, n_units)."""
    field = reduced.c + v @ W
    roots: Float = np.sqrt(np.stack([np.concatenate((v, expit(field))), np.concatenate((1 - v, expit(-field)))]))
    return roots


def _rounding(reduced: Reduced, W: Any, v: Float, n: int) -> Float:
    """Return the possible rounding error of `mean_field_bounds`: the size of all terms times n half units."""
    size: Float = v @ np.abs(reduced.b) + (v @ abs(W)).sum(1) + np.abs(reduced.c).sum() + 2 * len(reduced.biases)
    if reduced.J is not None:
        size = size + (v @ abs(reduced.J) * v).sum(1) / 2
    return size * (n * HALF_UNIT)


def weight_of_states(reduced: Reduced, v: NDArray[np.integer[Any]]) -> float:
    """Return log Σ p~(v) over the distinct ones of states v (n, n_kept) of the kept units, nats, rounded down.

    p~ is the machine's, with the other units summed out.
    """
    states = np.unique(np.packbits(v.astype(bool), axis=1), axis=0)
    distinct = np.unpackbits(states, axis=1, count=v.shape[1]).astype(np.float64)
    log_p = mean_field_bounds(reduced, reduced.W, distinct)  # for means of 0 and 1 the bound is log p~ itself
    n = 2 * len(reduced.b) + len(reduced.c) + len(distinct) + 32
    return float(logsumexp(log_p)) - float(_rounding(reduced, reduced.W, distinct, n).max())
