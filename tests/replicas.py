"""Replicas after a few iterations: the works of the next one, with the states to which they belong."""

import numpy as np


def states_and_works(replicas):
    """Return the states of the works of one iteration, whatever was exchanged then, and these works."""
    replicas.run(4)
    before = replicas.state_dict()
    works = replicas.run(1)
    after = replicas.state_dict()
    if "rungs" in before:
        states = np.take_along_axis(after["replica_v"], np.argsort(before["rungs"])[..., None], 1)
    else:
        where = np.argsort(after["replica"])
        states = np.take_along_axis(after["v"], np.take_along_axis(where, before["replica"], 1)[..., None], 1)
    return states.astype(float), works


def assert_works_are_differences(works, u, closely=None):
    """Compare works with float64: to 1e-4 (1 + |w| / 1000), and to `closely` if that is given.

    u, shape (n_betas, n_replicates, n_rungs), are reduced potentials of the states on each rung at each β.
    """
    for k in range(len(u) - 1):
        forward, reverse = u[k + 1, :, k] - u[k, :, k], u[k, :, k + 1] - u[k + 1, :, k + 1]
        for found, exact in ((works.forward[0, :, k], forward), (works.reverse[0, :, k], reverse)):
            error = np.abs(found - exact)
            assert (error < 1e-4 * (1 + np.abs(exact) * 1e-3)).all()
            assert closely is None or error.max() < closely
