"""RBMs trained on tight clusters by their exact gradient, with those on the way: each is in equilibrium."""

import numpy as np
from scipy.special import expit, logsumexp

from dvae_eval.machine import BipartiteMachine
from tests.oracles.enumeration import enumerate_states, log_marginals


def clustered_data(n_visible, n_clusters, flip, n=400, seed=0):
    """Return states, (n, n_visible): random patterns of which every unit is flipped with probability `flip`."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((n_clusters, n_visible)) < 0.5
    return (patterns[rng.integers(n_clusters, size=n)] ^ (rng.random((n, n_visible)) < flip)).astype(float)


def acceptance(one, other, v, u):
    """Return the mean acceptance of an exchange between two machines, from states v and u of each."""
    of_v, of_u = (log_marginals(*other, x) - log_marginals(*one, x) for x in (v, u))
    return float(np.exp(np.minimum(0, of_v[:, None] - of_u)).mean())


def trained(data, n_hidden, n_steps, rate=0.05, least=0.5, seed=0):
    """Return machines along a gradient ascent of the likelihood, of n_hidden units, and their steps.

    The hidden side is enumerated: means and samples are exact.  Kept are the first, without couplings, the last,
    and whenever acceptance between the last kept and the present one has fallen below `least`.
    """
    rng = np.random.default_rng(seed)
    n, mean = data.shape[1], data.mean(0).clip(0.02, 0.98)
    present = [rng.normal(0, 0.01, (n, n_hidden)), np.log(mean / (1 - mean)), np.zeros(n_hidden)]
    h = enumerate_states(n_hidden)
    start = [0 * present[0], *(x.copy() for x in present[1:])]
    kept, mark, steps = [start], (start, rng.random((200, n)) < mean), [0]
    for step in range(1, n_steps + 1):
        W, b, c = present
        x = b + h @ W.T
        log_of_h = log_marginals(W.T, c, b, h)
        p, v = np.exp(log_of_h - logsumexp(log_of_h)), expit(x)
        if step % 5 == 0 or step == n_steps:
            u = rng.random((200, n)) < v[rng.choice(len(p), 200, p=p / p.sum())]
            if acceptance(mark[0], present, mark[1] * 1.0, u * 1.0) < least or step == n_steps:
                mark = [a.copy() for a in present], u
                kept.append(mark[0])
                steps.append(step)
        q = expit(data @ W + c)
        pv = v * p[:, None]
        gradients = (data.T @ q / len(data) - pv.T @ h, data.mean(0) - pv.sum(0), q.mean(0) - p @ h)
        for value, gradient in zip(present, gradients, strict=True):
            value += rate * gradient
    return [BipartiteMachine.from_arrays(*parameters) for parameters in kept], steps
