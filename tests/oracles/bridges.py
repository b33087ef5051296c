"""BAR and stepping stones from all works of a run at once: what the sums of a run are compared with."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logsumexp

from dvae_core.errors import NumericalError, OverlapError
from dvae_eval.log_z.bar import Bridge
from dvae_eval.log_z.with_pymbar import bar
from dvae_eval.sampling.replicas import Works


def bridge(works: Works) -> Bridge:
    """Return the BAR estimates between all neighbours, each from the samples of all replicates.

    Raises
    ------
    NumericalError, OverlapError
        See `bar`; the message names the rungs.
    """
    delta_f, overlaps = np.empty(works.forward.shape[2]), np.empty(works.forward.shape[2])
    influence = np.zeros(works.forward.shape[:2])
    for k in range(len(delta_f)):
        w_f, w_r = works.forward[..., k], works.reverse[..., k]
        try:
            step = bar(w_f.ravel(), w_r.ravel())
        except (NumericalError, OverlapError) as error:
            raise type(error)(f"rungs {k} and {k + 1} of the schedule: {error}") from error
        delta_f[k] = -step
        overlaps[k] = _overlap(w_f, w_r, step)
        # BAR's estimating equation is Σ [σ(Δf - w_f) - σ(-Δf - w_r)] = 0; its slope is the overlap / 2.
        influence += (expit(step - w_f) - expit(-step - w_r)) * 2 / overlaps[k]
    return Bridge(delta_f, overlaps, influence)


def stepping_stones(works: Works) -> tuple[float, float]:
    """Return log Z_1 - log Z_0 by importance sampling up the schedule and down it, nats.

    The forward estimate tends to be low and the reverse one high: a gap shows rungs that are too far apart.
    """
    forward = _log_mean_exp(-works.forward, axis=(0, 1)).sum()
    reverse = -_log_mean_exp(-works.reverse, axis=(0, 1)).sum()
    return float(forward), float(reverse)


def _overlap(w_f, w_r, delta_f):
    """Return 2 E_f[σ(1 - σ)] + 2 E_r[σ(1 - σ)]: 1 if the two states are the same, 0 if disjoint."""
    forward, reverse = expit(delta_f - w_f), expit(-delta_f - w_r)
    return float(2 * (forward * (1 - forward)).mean() + 2 * (reverse * (1 - reverse)).mean())


def _log_mean_exp(values, axis):
    return logsumexp(values, axis=axis) - math.log(math.prod(values.shape[a] for a in axis))
