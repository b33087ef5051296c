"""Other estimates of log Z from the samples of one tempering run, and how correlated those samples are.

Functions over arrays: MBAR over the whole schedule (Shirts and Chodera, 2008), thermodynamic integration, and the
statistical inefficiency of a series.  BAR between neighbours and the stepping stones are in `bridge`.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from dvae_core.errors import ConfigError, NumericalError, OverlapError

from ..machine import Machine
from ..sampling.reference import Path, Reference, binary_states
from .bar import MIN_OVERLAP, std_err_of_mean

__all__ = [
    "Integral",
    "Mbar",
    "batch_means_inefficiency",
    "geometric_bridge",
    "mbar",
    "reduced_potentials",
    "statistical_inefficiency",
    "thermodynamic_integration",
]

Float = NDArray[np.float64]
BLOCK_VALUES = 1 << 18  # float64 values at a time: small enough for a processor's cache
BATCHES = 30


@contextmanager
def quiet_pymbar() -> Iterator[None]:
    """Import and call pymbar within: no banners or advice, and NumPy's error state as it was afterwards."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# --- MBAR ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mbar:
    """Normalisers of all states from all samples together.

    Attributes
    ----------
    f_k : float64, shape (K,)
        log Z_0 - log Z_k, nats.
    std_err : float64, shape (K,)
        Standard errors of f_k for samples that are independent; correlated ones make them too small by the
        square root of the statistical inefficiency.
    overlap : float64, shape (K, K)
        Probability that a sample of state i (row) could as well be one of state j (column); rows add up to 1.
    """

    f_k: Float
    std_err: Float
    overlap: Float


def mbar(u_kn: ArrayLike, N_k: ArrayLike, *, max_per_state: int = 2000) -> Mbar:
    """Return the MBAR estimate through pymbar, guarded.

    pymbar answers with nonsense and a small error, or none, where some states share no mass with the others or a
    potential is infinite, and it may reseed NumPy's global generator; here the first two are refused, and the
    third is prevented.

    Parameters
    ----------
    u_kn : float64, shape (K, N), nats
        Reduced potential of sample n at state k.  Columns are grouped by the state they are samples of, see N_k.
    N_k : int, shape (K,)
        Samples of every state, 1 or more.
    max_per_state : int
        Of more samples, so many are used, evenly spread: time grows with K² N.

    Raises
    ------
    ConfigError
        If the shapes do not fit together, or there are fewer than two states.
    NumericalError
        If a potential is nan or infinite, or the equations could not be solved.
    OverlapError
        If the states fall into parts that share no mass.
    """
    u_kn, N_k = _thinned(*_valid(u_kn, N_k), max_per_state)
    with quiet_pymbar():
        from pymbar import MBAR
        from pymbar.utils import ParameterError

        try:
            # A seed given keeps it from seeding the global generator anew; no random number is drawn.
            solved = MBAR(u_kn, N_k, initial_f_k=_neighbours_guess(u_kn, N_k), rseed=0)
            answer, overlap = solved.compute_free_energy_differences(), solved.compute_overlap()
        except (ArithmeticError, ValueError, ParameterError) as error:
            what = str(error).partition("\n")[0]
            raise NumericalError(f"MBAR could not be solved ({what}); use more rungs or more samples") from error
    estimate = Mbar(answer["Delta_f"][0], answer["dDelta_f"][0], overlap["matrix"])
    # 1 - the second eigenvalue of the overlap matrix: 0 if it falls into blocks.
    if not overlap["scalar"] > MIN_OVERLAP:
        raise OverlapError("some rungs share no mass with the others; use more rungs (a higher --exchange-rate)")
    if not np.isfinite([*estimate.f_k, *estimate.std_err]).all():
        raise NumericalError("MBAR found no finite answer; use more rungs or more samples")
    return estimate


def _valid(u_kn: ArrayLike, N_k: ArrayLike) -> tuple[Float, NDArray[np.int64]]:
    """Return potentials and counts that fit together and are finite."""
    u, n = np.asarray(u_kn, np.float64), np.asarray(N_k, np.int64)
    if u.ndim != 2 or n.shape != u.shape[:1] or len(n) < 2 or n.min() < 1 or n.sum() != u.shape[1]:
        raise ConfigError(
            f"u_kn has shape {u.shape}, N_k is {n.tolist()}; give (K, N), K at least 2, and K counts, 1 or more "
            "each, that add up to N"
        )
    if not np.isfinite(u).all():
        raise NumericalError("MBAR needs reduced potentials that are all finite; some are nan or infinite")
    return u, n


