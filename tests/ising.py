"""Two-dimensional Ising models with a log Z that is known in closed form."""

from __future__ import annotations

import numpy as np

from dvae_eval.machine import Machine, machine_from_couplings


def kaufman_log_z(n: int, m: int, K: float) -> float:
    """Return log Σ_s exp(K Σ_<ij> s_i s_j), s = ±1, on an n x m torus (Kaufman, Phys. Rev. 76, 1232, 1949).

    Z = (2 sinh 2K)^(nm/2) / 2 [Π 2 cosh(m γ_odd / 2) + Π 2 sinh(m γ_odd / 2) + Π 2 cosh(m γ_even / 2)
    ± Π 2 sinh(m γ_even / 2)], cosh γ_l = cosh 2K coth 2K - cos(π l / n), γ_0 = 2K + log tanh K of either sign.
    """
    cosh = np.cosh(2 * K) / np.tanh(2 * K) - np.cos(np.pi * np.arange(2 * n) / n)
    gamma = np.arccosh(np.maximum(cosh, 1))
    gamma[0] = 2 * K + np.log(np.tanh(K))
    half = m * np.abs(gamma) / 2
    log_cosh = half + np.log1p(np.exp(-2 * half))
    with np.errstate(divide="ignore"):
        log_sinh = half + np.log(-np.expm1(-2 * half))
    terms = [a[start::2].sum() for start in (1, 0) for a in (log_cosh, log_sinh)]
    signs = np.array([1, 1, 1, np.sign(gamma[0])])
    top = max(terms)
    return n * m / 2 * np.log(2 * np.sinh(2 * K)) - np.log(2) + top + np.log(signs @ np.exp(np.array(terms) - top))


def torus(n: int, m: int) -> list[tuple[int, int]]:
    """Return the bonds of an n x m torus, n and m at least 3."""
    units = np.arange(n * m).reshape(n, m)
    return [
        (int(min(pair)), int(max(pair)))
        for axis in (0, 1)
        for pair in zip(units.ravel(), np.roll(units, -1, axis).ravel(), strict=True)
    ]


def ising(bonds: list[tuple[int, int]], n_units: int, K: float) -> tuple[Machine, float]:
    """Return the machine over {0,1} of an Ising model without a field, and what its log Z lacks of the spins'.

    K s s' = 4K z z' - 2K (z + z') + K with s = 2z - 1.
    """
    J, b = np.zeros((n_units, n_units)), np.zeros(n_units)
    for i, j in bonds:
        J[i, j] += 4 * K
        b[[i, j]] -= 2 * K
    return machine_from_couplings(J, b), K * len(bonds)
