"""Machines on any graph with a known log Z: Kaufman's formula, transfer matrices, sums over trees, enumeration.

Every function returns (machine, log Z in nats).  As in `rbms`, nothing here uses the code that it tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from scipy.special import logsumexp

from dvae_core.types import Float, Index

from ..machine import Machine, machine_from_couplings

Solved = tuple[Machine, float]
Edge = tuple[int, int, float]


def spin_machine(n: int, edges: Iterable[Edge]) -> tuple[Machine, float]:
    """Return (machine over {0,1}, constant) of p(s) ∝ exp(Σ J s_i s_j): log Z_spins = log Z_machine + constant."""
    J, b, constant = np.zeros((n, n)), np.zeros(n), 0.0
    for i, j, value in edges:
        J[min(i, j), max(i, j)] += 4 * value
        b[i] -= 2 * value
        b[j] -= 2 * value
        constant += value
    return machine_from_couplings(J, b), constant


def _of_spins(n: int, edges: Iterable[Edge], log_z_spins: float) -> Solved:
    machine, constant = spin_machine(n, edges)
    return machine, float(log_z_spins) - constant


def kaufman(n: int, m: int, K: float) -> float:
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
    terms = [part[start::2].sum() for start in (1, 0) for part in (log_cosh, log_sinh)]
    total = logsumexp(terms, b=[1, 1, 1, np.sign(gamma[0])])
    return float(n * m / 2 * np.log(2 * np.sinh(2 * K)) - np.log(2) + total)


def torus(n: int, m: int, K: float) -> Solved:
    """Return the Ising ferromagnet on an n x m torus, n and m at least 3."""
    site = np.arange(n * m).reshape(n, m)
    edges = [
        (int(i), int(j), K)
        for axis in (0, 1)
        for i, j in zip(site.ravel(), np.roll(site, -1, axis).ravel(), strict=True)
    ]
    return _of_spins(n * m, edges, kaufman(n, m, K))


def tree(seed: int, n: int, scale: float, parents: Index | None = None) -> Solved:
    """Return a tree, with log Z from sums over branches; random unless the parents of units 1, 2, ... are set."""
    rng = np.random.default_rng(seed)
    b, couplings = rng.normal(size=n), rng.normal(size=n - 1) * scale
    above = np.array([rng.integers(i) for i in range(1, n)]) if parents is None else parents
    # Log sums over the branch below every unit, with the unit off and on.
    J, sums = np.zeros((n, n)), np.stack((np.zeros(n), b))
    J[above, np.arange(1, n)] = couplings
    for i in range(n - 1, 0, -1):
        off, on = sums[:, i]
        sums[:, above[i - 1]] += np.logaddexp(off, on), np.logaddexp(off, on + couplings[i - 1])
    return machine_from_couplings(J, b), float(np.logaddexp(*sums[:, 0]))


def chain(seed: int, n: int, scale: float) -> Solved:
    """Return a chain of n units."""
    return tree(seed, n, scale, np.arange(n - 1))


def star(seed: int, n: int, scale: float) -> Solved:
    """Return one unit coupled to n others; its bias makes it on in half of the mass."""
    rng = np.random.default_rng(seed)
    w, b = scale * rng.normal(size=n), rng.normal(size=n)
    off, on = np.logaddexp(0, b).sum(), np.logaddexp(0, b + w).sum()
    couplings = np.zeros((n + 1, n + 1))
    couplings[0, 1:] = w
    return machine_from_couplings(couplings, np.r_[off - on, b]), float(off + np.log(2))


def strip(seed: int, width: int, length: int, scale: float) -> Solved:
    """Return a spin glass of width x length with open ends, by transfer matrices along its length."""
    rng = np.random.default_rng(seed)
    down, right = rng.normal(size=(length, width - 1)) * scale, rng.normal(size=(length - 1, width)) * scale
    spins = _spins(width)
    inside = [(spins[:, :-1] * spins[:, 1:]) @ down[i] for i in range(length)]
    message = inside[0]
    for i in range(1, length):
        # Move to the next column site by site, summing over the old spin of each.
        for site in range(width):
            message = message.reshape(2**site, 2, -1)
            old = np.array([-1.0, 1.0])
            table = right[i - 1, site] * old[:, None] * old
            message = np.stack([logsumexp(message + table[:, s][None, :, None], axis=1) for s in (0, 1)], axis=1)
        message = message.ravel() + inside[i]
    edges = [(i * width + j, i * width + j + 1, down[i, j]) for i in range(length) for j in range(width - 1)]
    edges += [(i * width + j, (i + 1) * width + j, right[i, j]) for i in range(length - 1) for j in range(width)]
    return _of_spins(width * length, edges, logsumexp(message))


def triangular(width: int, length: int, K: float) -> Solved:
    """Return spins on a triangular lattice, periodic across and open along its length, by dense transfer matrices.

    With K < 0 every triangle is frustrated.
    """
    site = np.arange(width * length).reshape(length, width)
    ends = [(site, np.roll(site, -1, 1)), (site[:-1], site[1:]), (site[:-1], np.roll(site, -1, 1)[1:])]
    edges = [(int(i), int(j), K) for pair in ends for i, j in np.stack(pair, -1).reshape(-1, 2)]
    s = _spins(width)
    ring = K * (s * np.roll(s, -1, 1)).sum(1)
    transfer = K * (s @ s.T + s @ np.roll(s, -1, 1).T)
    message = ring
    for _ in range(length - 1):
        message = logsumexp(message[:, None] + transfer, axis=0) + ring
    return _of_spins(width * length, edges, logsumexp(message))


def potts(seed: int, n_sites: int, q: int, penalty: float, J: float) -> Solved:
    """Return a chain of sites of q units, of which about one is on; equal neighbours are favoured.

    log Z comes from transfer matrices over the 2^q states of a site.
    """
    rng = np.random.default_rng(seed)
    n = n_sites * q
    states = np.array(list(itertools.product((0.0, 1.0), repeat=q)))
    repulsion = -penalty * np.triu(np.ones((q, q)), 1)
    couplings, b = np.kron(np.eye(n_sites), repulsion), 0.3 * rng.normal(size=n) + penalty / 2
    couplings += np.kron(np.eye(n_sites, k=1), J * np.eye(q))
    own = [(states @ repulsion * states).sum(1) + states @ b[i * q : (i + 1) * q] for i in range(n_sites)]
    message = own[0]
    for site in own[1:]:
        message = logsumexp(message[:, None] + J * states @ states.T, axis=0) + site
    return machine_from_couplings(couplings, b), float(logsumexp(message))


def complete(seed: int, n: int, scale: float) -> Solved:
    """Return a machine in which all units are coupled, by enumeration."""
    rng = np.random.default_rng(seed)
    J, b = np.triu(rng.normal(size=(n, n)) * scale / np.sqrt(n), 1), rng.normal(size=n) * 0.5
    low = np.array(list(itertools.product((0.0, 1.0), repeat=min(n, 12))))
    parts = []
    for high in itertools.product((0.0, 1.0), repeat=n - low.shape[1]):
        z = np.concatenate((low, np.tile(high, (len(low), 1))), axis=1)
        parts.append(logsumexp((z @ J * z).sum(1) + z @ b))
    return machine_from_couplings(J, b), float(logsumexp(parts))


def hopfield(seed: int, n: int, n_patterns: int, strength: float) -> Solved:
    """Return spins with Hopfield couplings of random patterns, repulsive if `strength` < 0, by enumeration."""
    xi = np.random.default_rng(seed).choice([-1.0, 1.0], (n_patterns, n))
    J = strength * np.triu(xi.T @ xi, 1)
    s = _spins(n)
    edges = [(i, j, J[i, j]) for i in range(n) for j in range(i + 1, n)]
    return _of_spins(n, edges, logsumexp((s @ J * s).sum(1)))


def _spins(n: int) -> Float:
    """Return all states of n spins, shape (2^n, n)."""
    return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
