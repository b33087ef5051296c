"""BAR and MBAR by pymbar, guarded: pymbar returns numbers for some invalid input, and changes global state."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logsumexp

from dvae_core.errors import ConfigError, NumericalError, OverlapError
from dvae_core.types import Float

from ..numbers import log_mean_exp

# Less overlap than this cannot be distinguished from none, and no estimate means anything.
MIN_OVERLAP = 1e-8


@contextmanager
def quiet_pymbar() -> Iterator[None]:
    """Import and call pymbar in this context: no banners or advice, and NumPy's error state restored."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def bar(w_f: Float, w_r: Float) -> float:
    """Return Δf = -log(Z_1 / Z_0) in nats by Bennett's acceptance ratio, through pymbar, guarded.

    pymbar returns 0 ± 0 if a work is nan or infinite, and a small or nan error without overlap; both raise
    here.  It resets NumPy's error state, which is restored.  It fails on works that are all equal and on some with
    little overlap; the root is then found here.

    Parameters
    ----------
    w_f : float64, shape (n_f,)
        u_1(x) - u_0(x) for samples of state 0.
    w_r : float64, shape (n_r,)
        u_0(x) - u_1(x) for samples of state 1.

    Raises
    ------
    NumericalError
        If a work is nan or infinite, or there are none.
    OverlapError
        If the two states share no mass.
    """
    if not (w_f.size and w_r.size and np.isfinite(w_f).all() and np.isfinite(w_r).all()):
        raise NumericalError(
            "BAR needs finite works in both directions; some are nan, infinite or missing; check the machine for "
            "extreme couplings"
        )
    guess = 0.5 * (log_mean_exp(-w_r) - log_mean_exp(-w_f))
    with quiet_pymbar():
        from pymbar import other_estimators, utils

        try:
            answer = other_estimators.bar(w_f, w_r, DeltaF=guess, compute_uncertainty=False)
            delta_f = float(answer["Delta_f"])
        except (utils.BoundsError, utils.ConvergenceError):
            delta_f = _root(w_f, w_r)
    if not math.isfinite(delta_f) or _overlap(w_f, w_r, delta_f) < MIN_OVERLAP:
        raise OverlapError(
            "two neighbouring distributions share no mass; use more rungs (a higher --exchange-rate)"
        )
    return delta_f


def _root(w_f: Float, w_r: Float) -> float:
    """Return the root C of Σ_f σ(C - M - w_f) = Σ_r σ(M - C - w_r), M = log n_f/n_r, which increases with C."""
    m = math.log(w_f.size / w_r.size)

    def difference(c: float) -> float:
        return float(logsumexp(log_expit(c - m - w_f)) - logsumexp(log_expit(m - c - w_r)))

    ends = [w_f.min() + m, w_f.max() + m, m - w_r.min(), m - w_r.max()]
    # Beyond all works by more than log n, one side dominates.
    margin = 10 + math.log(w_f.size) + math.log(w_r.size)
    return float(brentq(difference, min(ends) - margin, max(ends) + margin))


def _overlap(w_f: Float, w_r: Float, delta_f: float) -> float:
    """Return 2 E_f[σ(1 - σ)] + 2 E_r[σ(1 - σ)]: 1 for equal states, 0 for disjoint ones."""
    forward, reverse = expit(delta_f - w_f), expit(-delta_f - w_r)
    return float(2 * (forward * (1 - forward)).mean() + 2 * (reverse * (1 - reverse)).mean())


@dataclass(frozen=True, slots=True)
class Mbar:
    """Normalisers of all states, from all samples together.

    Attributes
    ----------
    f_k : float64, shape (K,)
        log Z_0 - log Z_k, nats.
    std_err : float64, shape (K,)
        Standard errors of f_k for independent samples; for correlated ones they are too small by the square root
        of the statistical inefficiency.
    overlap : float64, shape (K, K)
        Probability that a sample of state i (row) could as well be one of state j (column); rows sum to 1.
    """

    f_k: Float
    std_err: Float
    overlap: Float


