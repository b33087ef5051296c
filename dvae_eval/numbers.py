"""Small statistics that several estimators share: means from logarithms of weights, and standard errors."""

from __future__ import annotations

import math

import numpy as np

from dvae_core.types import Float


def log_mean_exp(values: Float) -> float:
    """Return the logarithm of the mean of exp(values)."""
    # Imported here because tables use this module for standard errors, and start without scipy.
    from scipy.special import logsumexp

    return float(logsumexp(values)) - math.log(values.size)


def effective_sample_size(log_w: Float) -> float:
    """Return (Σ w)² / Σ w² for log w of shape (n,): the number of equal weights with the same accuracy."""
    w = np.exp(log_w - log_w.max())
    return float(w.sum() ** 2 / (w**2).sum())


def std_err_of_mean(values: Float) -> float:
    """Return the standard error of the mean of independent values; nan for a single value or infinite ones."""
    known = len(values) > 1 and np.isfinite(values).all()
    return float(values.std(ddof=1) / math.sqrt(len(values))) if known else math.nan
