"""Energies and log Z of small machines over {0,1}, or other values, by visiting every state."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def enumerate_states(n: int, values=(0, 1)) -> np.ndarray:
    """Return all states of n units, float64, shape (2^n, n), the first unit changing fastest."""
    return np.array(values, dtype=float)[(np.arange(1 << n)[:, None] >> np.arange(n)) & 1]


def all_states(n: int) -> Tensor:
    """Return the same binary states as a tensor, float64."""
    return torch.from_numpy(enumerate_states(n))


def numbers(states) -> np.ndarray:
    """Return the numbers of binary states, as `enumerate_states` counts them."""
    return np.asarray(states).astype(np.int64) @ (1 << np.arange(np.shape(states)[-1]))


def bipartite(W, b, c) -> tuple[np.ndarray, np.ndarray]:
    """Return J and b of an RBM, the left units first."""
    J = np.zeros((sum(np.shape(W)),) * 2)
    J[: len(b), len(b) :] = W
    return J, np.concatenate((b, c))


def log_weights(J, b, x) -> np.ndarray:
    """Return Σ_{i<j} J_ij x_i x_j + b'x of states x, (n_states, n_units); J is upper triangular."""
    return np.einsum("ni,ij,nj->n", x, J, x) + x @ b


def log_marginals(W, b, c, v) -> np.ndarray:
    """Return log Σ_h exp(v'Wh + b'v + c'h) of states v of an RBM's left side, (..., n_left), over h in {0,1}."""
    return v @ b + np.logaddexp(0, v @ W + c).sum(-1)


def log_probabilities(J, b) -> np.ndarray:
    """Return log p of all states of exp(Σ_{i<j} J_ij x_i x_j + b'x) over {0,1}."""
    log_w = log_weights(J, b, enumerate_states(len(b)))
    return log_w - np.logaddexp.reduce(log_w)


def brute_log_z(J, b, beta=1.0) -> float:
    """Return log Σ_z exp(β (Σ_{i<j} J_ij z_i z_j + b'z)) by visiting every state, in Python floats."""
    J, b = (torch.as_tensor(a).detach().tolist() for a in (J, b))
    n = len(b)
    pairs = [(i, j, J[i][j]) for i in range(n) for j in range(i + 1, n) if J[i][j]]
    exponents = [
        beta * (sum(w for i, j, w in pairs if z[i] and z[j]) + sum(b[i] for i in range(n) if z[i]))
        for z in itertools.product((0, 1), repeat=n)
    ]
    top = max(exponents)
    return float(top + np.log(np.sum(np.exp(np.array(exponents) - top))))
