"""Functions of means over independent replicates, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dvae_core.types import Float


def jackknife(function: Callable[..., Float], *means: Float) -> tuple[Float, Float]:
    """Return a function of the means over all replicates, without first-order bias, and its standard error.

    Parameters
    ----------
    function : callable
        Takes one array (n, ...) per mean in `means`, and returns one (n, ...).
    means : float64, shape (n_replicates, ...)
        Means of each replicate; replicates are independent.
    """
    n = len(means[0])
    whole = function(*(x.mean(0, keepdims=True) for x in means))[0]
    left_out = function(*((x.sum(0) - x) / (n - 1) for x in means))
    mean = left_out.mean(0)
    std_err = np.sqrt(((left_out - mean) ** 2).sum(0) * ((n - 1) / n))
    return np.asarray(n * whole - (n - 1) * mean), np.asarray(std_err)


def std_errs(values: Float) -> Float:
    """Return standard errors of means over the first axis of (n_replicates, ...)."""
    return np.asarray(values.std(0, ddof=1) / math.sqrt(len(values)))
