"""Variable elimination against transfer matrices, enumeration and closed forms."""

import itertools

import networkx as nx
import numpy as np
import pytest
from networkx.algorithms.approximation import treewidth_min_fill_in

from dvae_core.graphs import graph_edges
from dvae_eval.exact import elimination as elimination_module
from dvae_eval.exact import elimination_orders
from dvae_eval.exact import plan as exact
from dvae_eval.exact.elimination import Elimination, elimination
from dvae_eval.exact.elimination_orders import cheapest_order
from dvae_eval.exact.enumeration import enumeration
from dvae_eval.exact.groups import grouped
from dvae_eval.exact.plan import exact_log_z, exact_plan, exact_route
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.test_machines.graphs import kaufman, torus
from tests.oracles import brute_log_z, enumerate_states, log_weights, order_cost, ring_log_z


def plan(J, b, **limits):
    """Return how to eliminate the units, J given as a dense strictly upper triangular matrix."""
    bonds = np.argwhere(J)
    return elimination(bonds, J[tuple(bonds.T)], b, **limits)


def log_z(J, b):
    found = plan(J, b)
    assert sorted(found.order + found.fixed) == list(range(len(b)))
    return found.log_z()


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_random_graphs(density, scale):
    """Connected or not, sparse or complete, to float64 rounding."""
    rng = np.random.default_rng(int(10 * density))
    J = np.triu(rng.normal(size=(11, 11)) * (rng.random((11, 11)) < density), 1) * scale
    b = rng.normal(size=11) * scale
    expected = brute_log_z(J, b)
    assert abs(log_z(J, b) - expected) < 1e-12 * max(1, abs(expected))


def test_a_ring_of_500_units():
    rng = np.random.default_rng(0)
    n, j, b = 500, rng.normal(size=500), rng.normal(size=500)
    J = np.zeros((n, n))
    J[np.arange(n - 1), np.arange(1, n)] = j[:-1]
    J[0, n - 1] = j[-1]
    assert abs(log_z(J, b) - ring_log_z(j, b)) < 1e-10 * n


def test_an_8_by_8_ising_model_against_its_transfer_matrix():
    """Row by row, a transfer matrix over 2^8 states of a row; free boundaries, random bonds."""
    rng = np.random.default_rng(1)
    side, J, b = 8, np.zeros((64, 64)), rng.normal(size=64)
    for r, c in itertools.product(range(side), repeat=2):
        if c + 1 < side:
            J[r * side + c, r * side + c + 1] = rng.normal()
        if r + 1 < side:
            J[r * side + c, (r + 1) * side + c] = rng.normal()
    rows = enumerate_states(side)
    log_v = np.zeros(2**side)
    for r in range(side):
        here = slice(r * side, (r + 1) * side)
        own = log_weights(J[here, here], b[here], rows)
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
    assert abs(log_z(J, b) - sum(brute_log_z(*part) for part in parts)) < 1e-11


def grid(side):
    return np.array(graph_edges(f"grid-{side}x{side}", side * side))


def test_a_graph_that_is_too_wide_is_declined_at_once():
    """A complete bipartite graph of 64 + 64 has width 64; an 8 x 8 grid has one of 8, and 64 tables."""
    bonds = np.array(list(itertools.product(range(64), range(64, 128))))
    assert cheapest_order(bonds, 128, 1 << 36) is None
    assert cheapest_order(grid(8), 64, 1 << 9) is None
    assert cheapest_order(grid(8), 64, 1 << 16) is not None


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
    sweep = Elimination(bonds, J[tuple(bonds.T)], b, interleaved.tolist(), [], 0).log_z()
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
    enumerated = enumeration(grouped(machine.reduced())).log_z()
    monkeypatch.setattr(exact, "QUICK", 0)
    assert exact_route(machine) == "elimination"
    assert abs(exact_log_z(machine) - enumerated) < 1e-12 * abs(enumerated)


