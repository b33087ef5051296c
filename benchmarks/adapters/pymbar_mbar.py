"""The MBAR estimator of pymbar on samples of this package, for `dvae-eval benchmark`.

dvae-eval benchmark --estimator benchmarks.adapters.pymbar_mbar:mbar --seeds 5 -o pymbar.json

`sample_states` draws the samples at each β of a fixed schedule, independent ones where possible.
"""

import numpy as np
from pymbar import MBAR

from dvae_eval import sample_states

BETAS = np.linspace(0, 1, 16)
N_STATES = 150  # per β, whatever the budget


def mbar(J, b, seed):
    """Return the estimate of log Z by MBAR, and the standard error that pymbar reports."""
    rng = np.random.default_rng(seed)
    states = [rng.integers(2, size=(N_STATES, len(b)))]
    for k, beta in enumerate(BETAS[1:], 1):
        drawn = sample_states((beta * J, beta * b), N_STATES, seed=1000 * seed + k, threads=1, time_limit=1.0)
        states.append(drawn.states)
    z = np.concatenate(states).astype(float)
    u_kn = -BETAS[:, None] * ((z @ J * z).sum(1) + z @ b)
    found = MBAR(u_kn, [N_STATES] * len(BETAS)).compute_free_energy_differences()
    return len(b) * np.log(2) - found["Delta_f"][0, -1], found["dDelta_f"][0, -1]
