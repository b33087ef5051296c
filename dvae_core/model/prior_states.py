"""States of a prior from which images are generated: exact if one side has few units, else from Markov chains."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .prior import Prior
from .tempered import Tempered

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
    n_kept, n_summed = _smaller_side_kept(prior.tempered()).W.shape
    if n_kept > MAX_KEPT or (1 << n_kept) * max(1, n_summed) > MAX_NUMBERS:
        z = prior.gibbs(prior.initial_state(n, generator), n_sweeps, generator)
        return z, f"{n_sweeps} block Gibbs sweeps"
    return _exact(prior, n, generator), "exact"


def _smaller_side_kept(machine: Tempered) -> Tempered:
    """Return a machine of two sides with the larger one summed out, and any other unchanged."""
    is_swapped = machine.J is None and len(machine.c) < len(machine.b)
    return Tempered(machine.W.T, machine.c, machine.b) if is_swapped else machine


def _exact(prior: Prior, n: int, generator: torch.Generator) -> Tensor:
    """Return n independent states: the kept units by enumeration in float64, then the others given these."""
    given = copy.deepcopy(prior).double().tempered()
    machine = _smaller_side_kept(given)
    units = torch.arange(len(machine.b), device=machine.b.device)
    v = ((torch.arange(1 << len(units), device=units.device)[:, None] >> units) & 1).double()
    field = machine.field(v)
    chosen = torch.multinomial(machine.log_p(v, 1.0, field).softmax(0), n, replacement=True, generator=generator)
    sides = v[chosen], torch.bernoulli(field[chosen].sigmoid(), generator=generator)
    z = prior.joined(*(sides if machine is given else sides[::-1]))
    return z.to(prior.W.dtype)
