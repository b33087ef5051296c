"""Pareto k: the shape of a generalised Pareto distribution fitted to the tail of importance weights.

Weights whose tail has shape k have finite moments below order 1/k.  Their mean has a known error for k < 1/2, is
useful up to about 0.7, and is unreliable beyond (Vehtari et al., Pareto smoothed importance sampling, 2024).
"""

from __future__ import annotations

import math

import numpy as np

from dvae_core.types import Float

# A tail of fewer values does not determine its shape.
MIN_TAIL = 5


def pareto_limit(n_samples: int) -> float:
    """Return the largest reliable k̂ for n_samples weights: min(0.7, 1 - 1/log10 n)."""
    return min(0.7, 1 - 1 / math.log10(n_samples)) if n_samples > 10 else 0.0


def pareto_k(log_w: Float) -> float:
    """Return k̂ of importance weights, given their logarithms, shape (n,); nan if there are too few.

    The tail is the excess of the largest min(n / 5, 3 √n) weights over the next smaller one.  Equal weights have
    no tail: -inf.
    """
    n = len(log_w)
    n_tail = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    if n_tail < MIN_TAIL:
        return math.nan
    largest = np.sort(np.partition(log_w, n - n_tail - 1)[-n_tail - 1 :])
    weights = np.exp(largest - largest[-1])
    excess = weights[1:] - weights[0]
    # If most values of the tail equal the threshold up to rounding, it has no shape.
    if excess[_quartile(n_tail)] <= np.finfo(float).eps:
        return -math.inf if excess[-1] <= np.finfo(float).eps else math.inf
    k, _ = fit_generalised_pareto(excess)
    # A weak prior at 1/2 with the weight of ten values stabilises short tails (Vehtari et al., App. G).
    return float((n_tail * k + 10 * 0.5) / (n_tail + 10))


def fit_generalised_pareto(values: Float) -> tuple[float, float]:
    """Return shape k and scale σ of p(t) = (1 + k t/σ)^(-1/k - 1) / σ, t > 0.

    This is the estimate of Zhang and Stephens (2009): θ = -k/σ, averaged over a grid with the profile likelihood
    as weights.

    Parameters
    ----------
    values : float64, shape (n,)
        Positive, ascending.
    """
    n = len(values)
    m = 30 + math.isqrt(n)
    scale = 3 * values[_quartile(n)]
    grid = 1 / values[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / scale
    k = np.log1p(-grid[:, None] * values).mean(1)
    log_likelihood = n * (np.log(-grid / k) - k - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    theta = float((weights * grid).sum() / weights.sum())
    shape = float(np.log1p(-theta * values).mean())
    return shape, -shape / theta


def _quartile(n: int) -> int:
    """Return the index of the first quartile of n ascending values."""
    return int(n / 4 + 0.5) - 1