def random_sparse(n, n_bonds, seed):
    """Return distinct random bonds of n units, couplings and biases."""
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(n), 2)))
    bonds = pairs[rng.permutation(len(pairs))[:n_bonds]]
    return bonds, rng.normal(size=n_bonds) * 2, rng.normal(size=n)


@pytest.mark.parametrize("seed", range(3))
def test_units_held_fixed_save_memory_and_change_nothing(seed):
    bonds, couplings, biases = random_sparse(40, 75, seed)
    free = elimination(bonds, couplings, biases)
    few = elimination(bonds, couplings, biases, max_bytes=8 * 48)
    assert not free.fixed
    assert len(few.fixed) > 2
    assert few.cost > free.cost
    told = []
    value = few.log_z(lambda p: told.append((p.done, p.total)))
    assert abs(value - free.log_z()) < 1e-12 * abs(value)
    assert told[-1][0] <= told[-1][1] == few.cost
    assert told == sorted(told)


def test_blocks_and_threads_change_nothing(monkeypatch):
    """Tables in blocks of 2^3 entries: the same sums, and the same bits for any number of threads."""
    bonds, couplings, biases = random_sparse(40, 80, 3)
    found = elimination(bonds, couplings, biases)
    whole = found.log_z()
    monkeypatch.setattr(elimination_module, "BLOCK_UNITS", 3)
    values = {found.log_z(threads=threads) for threads in (1, 2, 5)}
    assert len(values) == 1
    assert abs(values.pop() - whole) < 1e-13 * abs(whole)


def test_a_broken_elimination_is_noticed(monkeypatch):
    """Tables that are added up with one message forgotten."""
    bonds, couplings, biases = random_sparse(40, 75, 0)
    found = elimination(bonds, couplings, biases)
    right = found.log_z()
    whole = elimination_module.block_sum
    monkeypatch.setattr(elimination_module, "block_sum", lambda terms, *rest: whole(terms[:3], *rest))
    assert abs(found.log_z() - right) > 1e-3


@pytest.mark.parametrize(("shape", "K"), [((8, 8), 0.4406867935097715), ((4, 40), 0.3), ((10, 10), 0.5)])
def test_tori_against_kaufmans_formula(shape, K):
    machine, expected = torus(*shape, K)
    assert exact_route(machine) == "elimination"
    assert abs(exact_log_z(machine) - expected) < 1e-12 * kaufman(*shape, K)


@pytest.mark.slow
def test_a_torus_of_144_units_against_kaufmans_formula():
    machine, expected = torus(12, 12, 0.44)
    assert abs(exact_log_z(machine) - expected) < 1e-10


# --- orders -------------------------------------------------------------------------------------------------

LATTICES = {
    "grid-16x16": 1 << 25,
    "grid-22x22": 1 << 30,
    "grid-8x60": 1 << 20,
    "chimera-4x4x4": 1 << 26,
    "chimera-6x6x4": 1 << 33,
    "ring": 1 << 12,
}


@pytest.mark.parametrize("graph", LATTICES)
def test_lattices_have_cheap_orders(graph):
    """However their units are numbered; the limits are about twice what is found."""
    n = {"ring": 500, "chimera-4x4x4": 128, "chimera-6x6x4": 288, "grid-8x60": 480}.get(graph)
    n = n or int(graph.split("x")[1]) ** 2
    bonds = np.random.default_rng(6).permutation(n)[np.array(graph_edges(graph, n))]
    order = cheapest_order(bonds, n, 1 << 36)
    assert sorted(order) == list(range(n))
    assert order_cost(bonds, n, order) < LATTICES[graph]


