"""Boltzmann machines of many shapes whose log Z is exactly known, each by a way of its own.

`solved_models()` yields (name, machine, exact log Z).  The answers come from closed forms, transfer matrices,
Kaufman's formula, counting and brute force, none of them from the code that is judged.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
from scipy.special import gammaln, logsumexp

from dvae_eval.machine import BipartiteMachine, machine_from_couplings


def enumerated(W, a, b):
    """Return log Σ_v exp(a'v) Π_j (1 + exp(b_j + (v'W)_j)), v being the smaller side, in blocks."""
    if len(a) > len(b):
        W, a, b = W.T, b, a
    n_low = min(len(a), 12)
    low = np.array(list(itertools.product((0.0, 1.0), repeat=n_low)))
    parts = []
    for high in itertools.product((0.0, 1.0), repeat=len(a) - n_low):
        v = np.concatenate((low, np.tile(high, (len(low), 1))), axis=1)
        parts.append(logsumexp(v @ a + np.logaddexp(0, v @ W + b).sum(1)))
    return float(logsumexp(parts))


def rbm(W, a, b):
    return BipartiteMachine.from_arrays(W, a, b)


def random_rbm(seed, shape, scale, bias=1.0):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=shape) * scale / np.sqrt(min(shape))
    a, b = rng.normal(size=shape[0]) * bias, rng.normal(size=shape[1]) * bias
    return rbm(W, a, b), enumerated(W, a, b)


def from_spins(J, fields=None):
    """Return (W, a, b, constant) over {0,1} of p(s, t) ∝ exp(s'Jt + fields), s and t over ±1."""
    f, g = (np.zeros(n) for n in J.shape) if fields is None else fields
    return 4 * J, 2 * f - 2 * J.sum(1), 2 * g - 2 * J.sum(0), J.sum() - f.sum() - g.sum()


def planted(seed, shape, strength, n_patterns=1, field=0.0):
    """Hopfield couplings of ±1 patterns: symmetric modes between which block Gibbs never goes."""
    rng = np.random.default_rng(seed)
    J = sum(np.outer(rng.choice([-1, 1], shape[0]), rng.choice([-1, 1], shape[1])) for _ in range(n_patterns)) * (
        strength / n_patterns
    )
    W, a, b, _ = from_spins(J, (np.full(shape[0], field), np.zeros(shape[1])))
    return rbm(W, a, b), enumerated(W, a, b)


def blocks(seed, n_blocks, shape, scale):
    """Many small random RBMs side by side, their units shuffled: log Z is the sum."""
    rng = np.random.default_rng(seed)
    W = np.zeros((n_blocks * shape[0], n_blocks * shape[1]))
    a, b, log_z = rng.normal(size=len(W)), rng.normal(size=W.shape[1]), 0.0
    for i in range(n_blocks):
        rows, columns = (slice(i * n, (i + 1) * n) for n in shape)
        W[rows, columns] = rng.normal(size=shape) * scale / np.sqrt(min(shape))
        log_z += enumerated(W[rows, columns], a[rows], b[columns])
    p, q = rng.permutation(len(a)), rng.permutation(len(b))
    return rbm(W[np.ix_(p, q)], a[p], b[q]), log_z


def curie_weiss(n_left, n_right, J, a, b):
    """All couplings J, all biases a and b: log Z by counting the units that are on."""
    k, m = np.arange(n_left + 1), np.arange(n_right + 1)
    choose = lambda n, k: gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # noqa: E731
    terms = choose(n_left, k)[:, None] + choose(n_right, m) + a * k[:, None] + b * m + J * np.outer(k, m)
    machine = rbm(np.full((n_left, n_right), J), np.full(n_left, a), np.full(n_right, b))
    return machine, float(logsumexp(terms))


def golf_hole(n_visible=20, n_hidden=40, depth=3.0, threshold=0.85, seed=0):
    """Hidden units that wake up only when nearly all visible ones show a pattern: a deep and narrow basin.

    The state's weight hangs on the number of matches k alone, so log Z is a sum over k.
    """
    pattern = np.random.default_rng(seed).choice([-1, 1], n_visible)
    W = np.tile(depth * pattern[:, None], (1, n_hidden)).astype(float)
    c = np.full(n_hidden, depth * ((pattern < 0).sum() - threshold * n_visible))
    k = np.arange(n_visible + 1)
    choose = gammaln(n_visible + 1) - gammaln(k + 1) - gammaln(n_visible - k + 1)
    log_z = logsumexp(choose + n_hidden * np.logaddexp(0, depth * (k - threshold * n_visible)))
    return rbm(W, np.zeros(n_visible), c), float(log_z)


def clusters():
    """An RBM of 80x10 trained by exact gradient on five tight clusters, whose basins are apart."""
    with np.load(Path(__file__).parent / "data" / "clusters-80x10.npz") as arrays:
        W, a, b = (arrays[name] for name in ("W", "b_visible", "c_hidden"))
    return rbm(W, a, b), enumerated(W, a, b)


def chain(seed, n, scale):
    """A chain of n units, by transfer matrices."""
    rng = np.random.default_rng(seed)
    J, b = np.zeros((n, n)), rng.normal(size=n)
    couplings = rng.normal(size=n - 1) * scale
    J[np.arange(n - 1), np.arange(1, n)] = couplings
    message = np.array([0.0, b[0]])
    for i in range(1, n):
        table = np.array([[0, 0], [0, couplings[i - 1]]]) + np.array([0.0, b[i]])
        message = np.logaddexp(*(message[:, None] + table))
    return machine_from_couplings(J, b), float(np.logaddexp(*message))


def strip(seed, width, length, scale, ferromagnet=None):
    """A width x length lattice of spins with open ends, by transfer matrices along its length."""
    rng = np.random.default_rng(seed)
    draw = (lambda *s: rng.normal(size=s) * scale) if ferromagnet is None else (lambda *s: np.full(s, ferromagnet))
    down, right = draw(length, width - 1), draw(length - 1, width)
    spins = np.array(list(itertools.product((-1.0, 1.0), repeat=width)))
    inside = [(spins[:, :-1] * spins[:, 1:]) @ down[i] for i in range(length)]
    message = inside[0]
    for i in range(1, length):
        # One column after the other, site by site: sum over the old spin at every site in turn.
        for site in range(width):
            message = message.reshape(2**site, 2, -1)
            old = np.array([-1.0, 1.0])
            table = right[i - 1, site] * old[:, None] * old
            message = np.stack([logsumexp(message + table[:, s][None, :, None], axis=1) for s in (0, 1)], axis=1)
        message = message.ravel() + inside[i]
    edges = [((i, j), (i, j + 1), down[i, j]) for i in range(length) for j in range(width - 1)]
    edges += [((i, j), (i + 1, j), right[i, j]) for i in range(length - 1) for j in range(width)]
    return *spin_machine(
        width * length, [((p[0] * width + p[1]), (q[0] * width + q[1]), J) for p, q, J in edges]
    ), float(logsumexp(message))


def spin_machine(n, edges):
    """Return (machine over {0,1}, constant) of p(s) ∝ exp(Σ J s_i s_j): log Z_spins = log Z_machine + constant."""
    J, b, constant = np.zeros((n, n)), np.zeros(n), 0.0
    for i, j, value in edges:
        J[min(i, j), max(i, j)] += 4 * value
        b[i] -= 2 * value
        b[j] -= 2 * value
        constant += value
    return machine_from_couplings(J, b), constant


def kaufman(n, m, K):
    """Return log Z of the n x m Ising ferromagnet on a torus (Kaufman, 1949)."""
    gamma = np.empty(2 * n)
    gamma[0] = 2 * K + np.log(np.tanh(K))
    for k in range(1, 2 * n):
        c = np.cosh(2 * K) / np.tanh(2 * K) - np.cos(np.pi * k / n)
        gamma[k] = np.log(c + np.sqrt(c * c - 1))
    odd, even = gamma[1::2], gamma[0::2]
    log_2cosh = lambda g: np.logaddexp(m / 2 * g, -m / 2 * g).sum()  # noqa: E731

    def log_2sinh(g):
        x = m / 2 * g
        return np.prod(np.sign(x)), (np.abs(x) + np.log1p(-np.exp(-2 * np.abs(x)))).sum()

    s_odd, s_even = log_2sinh(odd), log_2sinh(even)
    values = np.array([log_2cosh(odd), s_odd[1], log_2cosh(even), s_even[1]])
    signs = np.array([1, s_odd[0], 1, s_even[0]])
    total = logsumexp(values, b=signs)
    return float(n * m / 2 * np.log(2 * np.sinh(2 * K)) - np.log(2) + total)


def torus(n, m, K):
    site = lambda i, j: (i % n) * m + j % m  # noqa: E731
    edges = [(site(i, j), site(i + 1, j), K) for i in range(n) for j in range(m)]
    edges += [(site(i, j), site(i, j + 1), K) for i in range(n) for j in range(m)]
    machine, constant = spin_machine(n * m, edges)
    return machine, kaufman(n, m, K) - constant


def complete(seed, n, scale):
    """A Boltzmann machine in which all units are coupled, by brute force."""
    rng = np.random.default_rng(seed)
    J, b = np.triu(rng.normal(size=(n, n)) * scale / np.sqrt(n), 1), rng.normal(size=n) * 0.5
    low = np.array(list(itertools.product((0.0, 1.0), repeat=min(n, 12))))
    parts = []
    for high in itertools.product((0.0, 1.0), repeat=n - low.shape[1]):
        z = np.concatenate((low, np.tile(high, (len(low), 1))), axis=1)
        parts.append(logsumexp((z @ J * z).sum(1) + z @ b))
    return machine_from_couplings(J, b), float(logsumexp(parts))


def trained(images, n_hidden, n_epochs, seed=0, rate=0.05):
    """An RBM trained on binary images by persistent contrastive divergence, in NumPy."""
    rng = np.random.default_rng(seed)
    n = images.shape[1]
    p = np.clip(images.mean(0), 0.01, 0.99)
    W, a, b = rng.normal(size=(n, n_hidden)) * 0.01, np.log(p / (1 - p)), np.zeros(n_hidden)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    chains = (rng.random((100, n)) < p).astype(float)
    for epoch in range(n_epochs):
        step = rate * (1 - epoch / n_epochs)
        for batch in np.array_split(rng.permutation(len(images)), len(images) // 100):
            x = images[batch]
            h = sigmoid(x @ W + b)
            hidden = (rng.random((100, n_hidden)) < sigmoid(chains @ W + b)).astype(float)
            chains = (rng.random((100, n)) < sigmoid(hidden @ W.T + a)).astype(float)
            g = sigmoid(chains @ W + b)
            W += step * (x.T @ h / len(x) - chains.T @ g / 100)
            a += step * (x.mean(0) - chains.mean(0))
            b += step * (h.mean(0) - g.mean(0))
    return W, a, b


def digits():
    from dvae_core.data import load

    return load("digits", quiet=True).fixed("train").astype(float)


def mnist(n=20_000):
    """MNIST's first images, binarised at one half, or None where DVAE_DATA_DIR is not set."""
    if "DVAE_DATA_DIR" not in os.environ:
        return None
    from dvae_core.data import load

    return load("mnist-static", quiet=True).fixed("train")[:n].astype(float)


def alike(left, right, W, a, b):
    """Classes of units that act alike, W, a and b being those of the classes: log Z is a sum over counts."""
    left, right = np.array(left), np.array(right)
    counts = np.array(list(itertools.product(*[range(n + 1) for n in left])))
    choose = (gammaln(left + 1) - gammaln(counts + 1) - gammaln(left - counts + 1)).sum(1)
    W, a, b = (np.asarray(values, dtype=float) for values in (W, a, b))
    log_z = logsumexp(choose + counts @ a + (right * np.logaddexp(0, counts @ W + b)).sum(1))
    machine = rbm(np.repeat(np.repeat(W, left, 0), right, 1), np.repeat(a, left), np.repeat(b, right))
    return machine, float(log_z)


def unequal_patterns(n_left, n_right, strengths, field=0.0):
    """Hopfield couplings of orthogonal patterns of unequal strength: basins of unequal weight."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(strengths))))
    J = (signs * strengths) @ signs.T
    left, right = np.full(len(signs), n_left), np.full(len(signs), n_right)
    a, b = 2 * field - 2 * J @ right, -2 * J.T @ left
    return alike(left, right, 4 * J, a, b)


def triangular(width, length, K):
    """Spins on a triangular lattice, a ring across and open along it, by dense transfer matrices.

    With K < 0 every triangle is frustrated.
    """
    site = lambda i, j: i * width + j % width  # noqa: E731
    edges = [(site(i, j), site(i, j + 1), K) for i in range(length) for j in range(width)]
    edges += [(site(i, j), site(i + 1, j + d), K) for i in range(length - 1) for j in range(width) for d in (0, 1)]
    s = np.array(list(itertools.product((-1.0, 1.0), repeat=width)))
    ring = K * (s * np.roll(s, -1, 1)).sum(1)
    transfer = K * (s @ s.T + s @ np.roll(s, -1, 1).T)
    message = ring
    for _ in range(length - 1):
        message = logsumexp(message[:, None] + transfer, axis=0) + ring
    machine, constant = spin_machine(width * length, edges)
    return machine, float(logsumexp(message)) - constant


def potts(seed, n_sites, q, penalty, J):
    """A chain of sites of q units, about one of them on, alike neighbours favoured; transfer over 2^q states."""
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


def switched(seed, n_left, n_right, preference):
    """Two random RBMs of very different entropies, of which a unit wakes up one; equal weights at preference 0."""
    rng = np.random.default_rng(seed)
    wake, n = 60.0, n_right
    weak, strong = rng.normal(size=(n_left, n)), 3 * rng.normal(size=(n_left, n))
    a, b = rng.normal(size=n_left), rng.normal(size=2 * n)
    balance = enumerated(strong, a, b[n:]) - enumerated(weak, a, b[:n])
    W = np.block([[np.full(n, wake), np.full(n, -wake)], [weak, strong]])
    a, b = np.r_[balance + preference, a], b - np.repeat([wake, 0.0], n)
    return rbm(W, a, b), enumerated(W, a, b)


def star(seed, n, scale):
    """One unit coupled to n others, on about as often as off."""
    rng = np.random.default_rng(seed)
    w, b = scale * rng.normal(size=n), rng.normal(size=n)
    off, on = np.logaddexp(0, b).sum(), np.logaddexp(0, b + w).sum()
    couplings = np.zeros((n + 1, n + 1))
    couplings[0, 1:] = w
    return machine_from_couplings(couplings, np.r_[off - on, b]), float(off + np.log(2))


def duplicates(seed, shape, n_copies, noise):
    """Hidden units that are copies of one another, nearly."""
    rng = np.random.default_rng(seed)
    W = np.repeat(0.7 * rng.normal(size=shape), n_copies, 1)
    W = W + noise * rng.normal(size=W.shape)
    a, b = rng.normal(size=shape[0]), np.repeat(rng.normal(size=shape[1]), n_copies)
    return rbm(W, a, b), enumerated(W, a, b)


def hopfield(seed, n, n_patterns, strength):
    """All spins coupled by patterns, against them if `strength` is below 0; by brute force."""
    xi = np.random.default_rng(seed).choice([-1.0, 1.0], (n_patterns, n))
    J = strength * np.triu(xi.T @ xi, 1)
    machine, constant = spin_machine(n, [(i, j, J[i, j]) for i in range(n) for j in range(i + 1, n)])
    s = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return machine, float(logsumexp((s @ J * s).sum(1))) - constant


def extreme_biases(seed, shape, size):
    """A random RBM of which a unit of either side is always on, and one always off."""
    rng = np.random.default_rng(seed)
    W, a, b = rng.normal(size=shape), rng.normal(size=shape[0]), rng.normal(size=shape[1])
    a[:2] = b[:2] = size, -size
    return rbm(W, a, b), enumerated(W, a, b)


def many_scales(seed, shape):
    """Couplings with singular values from 30 to 0.001."""
    rng = np.random.default_rng(seed)
    left, _, right = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    W = (left * np.geomspace(30, 1e-3, left.shape[1])) @ right
    a, b = -W.sum(1) / 2, -W.sum(0) / 2
    return rbm(W, a, b), enumerated(W, a, b)


def lopsided(seed, shape):
    """Two units against a thousand."""
    rng = np.random.default_rng(seed)
    W, a, b = 3 * rng.normal(size=shape), *(rng.normal(size=n) for n in shape)
    (a if shape[0] == 2 else b)[:] = -200.0, 100.0
    return rbm(W, a, b), enumerated(W, a, b)


def odd_models():
    """Yield (name, machine, exact log Z) of machines that are unusual in some way."""
    yield "patterns 1 : 0.5, 40x80", *unequal_patterns(10, 20, (0.03, 0.015))
    yield "patterns 1 : 0.9, 32x120", *unequal_patterns(8, 30, (0.06, 0.054))
    yield "three patterns 24x80", *unequal_patterns(3, 10, (0.06, 0.05, 0.04))
    for strength, field in ((0.05, 0.02), (0.1, 0.05)):
        yield f"pattern 60x60 {strength} in a field", *unequal_patterns(30, 30, (strength,), field)
    for K in (-0.3, -1.0, 0.5):
        yield f"triangular lattice 6x12 K {K}", *triangular(6, 12, K)
    for J in (0.5, 2.0, 4.0):
        yield f"Potts chain J {J}", *potts(0, 16, 5, 12.0, J)
    for J in (0.18, 0.24):
        yield f"condensing 100x40 J {J}", *alike([100], [40], [[J]], [-18 * J], [-55 * J])
    yield "condensing 60x200", *alike([60], [200], [[0.25]], [-1.0], [-10.0])
    yield "condensing 200x60", *alike([200], [60], [[0.25]], [-2.0], [-15.0])
    for preference in (-3.0, 0.0, 3.0):
        yield f"switched {preference}", *switched(1, 14, 20, preference)
    for shape in ((2, 1000), (1000, 2)):
        yield f"lopsided {shape}", *lopsided(2, shape)
    for scale in (2.0, 8.0):
        yield f"star {scale}", *star(0, 300, scale)
    for noise in (1e-6, 1e-2):
        yield f"near duplicates {noise}", *duplicates(4, (14, 12), 8, noise)
    for strength in (-0.1, -0.5, 0.3):
        yield f"Hopfield {strength}", *hopfield(0, 16, 5, strength)
    for size in (50.0, 700.0):
        yield f"biases {size}", *extreme_biases(6, (14, 40), size)
    yield "singular values of many scales", *many_scales(8, (14, 60))


def solved_models():
    """Yield (name, machine, exact log Z)."""
    yield from odd_models()
    for scale in (0.3, 1.0, 2.0, 4.0, 8.0):
        for shape in ((64, 16), (16, 100), (18, 18), (500, 14)):
            yield f"random {shape[0]}x{shape[1]} scale {scale}", *random_rbm(int(scale * 10), shape, scale)
    for strength in (0.05, 0.15, 0.3, 0.6):
        yield f"planted 16x64 {strength}", *planted(1, (16, 64), strength)
        yield f"planted 4 patterns {strength}", *planted(2, (17, 64), 4 * strength, 4)
    yield "planted with field", *planted(3, (16, 64), 0.3, 1, 0.2)
    for n_blocks, shape in ((8, (8, 8)), (50, (10, 10)), (20, (12, 20))):
        for scale in (1.0, 3.0):
            yield f"{n_blocks} blocks {shape} scale {scale}", *blocks(n_blocks, n_blocks, shape, scale)
    for n, J in ((64, 0.02), (64, 0.06), (64, 0.1), (200, 0.02), (500, 0.008), (500, 0.012)):
        yield f"Curie-Weiss {n} J {J}", *curie_weiss(n, n, J, -J * n / 2, -J * n / 2)
    yield "Curie-Weiss 64x300 field", *curie_weiss(64, 300, 0.03, -4.2, -0.9)
    for scale in (0.5, 2.0, 6.0):
        yield f"chain 1000 scale {scale}", *chain(int(scale), 1000, scale)
        machine, constant, log_z = strip(int(scale), 8, 16, scale / 4)
        yield f"spin glass 8x16 scale {scale / 4}", machine, log_z - constant
    for K in (0.3, 0.44, 0.6):
        yield f"Ising torus 8x8 K {K}", *torus(8, 8, K)
        yield f"Ising torus 16x16 K {K}", *torus(16, 16, K)
        yield f"Ising torus 32x32 K {K}", *torus(32, 32, K)
        yield f"Ising torus 9x9 K {K}", *torus(9, 9, K)
    for scale in (1.0, 4.0):
        yield f"complete 18 scale {scale}", *complete(5, 18, scale)
    rng = np.random.default_rng(9)
    for size in (5.0, 50.0):
        W = rng.uniform(-size, size, (12, 64))
        a, b = rng.normal(size=12), rng.normal(size=64)
        yield f"huge weights {size}", rbm(W, a, b), enumerated(W, a, b)
    W, a, b = rng.normal(size=(1, 300)) * 2, rng.normal(size=1), rng.normal(size=300)
    yield "one unit against 300", rbm(W, a, b), enumerated(W, a, b)
    yield "golf hole", *golf_hole()
    for n_hidden, n_epochs in ((10, 20), (16, 60), (20, 100)):
        W, a, b = trained(digits(), n_hidden, n_epochs)
        yield f"digits 64x{n_hidden}", rbm(W, a, b), enumerated(W, a, b)
    images = mnist()
    if images is not None:
        for n_hidden, n_epochs in ((10, 3), (16, 6), (18, 10)):
            W, a, b = trained(images, n_hidden, n_epochs)
            yield f"MNIST 784x{n_hidden}", rbm(W, a, b), enumerated(W, a, b)
