"""Two-sided machines with a known log Z: closed forms, counting, and sums over the states of the smaller side.

Every function returns (machine, log Z in nats).  Nothing here uses the package's other code for log Z, so that
each can test the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammaln, logsumexp

from dvae_core.io.containers import read_npz
from dvae_core.types import Float

from ..machine import BipartiteMachine

Solved = tuple[BipartiteMachine, float]
Shape = tuple[int, int]
DATA = Path(__file__).parent / "data"
N_LOW = 12  # units whose states are summed over at once


def enumerated(W: Float, a: Float, b: Float) -> float:
    """Return log Σ_v exp(a'v) Π_j (1 + exp(b_j + (v'W)_j)), where v is the smaller side."""
    return float(logsumexp([logsumexp(log_p) for _, log_p, _ in _blocks(*_smaller_first(W, a, b))]))


def enumerated_moments(W: Float, a: Float, b: Float) -> tuple[float, Float]:
    """Return the mean of E = -(v'Wh + a'v + b'h), nats, and the mean of every unit, v before h."""
    is_turned = len(a) > len(b)
    W, a, b = _smaller_first(W, a, b)
    log_z, energy, left, right = enumerated(W, a, b), 0.0, np.zeros(len(a)), np.zeros(len(b))
    for v, log_p, field in _blocks(W, a, b):
        p, h = np.exp(log_p - log_z), expit(field)
        energy -= float(p @ (v @ a + (field * h).sum(1)))
        left += p @ v
        right += p @ h
    return energy, np.concatenate((right, left) if is_turned else (left, right))


def _smaller_first(W: Float, a: Float, b: Float) -> tuple[Float, Float, Float]:
    return (W.T, b, a) if len(a) > len(b) else (W, a, b)


def _blocks(W: Float, a: Float, b: Float) -> Iterator[tuple[Float, Float, Float]]:
    """Yield blocks of states of the left side, the logarithms of their weights, and the fields on the right."""
    n_low = min(len(a), N_LOW)
    low = np.array(list(itertools.product((0.0, 1.0), repeat=n_low)))
    for high in itertools.product((0.0, 1.0), repeat=len(a) - n_low):
        v = np.concatenate((low, np.tile(high, (len(low), 1))), axis=1)
        field = v @ W + b
        yield v, v @ a + np.logaddexp(0, field).sum(1), field


def rbm(W: ArrayLike, a: ArrayLike, b: ArrayLike) -> BipartiteMachine:
    """Return the machine of these arrays."""
    return BipartiteMachine.from_arrays(W, a, b)


def solved(W: Float, a: Float, b: Float) -> Solved:
    """Return the machine of these arrays and its log Z by enumeration."""
    return rbm(W, a, b), enumerated(W, a, b)


def independent(seed: int, shape: Shape) -> Solved:
    """Return a machine without couplings: log Z = Σ log(1 + exp(b))."""
    rng = np.random.default_rng(seed)
    a, b = 2 * rng.normal(size=shape[0]), 2 * rng.normal(size=shape[1])
    return rbm(np.zeros(shape), a, b), float(np.log1p(np.exp(a)).sum() + np.log1p(np.exp(b)).sum())


def random_rbm(seed: int, shape: Shape, scale: float, bias: float = 1.0) -> Solved:
    """Return a machine with normal couplings of standard deviation scale / sqrt(smaller side)."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=shape) * scale / np.sqrt(min(shape))
    return solved(W, rng.normal(size=shape[0]) * bias, rng.normal(size=shape[1]) * bias)


def from_spins(J: Float, fields: tuple[Float, Float] | None = None) -> tuple[Float, Float, Float, float]:
    """Return (W, a, b, constant) over {0,1} for p(s, t) ∝ exp(s'Jt + fields) with s and t over ±1."""
    f, g = fields or (np.zeros(J.shape[0]), np.zeros(J.shape[1]))
    return 4 * J, 2 * f - 2 * J.sum(1), 2 * g - 2 * J.sum(0), float(J.sum() - f.sum() - g.sum())


def planted(seed: int, shape: Shape, strength: float, n_patterns: int = 1, field: float = 0.0) -> Solved:
    """Return Hopfield couplings of ±1 patterns: symmetric modes, between which block Gibbs never moves."""
    rng = np.random.default_rng(seed)
    J = np.zeros(shape)
    for _ in range(n_patterns):
        J += np.outer(rng.choice([-1, 1], shape[0]), rng.choice([-1, 1], shape[1]))
    W, a, b, _ = from_spins(J * (strength / n_patterns), (np.full(shape[0], field), np.zeros(shape[1])))
    return solved(W, a, b)


def low_rank(seed: int, shape: Shape, rank: int, scale: float) -> Solved:
    """Return dense couplings of low rank, without a mean field: ridges of modes and their mirror images."""
    rng = np.random.default_rng(seed)
    W = scale * rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1])) / np.sqrt(rank * min(shape))
    return solved(W, -W.sum(1) / 2, -W.sum(0) / 2)


