"""Tests of samples against the exact distribution."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tests.oracles.enumeration import enumerate_states, numbers

# A sound sampler fails a test of frequencies with this probability, whatever the seed.
FALSE_ALARM = 1e-4


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
    if len(observed) == 1:
        return 1.0
    return float(stats.chi2.sf(((observed - foreseen) ** 2 / foreseen).sum(), len(observed) - 1))


def worst_p_value(replicas, log_p, n_rounds=10):
    """Return the smallest p over the rungs that their states, 25 iterations apart, have this distribution.

    log_p(beta, states) need not be normalised.
    """
    seen = []
    for _ in range(n_rounds):
        replicas.run(25)
        seen.append(np.array(replicas.v))
    v = np.concatenate(seen)
    logs = [log_p(beta, enumerate_states(v.shape[-1])) for beta in replicas.schedule.betas]
    return min(p_value(v[:, k], each - np.logaddexp.reduce(each)) for k, each in enumerate(logs))