def mbar(u_kn: ArrayLike, N_k: ArrayLike, *, max_per_state: int = 2000) -> Mbar:
    """Return the MBAR estimate through pymbar, guarded.

    Where some states share no mass with the others, or a potential is infinite, pymbar fails or returns nonsense
    with a small error; both raise here.  It may also reseed NumPy's global generator, which is prevented.

    Parameters
    ----------
    u_kn : float64, shape (K, N), nats
        Reduced potential of sample n at state k.  Columns are grouped by the state that they were sampled from.
    N_k : int, shape (K,)
        Number of samples of every state, at least 1.
    max_per_state : int
        Largest number of samples used per state, evenly spaced: time grows with K² N.

    Raises
    ------
    ConfigError
        If the shapes do not match, or there are fewer than two states.
    NumericalError
        If a potential is nan or infinite, or the equations cannot be solved.
    OverlapError
        If the states form groups that share no mass.
    """
    u_kn, N_k = _thinned(*_valid(u_kn, N_k), max_per_state)
    with quiet_pymbar():
        from pymbar import MBAR
        from pymbar.utils import ParameterError

        try:
            # A seed keeps pymbar from reseeding the global generator; it draws no random number.
            solved = MBAR(u_kn, N_k, initial_f_k=_neighbours_guess(u_kn, N_k), rseed=0)
            answer, overlap = solved.compute_free_energy_differences(), solved.compute_overlap()
        except (ArithmeticError, ValueError, ParameterError) as error:
            what = str(error).partition("\n")[0]
            raise NumericalError(f"MBAR cannot be solved ({what}); use more rungs or more samples") from error
    estimate = Mbar(answer["Delta_f"][0], answer["dDelta_f"][0], overlap["matrix"])
    # 1 minus the second eigenvalue of the overlap matrix: 0 if the matrix has blocks.
    if not overlap["scalar"] > MIN_OVERLAP:
        raise OverlapError("some rungs share no mass with the others; use more rungs (a higher --exchange-rate)")
    if not np.isfinite([*estimate.f_k, *estimate.std_err]).all():
        raise NumericalError("MBAR found no finite solution; use more rungs or more samples")
    return estimate


def _valid(u_kn: ArrayLike, N_k: ArrayLike) -> tuple[Float, NDArray[np.int64]]:
    """Return potentials and counts as arrays; raise unless their shapes match and all values are finite."""
    u, n = np.asarray(u_kn, np.float64), np.asarray(N_k, np.int64)
    if u.ndim != 2 or n.shape != u.shape[:1] or len(n) < 2 or n.min() < 1 or n.sum() != u.shape[1]:
        raise ConfigError(
            f"u_kn has shape {u.shape}, N_k is {n.tolist()}; use shape (K, N) with K at least 2, and K counts of "
            "at least 1 that sum to N"
        )
    if not np.isfinite(u).all():
        raise NumericalError(
            "MBAR needs finite reduced potentials; some are nan or infinite; check the machine for extreme "
            "couplings"
        )
    return u, n


def _thinned(u_kn: Float, N_k: NDArray[np.int64], limit: int) -> tuple[Float, NDArray[np.int64]]:
    """Return at most `limit` evenly spread columns of every state."""
    starts = np.cumsum(N_k) - N_k
    kept = [s + np.linspace(0, n - 1, min(n, limit)).round().astype(int) for s, n in zip(starts, N_k, strict=True)]
    return u_kn[:, np.concatenate(kept)], np.minimum(N_k, limit)


def _neighbours_guess(u_kn: Float, N_k: NDArray[np.int64]) -> Float:
    """Return initial f_k from the means of both exponential averages between neighbours."""
    ends = np.cumsum(N_k)
    steps = [0.0]
    for k in range(len(N_k) - 1):
        work = u_kn[k + 1] - u_kn[k]
        forward, reverse = work[ends[k] - N_k[k] : ends[k]], -work[ends[k] : ends[k + 1]]
        steps.append((log_mean_exp(-reverse) - log_mean_exp(-forward)) / 2)
    return np.cumsum(steps)
