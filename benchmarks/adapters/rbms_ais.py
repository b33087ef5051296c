"""Annealed importance sampling of the `rbms` package (pip install rbms), for `dvae-eval benchmark`.

dvae-eval benchmark --estimator benchmarks.adapters.rbms_ais:ais --seeds 5 -o rbms.json

The package reports no standard error; that of the mean of independent estimates is used.
"""

import time

import numpy as np
import torch
from rbms.bernoulli_bernoulli.classes import BBRBM
from rbms.partition_function.ais import compute_partition_function_ais

N_REPEATS, N_CHAINS, TRIAL_STEPS = 8, 1000, 50


def ais(W, b_left, b_right, seed, budget):
    """Return the mean of 8 estimates of 1000 chains, with steps as the budget allows, and its standard error."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    machine = BBRBM(*(torch.from_numpy(array).float() for array in (W, b_left, b_right)))
    compute_partition_function_ais(N_CHAINS, 3, machine)  # warms up
    started = time.process_time()
    compute_partition_function_ais(N_CHAINS, TRIAL_STEPS, machine)
    per_step = (time.process_time() - started) / TRIAL_STEPS
    n_steps = max(10, int((budget / per_step - TRIAL_STEPS) / N_REPEATS))
    found = [float(compute_partition_function_ais(N_CHAINS, n_steps, machine)) for _ in range(N_REPEATS)]
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(N_REPEATS)