def _thinned(u_kn: Float, N_k: NDArray[np.int64], limit: int) -> tuple[Float, NDArray[np.int64]]:
    """Return at most `limit` evenly spread columns of every state."""
    starts = np.cumsum(N_k) - N_k
    kept = [s + np.linspace(0, n - 1, min(n, limit)).round().astype(int) for s, n in zip(starts, N_k, strict=True)]
    return u_kn[:, np.concatenate(kept)], np.minimum(N_k, limit)


def _neighbours_guess(u_kn: Float, N_k: NDArray[np.int64]) -> Float:
    """Return f_k from the means of both exponential averages between neighbours, to start from."""
    ends = np.cumsum(N_k)
    steps = [0.0]
    for k in range(len(N_k) - 1):
        work = u_kn[k + 1] - u_kn[k]
        forward, reverse = work[ends[k] - N_k[k] : ends[k]], -work[ends[k] : ends[k + 1]]
        steps.append((_log_mean_exp(-reverse) - _log_mean_exp(-forward)) / 2)
    return np.cumsum(steps)


def _log_mean_exp(values: Float) -> float:
    """Return log mean exp."""
    return float(logsumexp(values)) - math.log(values.size)


def reduced_potentials(
    machine: Machine, betas: ArrayLike, v: ArrayLike, reference: Reference | None = None
) -> Float:
    """Return u_kn[k, n] = -log p~_{β_k}(v_n), float64, shape (K + 1, N), nats.

    Parameters
    ----------
    betas : shape (K + 1,)
        Inverse temperatures.
    v : {0, 1}, shape (N, n_kept)
        States of the kept units, for MBAR grouped by rung.
    reference : Reference, optional
        Where the path starts; uniform unless given.

    Raises
    ------
    DataError
        If `v` holds no binary states of the kept units.
    """
    path, levels = Path(machine, reference), np.asarray(betas, np.float64).tolist()
    states = torch.from_numpy(binary_states(path.reduced, v))
    u_kn = np.empty((len(levels), len(states)))
    size = max(1, BLOCK_VALUES // max(1, len(path.c)))
    for start in range(0, len(states), size):
        part = slice(start, start + size)
        block = states[part].double()
        vW = block @ path.W
        for k, beta in enumerate(levels):
            u_kn[k, part] = -path.log_p(block, beta, vW).numpy()
    return u_kn


# --- thermodynamic integration ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Integral:
    """log Z_1 - log Z_0 by thermodynamic integration, nats.

    Attributes
    ----------
    value : float
    std_err : float
        Sampling error, from the spread between replicates; nan for a single one.
    quadrature_error : float
        How much the rule of the next lower order differs from `value`, the steps' differences added up without
        their signs: what the distance between rungs costs, at most about.  Where it is not small, `value` means
        nothing, however small `std_err` is.
    repeats : float64, shape (n_replicates,)
        From the single replicates, to first order; their mean is `value`.
    """

    value: float
    std_err: float
    quadrature_error: float
    repeats: Float


def thermodynamic_integration(forward: ArrayLike, reverse: ArrayLike) -> Integral:
    """Integrate the mean of x = log p~_{k+1}(v) - log p~_k(v) along the geometric path between neighbours.

    On p_t ∝ p~_k^{1-t} p~_{k+1}^t the mean of x is d log Z_t/dt, its variance V the next derivative, and its third
    cumulant κ the one after.  Known at both ends, they are integrated by the two-point Hermite rule of degree 5,
    (E_0 + E_1) / 2 + (V_0 - V_1) / 10 + (κ_0 + κ_1) / 120; the trapezoid is its first term.  Of the cubic rule,
    (E_0 + E_1) / 2 + (V_0 - V_1) / 12, it is the distance that tells the error.  Works of rungs that are further
    apart than some standard deviations, as exchange allows where a mode is about to form, are beyond all three.

    Parameters
    ----------
    forward, reverse : float64, shape (n_samples, n_replicates, K)
        Works of independent replicates, as in `Works`: -x at samples of rung k, and x at samples of rung k + 1.

    Raises
    ------
    ConfigError
        If the shapes do not fit together.
    NumericalError
        If a work is nan or infinite.
    """
    w_f, w_r = _works(forward, reverse)
    cubic, quintic = _hermite(_moments(-w_f), _moments(w_r))
    repeats = quintic.sum(-1)
    error = float(np.abs((quintic - cubic).mean(0)).sum())
    return Integral(float(repeats.mean()), std_err_of_mean(repeats), error, repeats)


def geometric_bridge(forward: ArrayLike, reverse: ArrayLike) -> Integral:
    """Integrate as `thermodynamic_integration` does, but with means reweighted from samples of the nearer end.

    Either half of a step then has a closed form, Δ log Z = log E_k[exp(-w_f / 2)] - log E_{k+1}[exp(-w_r / 2)],
    without a quadrature error: the geometric bridge (Meng and Wong, 1996).  It bears rungs nearly as far apart as
    BAR does, and weighs the samples differently.

    Parameters, errors
        As in `thermodynamic_integration`.
    """
    log_z, repeats = np.zeros(()), np.zeros(())
    for sign, works in zip((1, -1), _works(forward, reverse), strict=True):
        log_mean = logsumexp(-works / 2, axis=(0, 1)) - math.log(works.shape[0] * works.shape[1])
        log_z = log_z + sign * log_mean.sum()
        repeats = repeats + sign * (np.exp(-works / 2 - log_mean).mean(0) - 1).sum(-1)
    repeats = log_z + repeats
    return Integral(float(log_z), std_err_of_mean(repeats), 0.0, repeats)


def _works(forward: ArrayLike, reverse: ArrayLike) -> tuple[Float, Float]:
    """Return works that fit together and are finite."""
    w_f, w_r = np.asarray(forward, np.float64), np.asarray(reverse, np.float64)
    if w_f.ndim != 3 or w_f.shape != w_r.shape or not w_f.size:
        raise ConfigError(
            f"works have shapes {w_f.shape} and {w_r.shape}; give (n_samples, n_replicates, K) twice"
        )
    if not (np.isfinite(w_f).all() and np.isfinite(w_r).all()):
        raise NumericalError("integration needs works that are all finite; some are nan or infinite")
    return w_f, w_r


Moments = tuple[Float, Float, Float]


def _moments(x: Float) -> Moments:
    """Return mean, variance and third cumulant of x (n_samples, n_replicates, K) per replicate, (n_replicates, K).

    They are about the mean of all replicates, and linear in the samples to first order: a replicate that is stuck
    does not look sharp, and the mean over replicates is the cumulant of all samples.
    """
    centred = x - x.mean((0, 1))
    squares = centred**2
    third = squares * centred - 3 * squares.mean((0, 1)) * centred
    return x.mean(0), squares.mean(0), third.mean(0)


def _hermite(start: Moments, end: Moments) -> tuple[Float, Float]:
    """Return integrals over [0, 1] of a function with these values and derivatives, by degrees 3 and 5."""
    mean, variances = (start[0] + end[0]) / 2, start[1] - end[1]
    return mean + variances / 12, mean + variances / 10 + (start[2] + end[2]) / 120


# --- correlation --------------------------------------------------------------------------------------------


def statistical_inefficiency(series: ArrayLike) -> float:
    """Return how many consecutive values are worth one independent value, 1 or more, through pymbar, guarded.

    1 + 2 Σ_t (1 - t/n) C(t), cut where the autocorrelation first turns negative (Chodera et al., 2007).

    Parameters
    ----------
    series : shape (n,) or (n, n_chains)
        Values in time, of one chain or of several of the same distribution: chains that stay apart count as
        correlated.

    Returns
    -------
    float
        nan where all values are the same: they do not tell.

    Raises
    ------
    NumericalError
        If a value is nan or infinite, or there are none.
    """
    values = _series(series)
    if np.ptp(values) == 0:
        return math.nan
    with quiet_pymbar():
        from pymbar import timeseries

        return max(1.0, float(timeseries.statistical_inefficiency_multiple(list(values.T))))


def batch_means_inefficiency(series: ArrayLike, n_batches: int = BATCHES) -> float:
    """Return the statistical inefficiency by batch means: their length times their variance over the values' own.

    Crude and quick, with a relative error of sqrt(2 / n_batches) for one chain, and too low unless batches are
    much longer than the correlation.

    Parameters
    ----------
    series : shape (n,) or (n, n_chains)
        As in `statistical_inefficiency`; batches are taken from every chain.
    n_batches : int
        For every chain, at least 2 and at most n.
    """
    values = _series(series)
    length = len(values) // n_batches
    if n_batches < 2 or length < 1:
        raise ConfigError(f"{len(values)} values cannot make {n_batches} batches; use 2 to {len(values)}")
    values = values[len(values) - length * n_batches :]
    if np.ptp(values) == 0:
        return math.nan
    means = values.reshape(n_batches, length, -1).mean(1)
    return float(length * means.var(ddof=1) / values.var(ddof=1))


def _series(series: ArrayLike) -> Float:
    """Return finite values in time as (n, n_chains)."""
    values = np.asarray(series, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise NumericalError("a series of shape (n,) or (n, n_chains) must be finite and not empty")
    return values