def blocks(seed: int, n_blocks: int, shape: Shape, scale: float) -> Solved:
    """Return a machine of many small independent random RBMs, with its units shuffled: log Z is the sum."""
    rng = np.random.default_rng(seed)
    W = np.zeros((n_blocks * shape[0], n_blocks * shape[1]))
    a, b, log_z = rng.normal(size=len(W)), rng.normal(size=W.shape[1]), 0.0
    for i in range(n_blocks):
        rows, columns = (slice(i * n, (i + 1) * n) for n in shape)
        W[rows, columns] = rng.normal(size=shape) * scale / np.sqrt(min(shape))
        log_z += enumerated(W[rows, columns], a[rows], b[columns])
    p, q = rng.permutation(len(a)), rng.permutation(len(b))
    return rbm(W[np.ix_(p, q)], a[p], b[q]), log_z


def curie_weiss(n_left: int, n_right: int, J: float, a: float, b: float) -> Solved:
    """Return a machine with all couplings J, left biases a and right biases b."""
    return from_classes([n_left], [n_right], [[J]], [a], [b])


def from_classes(left: ArrayLike, right: ArrayLike, W: ArrayLike, a: ArrayLike, b: ArrayLike) -> Solved:
    """Return a machine whose units form classes of interchangeable units; W, a and b are given per class.

    log Z is a sum over the numbers of units that are on in each class of the left side.
    """
    left, right = np.array(left), np.array(right)
    counts = np.array(list(itertools.product(*[range(n + 1) for n in left])))
    W, a, b = (np.asarray(values, dtype=float) for values in (W, a, b))
    log_z = logsumexp(
        _log_choices(left, counts).sum(1) + counts @ a + (right * np.logaddexp(0, counts @ W + b)).sum(1)
    )
    machine = rbm(np.repeat(np.repeat(W, left, 0), right, 1), np.repeat(a, left), np.repeat(b, right))
    return machine, float(log_z)


