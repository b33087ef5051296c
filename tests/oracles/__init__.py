"""Exact answers, each written once, obviously right, slow, and without the code that they judge.

`enumeration` visits all states, `solvable` has closed forms and second formulas, `frequencies` tests samples, and
`dvaes` sums and integrates small models.  Fewer tests need `bridges`, `model_files`, `paths` and `trajectories`.
"""

# ruff: noqa: F401
from dvae_eval.test_machines.dvaes import random_model as tiny_model
from dvae_eval.test_machines.quadrature import dense, energy, grid, log_p_x_given
from tests.oracles.dvaes import densities, exact_bound, exact_log_p_x
from tests.oracles.enumeration import (
    all_states,
    bipartite,
    brute_log_z,
    enumerate_states,
    log_marginals,
    log_probabilities,
    log_weights,
    numbers,
)
from tests.oracles.frequencies import FALSE_ALARM, p_value, worst_p_value
from tests.oracles.solvable import curie_weiss, kaufman, order_cost, planted, ring_log_z, torus_by_momenta
