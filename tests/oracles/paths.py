"""Distributions between a reference and a machine, every sum over the machine's other side written out."""

import numpy as np

from tests.oracles.enumeration import enumerate_states


def joint_on_path(machine, v, beta, reference=None):
    """Return log p~_β(v, h) for all states h of the units that are summed out, shape (n, 2^n_summed).

    `reference` has the biases b and c of independent units; without one they are 0.
    """
    r = machine.reduced()
    b_0, c_0 = (reference.b, reference.c) if reference else (0 * r.b, 0 * r.c)
    h = enumerate_states(len(r.c))
    target = (v @ r.W) @ h.T + (v @ r.b)[:, None] + h @ r.c
    if r.J is not None:
        target = target + (np.einsum("ni,ij,nj->n", v, r.J, v) / 2)[:, None]
    start = (v @ b_0)[:, None] + h @ c_0
    return beta * target + (1 - beta) * start
