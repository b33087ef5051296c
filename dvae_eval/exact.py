"""log Z by enumeration or elimination: the oracle of all other estimators, exact to float64 rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import ConfigError

from .elimination import elimination_order, log_z_by_elimination
from .machine import Machine, Reduced

__all__ = ["MAX_ENUMERATED", "enumerate_states", "enumerated_log_z", "exact_log_z", "exact_route"]

MAX_ENUMERATED = 25
QUICKLY_ENUMERATED = 20
BLOCK_VALUES = 1 << 20  # float64 values at a time: small enough for a processor's cache


def enumerate_states(n: int) -> NDArray[np.float64]:
    """Return all states of n binary units, shape (2^n, n), the first unit changing fastest."""
    return ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def exact_route(machine: Machine) -> str | None:
    """Return how log Z can be had exactly: `enumeration`, `elimination`, or None if it cannot.

    A few units are enumerated at once; many by elimination if the bonds allow it, else by brute force as far as
    that goes.
    """
    reduced = machine.reduced()
    n_kept = len(reduced.b)
    if n_kept <= QUICKLY_ENUMERATED:
        return "enumeration"
    if elimination_order(reduced.bonds()[0], len(reduced.biases)) is not None:
        return "elimination"
    return "enumeration" if n_kept <= MAX_ENUMERATED else None


def exact_log_z(machine: Machine, progress: Callable[[int, int], None] | None = None) -> float:
    """Return log Z by the route that `exact_route` finds, float64, nats.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    progress : callable, optional
        Called with (states done, states in all) while states are enumerated.

    Raises
    ------
    ConfigError
        If too many units would have to be enumerated, and the bonds allow no other route.
    """
    route, reduced = exact_route(machine), machine.reduced()
    if route is None:
        raise ConfigError(
            f"--method exact: {len(reduced.b)} units would have to be enumerated, and at most "
            f"{MAX_ENUMERATED} can be; use --method pt-bar"
        )
    if route == "enumeration":
        return enumerated_log_z(reduced, progress)
    bonds, couplings = reduced.bonds()
    order = elimination_order(bonds, len(reduced.biases))
    assert order is not None  # as the route says
    return log_z_by_elimination(bonds, couplings, reduced.biases, order)


def enumerated_log_z(reduced: Reduced, progress: Callable[[int, int], None] | None = None) -> float:
    """Return log Z by enumerating the kept units v, a largest independent set h being summed out analytically.

    log Z = log Σ_v exp(v'Jv / 2 + b'v + Σ_j log(1 + exp(c_j + (v'W)_j))), streamed in float64.  Of a bipartite
    machine the smaller side is kept; without couplings nothing is, and the closed form remains.
    """
    n = len(reduced.b)
    n_low = min(n, max(1, (BLOCK_VALUES // len(reduced.c)).bit_length() - 1))
    W, b, c = (torch.from_numpy(a) for a in (reduced.W, reduced.b, reduced.c))
    J = None if reduced.J is None else torch.from_numpy(reduced.J)
    low = torch.from_numpy(enumerate_states(n_low))
    low_field, low_bias = low @ W[:n_low] + c, low @ b[:n_low] + _pairs(low, J)
    high = torch.from_numpy(enumerate_states(n - n_low))
    totals = torch.empty(len(high), dtype=torch.float64)
    for i, state in enumerate(high):
        field, bias = low_field + state @ W[n_low:], low_bias + state @ b[n_low:]
        if J is not None:
            bias += low @ (J[:n_low, n_low:] @ state) + state @ J[n_low:, n_low:] @ state / 2
        totals[i] = torch.logsumexp(bias + _sum_softplus(field), 0)
        if progress:
            progress((i + 1) << n_low, 1 << n)
    return float(torch.logsumexp(totals, 0))


def _pairs(v: torch.Tensor, J: torch.Tensor | None) -> torch.Tensor:
    """Return v'Jv / 2 of states v of the first units, shape (len(v),); 0 without couplings."""
    if J is None:
        return v.new_zeros(len(v))
    n = v.shape[1]
    return (v @ J[:n, :n] * v).sum(-1) / 2


def _sum_softplus(field: torch.Tensor) -> torch.Tensor:
    """Return Σ_j log(1 + exp(field_j)), shape (n,), with one logarithm per 512 columns, not one each.

    log(1 + e^a) = max(a, 0) + log(1 + e^-|a|), and a product of 512 factors in (1, 2] cannot overflow.
    """
    tails = field.abs().neg_().exp_().add_(1)
    total = field.clamp_(min=0).sum(-1)
    for factors in torch.split(tails, 512, dim=-1):
        total += factors.prod(-1).log()
    return total