def _log_choices(n: ArrayLike, k: ArrayLike) -> Float:
    """Return the logarithm of the binomial coefficient n over k."""
    n, k = np.asarray(n, float), np.asarray(k, float)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def unequal_patterns(n_left: int, n_right: int, strengths: Sequence[float], field: float = 0.0) -> Solved:
    """Return Hopfield couplings of orthogonal patterns of unequal strength: basins of unequal weight."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(strengths))))
    J = (signs * strengths) @ signs.T
    left, right = np.full(len(signs), n_left), np.full(len(signs), n_right)
    return from_classes(left, right, 4 * J, 2 * field - 2 * J @ right, -2 * J.T @ left)


def golf_hole(
    n_visible: int = 20, n_hidden: int = 40, depth: float = 3.0, threshold: float = 0.85, seed: int = 0
) -> Solved:
    """Return a machine whose hidden units turn on only if nearly all visible units match a pattern.

    This is a deep and narrow basin.  The weight of a state depends on its number of matches k only, so that log Z
    is a sum over k.
    """
    pattern = np.random.default_rng(seed).choice([-1, 1], n_visible)
    W = np.tile(depth * pattern[:, None], (1, n_hidden)).astype(float)
    c = np.full(n_hidden, depth * ((pattern < 0).sum() - threshold * n_visible))
    k = np.arange(n_visible + 1)
    log_z = logsumexp(_log_choices(n_visible, k) + n_hidden * np.logaddexp(0, depth * (k - threshold * n_visible)))
    return rbm(W, np.zeros(n_visible), c), float(log_z)


def switched(seed: int, n_left: int, n_right: int, preference: float) -> Solved:
    """Return a machine in which one unit switches between two random RBMs of very different entropy.

    Both have the same weight for preference 0; on the path from β = 0 the mass jumps between them.
    """
    rng = np.random.default_rng(seed)
    wake, n = 60.0, n_right
    weak, strong = rng.normal(size=(n_left, n)), 3 * rng.normal(size=(n_left, n))
    a, b = rng.normal(size=n_left), rng.normal(size=2 * n)
    balance = enumerated(strong, a, b[n:]) - enumerated(weak, a, b[:n])
    W = np.block([[np.full(n, wake), np.full(n, -wake)], [weak, strong]])
    return solved(W, np.r_[balance + preference, a], b - np.repeat([wake, 0.0], n))


def duplicates(seed: int, shape: Shape, n_copies: int, noise: float) -> Solved:
    """Return a machine with groups of nearly identical hidden units."""
    rng = np.random.default_rng(seed)
    W = np.repeat(0.7 * rng.normal(size=shape), n_copies, 1)
    W = W + noise * rng.normal(size=W.shape)
    return solved(W, rng.normal(size=shape[0]), np.repeat(rng.normal(size=shape[1]), n_copies))


def extreme_biases(seed: int, shape: Shape, size: float) -> Solved:
    """Return a random RBM in which a unit of either side is always on, and one always off."""
    rng = np.random.default_rng(seed)
    W, a, b = rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape[1])
    a[:2] = b[:2] = size, -size
    return solved(W, a, b)


def huge(seed: int, shape: Shape, size: float) -> Solved:
    """Return a machine with couplings that are uniform between -size and size."""
    rng = np.random.default_rng(seed)
    W = rng.uniform(-size, size, shape)
    return solved(W, rng.normal(size=shape[0]), rng.normal(size=shape[1]))


def many_scales(seed: int, shape: Shape) -> Solved:
    """Return a machine with couplings whose singular values run from 30 to 0.001."""
    rng = np.random.default_rng(seed)
    left, _, right = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    W = (left * np.geomspace(30, 1e-3, left.shape[1])) @ right
    return solved(W, -W.sum(1) / 2, -W.sum(0) / 2)


def lopsided(seed: int, shape: Shape) -> Solved:
    """Return a machine with two units on one side and many on the other."""
    rng = np.random.default_rng(seed)
    W, a, b = 3 * rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape[1])
    (a if shape[0] == 2 else b)[:] = -200.0, 100.0
    return solved(W, a, b)


def one_unit_side(seed: int, n: int, scale: float) -> Solved:
    """Return a machine with a single unit on one side and n on the other."""
    rng = np.random.default_rng(seed)
    W = scale * rng.normal(size=(1, n))
    return solved(W, rng.normal(size=1), rng.normal(size=n))


def trained(name: str, seed: int = 0) -> Solved:
    """Return a trained RBM from a file of this package, the same for every seed.

    The file also has log Z, from a sum over the states of the hidden units, at most 2^20.
    """
    names = ("W", "b_left", "b_right", "log_z")
    arrays = read_npz(DATA / f"{name}.npz", names)
    W, a, b, log_z = (arrays[key] for key in names)
    return rbm(W, a, b), float(log_z)
