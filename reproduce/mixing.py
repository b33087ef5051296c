"""How fast block Gibbs sampling mixes in a trained prior: `python reproduce/mixing.py RUN [RUN ...] > mixing.json`.

Chains start from nearly independent samples (parallel tempering, or exact), so that nothing but their decorrelation is
measured.  The time is the integrated autocorrelation time, in sweeps, of the slowest of the leading principal
components of the states and of the energy; a chain needs twice that for one independent sample.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvae_core import load_model
from dvae_core.rng import torch_generator
from dvae_eval import machine_of, sample_states
from dvae_eval.states.thinning import autocorrelation_time, leading_components

N_CHAINS, N_SWEEPS, N_COMPONENTS = 500, 4000, 10


def mixing_of(run: Path, n_chains: int = N_CHAINS, n_sweeps: int = N_SWEEPS) -> dict[str, Any]:
    """Return the autocorrelation times of the prior of a run, in sweeps of block Gibbs sampling."""
    trained = load_model(run / "model.pt")
    prior = trained.model.prior
    states = sample_states(machine_of(trained), n=n_chains)
    z = torch.as_tensor(states.states, dtype=torch.float32)
    generator = torch_generator(0, "samples", 9)
    mean = z.mean(0)
    components = torch.as_tensor(
        leading_components((z - mean).double().numpy(), N_COMPONENTS), dtype=torch.float32
    )
    seen = []
    with torch.no_grad():
        for _ in range(n_sweeps):
            z = prior.gibbs(z, 1, generator)
            seen.append(torch.cat(((z - mean) @ components.T, prior.energy(z)[:, None]), 1).double().numpy())
    values = np.stack(seen)
    times = [autocorrelation_time(values[:, :, i]) for i in range(values.shape[2])]
    return {
        "run": str(run),
        "samples": states.making,
        "trustworthy": states.trustworthy,
        "component_sweeps": [round(time, 2) for time in times[:-1]],
        "energy_sweeps": round(times[-1], 2),
        "slowest_sweeps": round(max(times), 2),
    }


if __name__ == "__main__":
    print(json.dumps([mixing_of(Path(run)) for run in sys.argv[1:]], indent=1))
