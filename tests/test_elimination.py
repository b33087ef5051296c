"""Variable elimination against transfer matrices, enumeration and closed forms."""

import itertools

import numpy as np
import pytest

from dvae_core.graphs import graph_edges
from dvae_eval import exact
from dvae_eval.elimination import elimination_order, log_z_by_elimination
from dvae_eval.exact import enumerated_log_z, exact_log_z, exact_route
from dvae_eval.log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, machine_from_couplings


def log_z(J, b, max_width=12):
    """Return log Z by elimination, J given as a dense strictly upper triangular matrix."""
    bonds = np.argwhere(J)
    order = elimination_order(bonds, len(b), max_width)
    assert sorted(order) == list(range(len(b)))
    return log_z_by_elimination(bonds, J[tuple(bonds.T)], b, order)


def brute_force(J, b):
    states = np.array(list(itertools.product((0, 1), repeat=len(b))), dtype=float)
    exponents = np.einsum("ni,ij,nj->n", states, J, states) + states @ b
    return np.logaddexp.reduce(exponents)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_random_graphs(density, scale):
    """Connected or not, sparse or complete, to float64 rounding."""
    rng = np.random.default_rng(int(10 * density))
    J = np.triu(rng.normal(size=(11, 11)) * (rng.random((11, 11)) < density), 1) * scale
    b = rng.normal(size=11) * scale
    expected = brute_force(J, b)
    assert abs(log_z(J, b) - expected) < 1e-12 * max(1, abs(expected))


def ring_by_transfer_matrix(J, b):
    """Return log Z of a ring with couplings J[i] between i and i + 1."""
    total, scale = np.eye(2), 0.0
    for coupling, bias in zip(J, b, strict=True):
        total = total @ np.array([[1.0, 1.0], [np.exp(bias), np.exp(bias + coupling)]])
        scale, total = scale + np.log(total.max()), total / total.max()
    return scale + np.log(np.trace(total))


def test_a_ring_of_500_units():
    rng = np.random.default_rng(0)
    n, j, b = 500, rng.normal(size=500), rng.normal(size=500)
    J = np.zeros((n, n))
    J[np.arange(n - 1), np.arange(1, n)] = j[:-1]
    J[0, n - 1] = j[-1]
    assert abs(log_z(J, b) - ring_by_transfer_matrix(j, b)) < 1e-10 * n


def test_an_8_by_8_ising_model_against_its_transfer_matrix():
    """Row by row, a transfer matrix over 2^8 states of a row; free boundaries, random bonds."""
    rng = np.random.default_rng(1)
    side, J, b = 8, np.zeros((64, 64)), rng.normal(size=64)
    for r, c in itertools.product(range(side), repeat=2):
        if c + 1 < side:
            J[r * side + c, r * side + c + 1] = rng.normal()
        if r + 1 < side:
            J[r * side + c, (r + 1) * side + c] = rng.normal()
    rows = np.array(list(itertools.product((0, 1), repeat=side)), dtype=float)
    log_v = np.zeros(2**side)
    for r in range(side):
        here = slice(r * side, (r + 1) * side)
        own = np.einsum("ni,ij,nj->n", rows, J[here, here], rows) + rows @ b[here]
        if r == 0:
            log_v = own
        else:
            bond = np.diag(J[(r - 1) * side : r * side, here])
            log_v = own + np.logaddexp.reduce(log_v[:, None] + (rows * bond) @ rows.T, axis=0)
    assert abs(log_z(J, b) - np.logaddexp.reduce(log_v)) < 1e-9


def test_disconnected_parts_multiply():
    rng = np.random.default_rng(2)
    parts = [(np.triu(rng.normal(size=(n, n)), 1), rng.normal(size=n)) for n in (3, 5, 1)]
    J, b = np.zeros((9, 9)), np.concatenate([part[1] for part in parts])
    start = 0
    for part, _ in parts:
        J[start : start + len(part), start : start + len(part)] = part
        start += len(part)
    assert abs(log_z(J, b) - sum(brute_force(*part) for part in parts)) < 1e-11


def test_a_graph_that_is_too_wide_is_declined_at_once():
    """A complete bipartite graph of 64 + 64 has width 64."""
    bonds = [(i, 64 + j) for i in range(64) for j in range(64)]
    assert elimination_order(np.array(bonds), 128) is None
    grid = [(8 * r + c, 8 * r + c + 1) for r in range(8) for c in range(7)]
    grid += [(8 * r + c, 8 * r + 8 + c) for r in range(7) for c in range(8)]
    assert elimination_order(np.array(grid), 64, max_width=3) is None
    assert elimination_order(np.array(grid), 64, max_width=12) is not None


def test_a_banded_bipartite_machine_of_64_by_64():
    """Bonds |i - j| <= 2 only; the same machine by a transfer matrix along the band would have 2^4 states."""
    rng = np.random.default_rng(3)
    W = np.where(np.abs(np.subtract.outer(np.arange(64), np.arange(64))) <= 2, rng.normal(size=(64, 64)), 0)
    J = np.zeros((128, 128))
    J[:64, 64:] = W
    b = rng.normal(size=128)
    # Interleave the sides: unit k of either side only meets units k - 2 .. k + 2 of the other.
    interleaved = np.argsort(np.concatenate((np.arange(64), np.arange(64) + 0.5)))
    bonds = np.argwhere(J)
    sweep = log_z_by_elimination(bonds, J[tuple(bonds.T)], b, interleaved.tolist())
    assert abs(log_z(J, b) - sweep) < 1e-9


@pytest.mark.parametrize("graph", ["grid-6x8", "chimera-3x3x4", "ring"])
def test_machines_that_are_too_large_to_enumerate_are_exact_by_default(graph):
    """No side and no class has under 21 units; a permutation of the units changes nothing."""
    rng = np.random.default_rng(4)
    n = {"grid-6x8": 48, "chimera-3x3x4": 72, "ring": 60}[graph]
    J = np.zeros((n, n))
    for i, j in graph_edges(graph, n):
        J[i, j] = rng.normal()
    b = rng.normal(size=n)
    result = estimate_log_z(machine_from_couplings(J, b))
    assert (result.method, result.std_err) == ("exact", 0.0)
    shuffled = rng.permutation(n)
    symmetric = (J + J.T)[np.ix_(shuffled, shuffled)]
    again = estimate_log_z(machine_from_couplings(symmetric, b[shuffled]))
    assert abs(again.log_z - result.log_z) < 1e-10 * abs(result.log_z)


def test_both_exact_routes_agree(monkeypatch):
    rng = np.random.default_rng(5)
    W = np.where(np.abs(np.subtract.outer(np.arange(14), np.arange(14))) <= 2, rng.normal(size=(14, 14)), 0)
    machine = BipartiteMachine.from_arrays(W, rng.normal(size=14), rng.normal(size=14))
    enumerated = enumerated_log_z(machine.reduced())
    monkeypatch.setattr(exact, "QUICKLY_ENUMERATED", 0)
    assert exact_route(machine) == "elimination"
    assert abs(exact_log_z(machine) - enumerated) < 1e-12 * abs(enumerated)
