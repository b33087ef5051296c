"""Mixtures of products at a machine's modes, as reference distributions.

The first mixture is at the mean-field modes, weighted by their bounds; later ones are fitted by expectation
maximisation to states of the previous run.  If a mixture lacks a basin, the estimate is too low, and its own
checks may not show it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..machine import Machine, Reduced
from .basins import Basins
from .mixture import MixtureReference
from .reference import binary_states

# Weight of the uniform component; least weight of other components, and of fitted ones.
UNIFORM, LEAST, LEAST_FITTED = 0.05, 0.01, 0.002
# Means of a component are at least this far from 0 and 1.
MARGIN = 1e-3
# Least states per component: a time limit may leave few states.
FEWEST_STATES = 8
# Steps of a fit, and imagined states of either value of every unit.
EM_STEPS, PSEUDO_COUNT = 30, 0.5
# Key of the random stream for log Z; for seed 0 it is also that of singular vectors in `basins`.
FIRST_MEANS = 6


def mixture_of_modes(machine: Machine, basins: Basins) -> MixtureReference:
    """Return the mixture of the mean-field modes, weighted by their bounds, and a uniform component."""
    reduced = machine.reduced()
    means_h = expit(reduced.c + basins.means @ reduced.W)
    return _mixture(np.maximum(softmax(basins.bounds), LEAST), basins.means, means_h)


def mixture_of_states(
    machine: Machine,
    v: NDArray[np.uint8],
    basins: Basins,
    n_components: int,
    seed: int,
    is_over: Callable[[], bool] = lambda: False,
) -> MixtureReference:
    """Return the mixture fitted to states of the machine, with the known modes that the fit does not cover.

    Parameters
    ----------
    v : {0, 1}, shape (n, n_kept)
        States of the kept units at β = 1.
    basins : Basins
        Known modes, whether or not the states include them.
    n_components : int
        Largest number of components of the fit.
    seed : int
        Selects the states from which the fit starts.
    is_over : callable
        Returns whether the time for the fit is up: it then ends where it is.
    """
    reduced = machine.reduced()
    states = binary_states(reduced, v).astype(np.float64)
    n_components = min(n_components, max(1, len(states) // FEWEST_STATES))
    shares = _shares(states, _seeds(states, n_components, seed), is_over)
    weights, means = shares.mean(0), _means(shares, states)
    is_alive = weights * len(states) > 1
    is_alive[weights.argmax()] = True
    shares, weights, means = shares[:, is_alive], weights[is_alive], means[is_alive]
    means_h = _means(shares, expit(reduced.c + states @ reduced.W))
    unseen = _unseen(reduced, basins, weights, means)
    more = basins.means[unseen]
    return _mixture(
        np.concatenate((np.maximum(weights, LEAST_FITTED), np.full(len(more), LEAST))),
        np.concatenate((means, more)),
        np.concatenate((means_h, expit(reduced.c + more @ reduced.W))),
    )


def _mixture(weights: Float, means: Float, means_h: Float) -> MixtureReference:
    """Return the mixture of components with these weights and means, and a uniform component."""
    weights = np.append((1 - UNIFORM) * weights / weights.sum(), UNIFORM)
    b, c = (
        np.concatenate((logit(np.clip(m, MARGIN, 1 - MARGIN)), np.zeros((1, m.shape[1]))))
        for m in (means, means_h)
    )
    return MixtureReference(weights, b, c)


def _seeds(states: Float, n: int, seed: int) -> Float:
    """Return initial means for the fit: states that are far from each other."""
    rng = numpy_generator(seed, "log_z", FIRST_MEANS)
    chosen = [states[rng.integers(len(states))]]
    distance = np.full(len(states), np.inf)
    while len(chosen) < min(n, len(states)):
        # k-means++: a state is chosen with probability proportional to its distance from the nearest chosen one.
        distance = np.minimum(distance, np.abs(states - chosen[-1]).sum(1))
        if not distance.any():
            break
        chosen.append(states[rng.choice(len(states), p=distance / distance.sum())])
    return np.array(chosen)


def _shares(states: Float, seeds: Float, is_over: Callable[[], bool]) -> Float:
    """Return the components' shares of every state, (n, K), after a fit that starts from `seeds` (K, n_kept)."""
    logits = np.where(seeds > 0.5, 1.5, -1.5)
    log_weights = np.zeros(len(seeds))
    for _ in range(EM_STEPS):
        shares: Float = softmax(log_weights + states @ logits.T - np.logaddexp(0, logits).sum(1), axis=1)
        log_weights = np.log(shares.mean(0) + 1e-12)
        if is_over():
            break
        logits = logit(_means(shares, states))
    return shares


def _means(shares: Float, values: Float) -> Float:
    """Return the mean values of every component, (K, n_units), with PSEUDO_COUNT."""
    means: Float = (shares.T @ values + PSEUDO_COUNT) / (shares.sum(0)[:, None] + 2 * PSEUDO_COUNT)
    return means


def _unseen(reduced: Reduced, basins: Basins, weights: Float, means: Float) -> NDArray[np.bool_]:
    """Return which modes the mixture lacks: its density there is far below that of the mode's own product."""
    own = np.array([_log_density(m, m) for m in basins.means])
    covered = np.array([max(_log_density(m, other) for other in means) for m in basins.means])
    is_unseen: NDArray[np.bool_] = covered < own - 5 - 0.1 * means.shape[1]
    return is_unseen


def _log_density(p: Float, means: Float) -> float:
    """Return the mean log density of a product with `means` under one with means p, nats."""
    q = np.clip(means, MARGIN, 1 - MARGIN)
    return float((p * np.log(q) + (1 - p) * np.log1p(-q)).sum())
