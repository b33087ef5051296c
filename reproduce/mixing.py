"""How fast block Gibbs sampling mixes in trained priors.

    python reproduce/mixing.py PRIOR.npz ... > mixing.json    # measure
    python reproduce/mixing.py mixing.json                    # print as a Markdown table

Chains start from nearly independent samples (parallel tempering, or exact), so that only their decorrelation is
measured.  The time is the integrated autocorrelation time, in sweeps: of the energy, and of the slowest of the
leading principal components of the states.  One independent sample takes twice that number of sweeps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvae_core.model.rbm import RBM
from dvae_core.rng import torch_generator
from dvae_core.types import Float
from dvae_eval import BipartiteMachine, ReadConfig, read_machine, sample_states
from dvae_eval.states.thinning import autocorrelation_time, leading_components

N_CHAINS, N_SWEEPS, N_COMPONENTS = 200, 2000, 10


def rbm_of(machine: BipartiteMachine) -> RBM:
    """Return the machine as the prior that training samples from."""
    rbm = RBM(machine.n_left, machine.n_right)
    with torch.no_grad():
        for name in ("W", "b_left", "b_right"):
            getattr(rbm, name).copy_(torch.as_tensor(np.asarray(getattr(machine, name))))
    return rbm


@torch.no_grad()
def observed(rbm: RBM, states: Float, n_sweeps: int) -> Float:
    """Return components and energy of the chains after each sweep, shape (n_sweeps, n_chains, n_observables)."""
    z = torch.as_tensor(states, dtype=torch.float32)
    mean, generator, seen = z.mean(0), torch_generator(0, "samples", 9), []
    components = torch.as_tensor(leading_components(states - states.mean(0), N_COMPONENTS), dtype=torch.float32)
    for _ in range(n_sweeps):
        z = rbm.gibbs(z, 1, generator)
        seen.append(torch.cat(((z - mean) @ components.T, rbm.energy(z)[:, None]), 1).double().numpy())
    return np.stack(seen)


def mixing_of(path: Path, n_chains: int = N_CHAINS, n_sweeps: int = N_SWEEPS) -> dict[str, Any]:
    """Return the autocorrelation times of the RBM in a file, in sweeps of block Gibbs sampling."""
    machine = read_machine(path, ReadConfig()).machine
    assert isinstance(machine, BipartiteMachine)
    sampled = sample_states(machine, n=n_chains)
    values = observed(rbm_of(machine), np.asarray(sampled.states, dtype=float), n_sweeps)
    *components, energy = (autocorrelation_time(values[:, :, i]) for i in range(values.shape[2]))
    return {
        "prior": str(path),
        "trustworthy": sampled.trustworthy,
        "energy": round(energy, 2),
        "slowest component": round(max(components), 2),
    }


def print_table(found: list[dict[str, Any]]) -> None:
    """Print measured times as Markdown."""
    print("| prior | energy, sweeps | slowest component, sweeps |\n| --- | ---: | ---: |")
    for row in found:
        name = "/".join(Path(row["prior"]).parts[-3:-1])
        print(f"| {name} | {row['energy']:.1f} | {row['slowest component']:.1f} |")


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    if paths[0].suffix == ".json":
        print_table(json.loads(paths[0].read_text(encoding="utf-8")))
    else:
        print(json.dumps([mixing_of(path) for path in paths], indent=1))
