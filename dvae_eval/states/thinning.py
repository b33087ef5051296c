"""Distance between states of chains, and agreement of chains: autocorrelation times and R-hat."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from dvae_core.rng import numpy_generator
from dvae_core.types import Float

SUBSPACE_STEPS = 20
WINDOW = 5.0  # length of the sum over lags, in autocorrelation times (Sokal, 1997)


def autocorrelation_time(values: Float) -> float:
    """Return the integrated autocorrelation time, 1/2 + Σ_t ρ(t), in steps; 1/2 for independent values.

    Parameters
    ----------
    values : float64, shape (n_steps, n_chains)
        Deviations are from the mean of all chains, so that chains that do not mix count as slow.
    """
    n = len(values)
    centred = values - values.mean()
    variance = float((centred**2).mean())
    if variance <= 0:
        return 0.5
    power = np.abs(np.fft.rfft(centred, 2 * n, axis=0)) ** 2
    covariance = np.fft.irfft(power.mean(1), 2 * n)[:n] / (n - np.arange(n))
    times = np.cumsum(covariance / covariance[0]) - 0.5
    is_wide = np.arange(n) >= WINDOW * times
    return max(0.5, float(times[is_wide.argmax() if is_wide.any() else -1]))


def leading_components(centred: Float, n: int) -> Float:
    """Return approximately the n leading principal components of states, shape (n_states, n_units), as rows.

    Computed by subspace iteration, because a singular value decomposition of thousands of units takes too long.
    """
    n = min(n, *centred.shape)
    basis = numpy_generator(0, "samples", 3).normal(size=(centred.shape[1], n))
    for _ in range(SUBSPACE_STEPS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    # Rotate the basis within the subspace, the largest component first.
    _, _, turned = np.linalg.svd(centred @ basis, full_matrices=False)
    components: Float = turned @ basis.T
    return components


def r_hat(values: Float) -> float:
    """Return the split, rank-normalised R-hat of chains, shape (n_steps, n_chains), for location and for scale.

    It is the larger of two values (Vehtari et al., 2021), for the ranks and for the ranks of distances from the
    median; 1 if all values are equal.  By chance, chains of k autocorrelation times have about sqrt(1 + 4 / k).
    """
    half = len(values) // 2
    halves = np.concatenate((values[:half], values[len(values) - half :]), axis=1)
    return max(_r_hat(_normal_scores(halves)), _r_hat(_normal_scores(np.abs(halves - np.median(halves)))))


def _normal_scores(values: Float) -> Float:
    """Return the normal scores of the ranks of all values; ties share their mean rank."""
    ranks = stats.rankdata(values, axis=None).reshape(values.shape)
    scores: Float = special.ndtri((ranks - 0.375) / (values.size + 0.25))
    return scores


def _r_hat(values: Float) -> float:
    """Return sqrt(((n - 1) W / n + B) / W), with W the variance within chains and B that of their means."""
    n = len(values)
    within, between = float(values.var(0, ddof=1).mean()), float(values.mean(0).var(ddof=1))
    if within <= 0:
        return np.inf if between > 0 else 1.0
    return float(np.sqrt((n - 1) / n + between / within))
