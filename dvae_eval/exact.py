"""log Z by enumeration: the oracle of all other estimators, exact to float64 rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import ConfigError

from .machine import BipartiteMachine

__all__ = ["MAX_ENUMERATED", "enumerate_states", "exact_log_z"]

MAX_ENUMERATED = 25
BLOCK_VALUES = 1 << 20  # float64 values at a time: small enough for a processor's cache


def enumerate_states(n: int) -> NDArray[np.float64]:
    """Return all states of n binary units, shape (2^n, n), the first unit changing fastest."""
    return ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def exact_log_z(machine: BipartiteMachine, progress: Callable[[int, int], None] | None = None) -> float:
    """Return log Z by enumerating the smaller side, the larger one summed out analytically.

    log Z = log Σ_v exp(b'v + Σ_j log(1 + exp(c_j + (v'W)_j))), streamed in float64.

    Parameters
    ----------
    machine : BipartiteMachine
        Its smaller side has at most `MAX_ENUMERATED` units.
    progress : callable, optional
        Called with (states done, states in all).

    Raises
    ------
    ConfigError
        If the smaller side is too large to be enumerated.
    """
    machine = machine.smaller_side_first()
    n = machine.n_left
    if n > MAX_ENUMERATED:
        raise ConfigError(
            f"--method exact: the smaller side has {n} units, and at most {MAX_ENUMERATED} can be enumerated; "
            "use --method pt-bar"
        )
    n_low = min(n, max(1, (BLOCK_VALUES // machine.n_right).bit_length() - 1))
    W, b, c = (torch.from_numpy(a) for a in (machine.W, machine.b_left, machine.b_right))
    low = torch.from_numpy(enumerate_states(n_low))
    low_field, low_bias = low @ W[:n_low] + c, low @ b[:n_low]
    high = torch.from_numpy(enumerate_states(n - n_low))
    totals = torch.empty(len(high), dtype=torch.float64)
    for i, state in enumerate(high):
        field = low_field + state @ W[n_low:]
        totals[i] = torch.logsumexp(low_bias + state @ b[n_low:] + _sum_softplus(field), 0)
        if progress:
            progress((i + 1) << n_low, 1 << n)
    return float(torch.logsumexp(totals, 0))


def _sum_softplus(field: torch.Tensor) -> torch.Tensor:
    """Return Σ_j log(1 + exp(field_j)), shape (n,), with one logarithm per 512 columns, not one each.

    log(1 + e^a) = max(a, 0) + log(1 + e^-|a|), and a product of 512 factors in (1, 2] cannot overflow.
    """
    tails = field.abs().neg_().exp_().add_(1)
    total = field.clamp_(min=0).sum(-1)
    for factors in torch.split(tails, 512, dim=-1):
        total += factors.prod(-1).log()
    return total
