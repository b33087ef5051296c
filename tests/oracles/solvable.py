"""Machines of any size that are known in closed form, or by a recursion that no other code uses."""

from __future__ import annotations

from math import lgamma

import mpmath
import numpy as np
from scipy.special import logsumexp


def log_choices(n: int) -> np.ndarray:
    """Return the log of the binomial coefficients of n and 0, ..., n."""
    return np.array([lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in range(n + 1)])


def curie_weiss(n: int, strength: float, field: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return m = Σ_i s_i, -n to n, and log Σ exp(strength Σ_{i<j} s_i s_j / n + field m) over its states.

    Spins of -1 and +1, all pairs coupled by the same: the number of states of m is a binomial coefficient.
    """
    m = 2 * np.arange(n + 1) - n
    return m, log_choices(n) + strength / n * (m**2 - n) / 2 + field * m


def planted(n, strength, field, seed=0):
    """J and b over {0,1} of a Mattis model of n spins, its pattern, and log p of its overlaps -n, -n + 2, ..., n.

    p(s) ∝ exp(strength (ξ's)² / 2n + field ξ's): two modes of weights that the field makes unequal.
    """
    pattern = np.random.default_rng(seed).choice([-1, 1], n)
    J, h = np.triu(np.outer(pattern, pattern) * strength / n, 1), field * pattern
    _, log_p = curie_weiss(n, strength, field)
    return 4 * J, 2 * (h - J.sum(0) - J.sum(1)), pattern, log_p - np.logaddexp.reduce(log_p)


def kaufman(height: int, width: int, K: float) -> tuple[float, float, float]:
    """Return log Z, energy and specific heat of Ising spins on a torus at β = 1, by 60 digits.

    (Kaufman, Phys. Rev. 76, 1232 (1949), Eq. 65, and its derivatives.)
    """
    with mpmath.workdps(60):

        def log_z(beta):
            K_ = mpmath.mpf(K) * beta
            c = mpmath.cosh(2 * K_) * mpmath.coth(2 * K_)
            gamma = [mpmath.acosh(c - mpmath.cos(mpmath.pi * k / width)) for k in range(1, 2 * width)]
            gamma = [2 * K_ + mpmath.log(mpmath.tanh(K_)), *gamma]
            parts = [
                [f(height * g / 2) * 2 for g in gamma[s::2]] for s in (1, 0) for f in (mpmath.cosh, mpmath.sinh)
            ]
            total = sum(mpmath.fprod(part) for part in parts)
            return mpmath.mpf(height * width) / 2 * mpmath.log(2 * mpmath.sinh(2 * K_)) + mpmath.log(total / 2)

        values = [mpmath.diff(log_z, 1, order) for order in range(3)]
        return float(values[0]), float(-values[1]), float(values[2])


def torus_by_momenta(n: int, K: float) -> float:
    """Return log Z of Ising spins on an n x n torus, by products over momenta for four boundary conditions.

    (Kac and Ward; e.g. Itzykson and Drouffe, Statistical Field Theory 1, Eq. 2.2.126.)
    """

    def half_log_product(x, y):
        k, q = (2 * np.pi * (np.arange(n) + shift) / n for shift in (x, y))
        terms = np.cosh(2 * K) ** 2 - np.sinh(2 * K) * (np.cos(k)[:, None] + np.cos(q))
        with np.errstate(divide="ignore"):
            return 0.5 * np.log(np.maximum(terms, 0)).sum()

    parts = [half_log_product(x, y) for x, y in ((0.5, 0.5), (0.5, 0), (0, 0.5), (0, 0))]
    sign = np.sign(np.sinh(2 * K) - 1)
    return n * n * np.log(2) - np.log(2) + logsumexp(parts, b=[1, 1, 1, sign])


def ring_log_z(couplings, b) -> float:
    """Return log Z of a ring over {0,1}, couplings[i] between i and i + 1, by the trace of transfer matrices."""
    product, log_scale = np.eye(2), 0.0
    for coupling, bias in zip(couplings, b, strict=True):
        product = product @ np.array([[1.0, 1.0], [np.exp(bias), np.exp(bias + coupling)]])
        log_scale, product = log_scale + np.log(product.max()), product / product.max()
    return log_scale + np.log(np.trace(product))


def order_cost(bonds, n_units: int, order) -> int:
    """Return the entries of all tables together when the units of a graph are summed out in this order."""
    neighbours = {unit: set() for unit in range(n_units)}
    for i, j in np.asarray(bonds).tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    cost = 0
    for unit in order:
        others = neighbours.pop(unit)
        cost += 2 ** (1 + len(others))
        for other in others:
            neighbours[other] = (neighbours[other] | others) - {other, unit}
    return cost
