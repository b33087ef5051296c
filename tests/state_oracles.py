"""Distributions of small machines by visiting every state, and tests of samples against them; shares no code."""

from __future__ import annotations

from math import lgamma

import numpy as np
from scipy import stats

from tests.oracles import enumerate_states

# A sound sampler fails a test of frequencies with this probability, whatever the seed.
FALSE_ALARM = 1e-4


def log_probabilities(J, b):
    """log p of all states of exp(Σ_{i<j} J_ij x_i x_j + b'x) over {0,1}, the first unit changing fastest."""
    x = enumerate_states(len(b))
    log_w = np.einsum("ni,ij,nj->n", x, J, x) + x @ b
    return log_w - np.logaddexp.reduce(log_w)


def bipartite(W, b, c):
    """J and b of an RBM, the left units first."""
    J = np.zeros((sum(W.shape),) * 2)
    J[: len(b), len(b) :] = W
    return J, np.concatenate((b, c))


def numbers(states):
    """The numbers of binary states, as `enumerate_states` counts them."""
    return states.astype(np.int64) @ (1 << np.arange(states.shape[1]))


def p_value(states, log_p):
    """p of the frequencies of states by Pearson's chi-square; states expected less than five times go together."""
    counts, expected = np.bincount(numbers(states), minlength=len(log_p)), len(states) * np.exp(log_p)
    often = expected >= 5
    observed = np.append(counts[often], counts[~often].sum())
    foreseen = np.append(expected[often], expected[~often].sum())
    if foreseen[-1] < 5:
        observed[-2] += observed[-1]
        foreseen[-2] += foreseen[-1]
        observed, foreseen = observed[:-1], foreseen[:-1]
    return float(stats.chi2.sf(((observed - foreseen) ** 2 / foreseen).sum(), len(observed) - 1))


def planted(n, strength, field, seed=0):
    """J and b over {0,1} of a Mattis model of n spins, its pattern, and log p of its overlaps -n, -n + 2, ..., n.

    p(s) ∝ exp(strength (ξ's)² / 2n + field ξ's): two modes of weights that the field makes unequal.
    """
    pattern = np.random.default_rng(seed).choice([-1, 1], n)
    J, h = np.triu(np.outer(pattern, pattern) * strength / n, 1), field * pattern
    up = np.arange(n + 1)
    overlap = 2 * up - n
    log_p = np.array([lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in up])
    log_p += strength / n * (overlap**2 - n) / 2 + field * overlap
    return 4 * J, 2 * (h - J.sum(0) - J.sum(1)), pattern, log_p - np.logaddexp.reduce(log_p)
