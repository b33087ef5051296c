"""States of a prior from which images are generated: exact if one side has few units, else from Markov chains."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .boltzmann import BoltzmannMachine
from .prior import Prior
from .rbm import RBM

# Block Gibbs sweeps from a random state.
BURN_IN = 1000
# Limits of the enumeration: number of kept units, and size of the table of fields.
MAX_KEPT, MAX_NUMBERS = 16, 1 << 23


@torch.no_grad()
def draw_states(prior: Prior, n: int, generator: torch.Generator, n_sweeps: int = BURN_IN) -> tuple[Tensor, str]:
    """Return n states of a prior and the way they were drawn: exactly, or each from its own chain.

    Parameters
    ----------
    prior : Prior
    n : int
        Number of states.
    generator : torch.Generator
        On the prior's device.
    n_sweeps : int
        Block Gibbs sweeps per chain, if the states are not drawn exactly.

    Returns
    -------
    z : shape (n, n_units), 0 or 1
        Of the prior's dtype.
    how : str
        `exact`, or the number of sweeps; chains that have not mixed do not sample the prior.
    """
    kept, summed = _parts(prior)
    if len(kept) > MAX_KEPT or (1 << len(kept)) * max(1, len(summed)) > MAX_NUMBERS:
        z = prior.gibbs(prior.initial_state(n, generator), n_sweeps, generator)
        return z, f"{n_sweeps} block Gibbs sweeps"
    return _exact(prior, kept, summed, n, generator), "exact"


def _parts(prior: Prior) -> tuple[Tensor, Tensor]:
    """Return the units whose states are enumerated, and the other units, which are independent given these."""
    if isinstance(prior, BoltzmannMachine):
        return prior.order[prior.blocks[0].stop :], prior.order[: prior.blocks[0].stop]
    assert isinstance(prior, RBM)  # for the type checker
    units = torch.arange(prior.n_units, device=prior.W.device)
    left, right = units[: prior.n_left], units[prior.n_left :]
    return (left, right) if prior.n_left <= prior.n_right else (right, left)


def _exact(prior: Prior, kept: Tensor, summed: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return n independent states: the kept units by enumeration in float64, then the others given these."""
    J, b = prior.couplings().double(), prior.biases().double()
    J = J + J.T
    v = (torch.arange(1 << len(kept), device=b.device)[:, None] >> torch.arange(len(kept), device=b.device)) & 1
    v = v.double()
    fields = v @ J[kept][:, summed] + b[summed]
    log_p = v @ b[kept] + (v @ J[kept][:, kept] * v).sum(-1) / 2 + softplus(fields).sum(-1)
    chosen = torch.multinomial(log_p.softmax(0), n, replacement=True, generator=generator)
    z = b.new_empty(n, len(b))
    z[:, kept] = v[chosen]
    z[:, summed] = torch.bernoulli(fields[chosen].sigmoid(), generator=generator)
    return z.to(prior.W.dtype)