def test_a_thousand_units_and_a_few_thousand_bonds():
    """A band of 500 + 500 units with 4480 bonds, and a sparse machine of as many units."""
    rng = np.random.default_rng(7)
    band = np.abs(np.subtract.outer(np.arange(500), np.arange(500))) <= 4
    few = np.zeros(500 * 500, bool)
    few[rng.permutation(few.size)[:700]] = True
    for mask in (band, few.reshape(500, 500)):
        W = np.where(mask, rng.normal(size=(500, 500)), 0)
        machine = BipartiteMachine.from_arrays(W, rng.normal(size=500), rng.normal(size=500))
        flipped = BipartiteMachine.from_arrays(-W, -machine.b_left, machine.b_right + W.sum(0))
        assert exact_plan(machine).seconds < 1
        value = exact_log_z(machine)
        assert abs(value - exact_log_z(flipped) - machine.b_left.sum()) < 1e-12 * abs(value)


@pytest.mark.parametrize("seed", range(5))
def test_the_cost_of_an_order_is_that_of_its_tables(seed):
    """Told by the search, by the improvement and by the tables themselves."""
    bonds, couplings, biases = random_sparse(30, 50, seed)
    graph = elimination_orders._graph(bonds, 30)
    order = np.random.default_rng(seed).permutation(30).tolist()
    cost = order_cost(bonds, 30, order)
    steps = elimination_module.steps_of(bonds, couplings, order)
    assert cost == sum(2 << len(step.scope) for step in steps)
    improved, its_cost = elimination_orders._improved(graph, order, 0)
    assert sorted(improved) == list(range(30))
    assert its_cost == order_cost(bonds, 30, improved) < cost
    values = [Elimination(bonds, couplings, biases, o, [], 0).log_z() for o in (order, improved)]
    assert abs(values[0] - values[1]) < 1e-12 * abs(values[0])


@pytest.mark.parametrize("seed", range(20))
def test_a_lower_bound_of_the_width_is_one(seed):
    """No graph is said to be wider than the order that networkx finds for it, and a complete one is n - 1 wide."""
    bonds, _, _ = random_sparse(24, 23 + 5 * seed, seed)
    width, _ = treewidth_min_fill_in(nx.Graph(bonds.tolist()))
    graph = elimination_orders._neighbours(bonds, 24)
    assert not elimination_orders._is_wider(graph, width)
    complete = elimination_orders._neighbours(np.array(list(itertools.combinations(range(9), 2))), 9)
    assert elimination_orders._is_wider(complete, 7)
    assert not elimination_orders._is_wider(complete, 8)


def test_a_large_graph_that_is_far_too_wide_is_given_up_before_the_long_search(monkeypatch):
    """A grid of 60 x 60 units: without the quick look, orders by least fill would be tried, which take minutes."""

    def least_fill(graph, unit):
        raise AssertionError

    monkeypatch.setattr(elimination_orders, "_fill", least_fill)
    bonds = np.random.default_rng(6).permutation(3600)[np.array(graph_edges("grid-60x60", 3600))]
    assert cheapest_order(bonds, 3600, 1 << 36) is None
    monkeypatch.setattr(elimination_orders, "HOPELESS", 200)
    with pytest.raises(AssertionError):
        cheapest_order(bonds, 3600, 1 << 36)


def thinned_tree(n, width, is_path):
    """Return bonds of a graph of this width at most: each unit is joined to most of a clique of earlier ones."""
    rng = np.random.default_rng(width)
    cliques, bonds = [list(range(width))], list(itertools.combinations(range(width), 2))
    for unit in range(width, n):
        clique = cliques[-1 if is_path else rng.integers(len(cliques))]
        bonds += [(i, unit) for i in clique]
        cliques.append([*np.delete(clique, rng.integers(width)), unit])
    return np.array(bonds)[rng.random(len(bonds)) < 0.7]


@pytest.mark.parametrize("is_path", [True, False])
def test_large_graphs_of_small_width_are_not_given_up(is_path):
    """A sweep takes 2^300 operations for the second of them, and least degree 2^23."""
    order = cheapest_order(thinned_tree(1500, 12, is_path), 1500, 1 << 28)
    assert sorted(order) == list(range(1500))
