"""Exact log Z by every route: against naive enumeration, closed forms, symmetries, and one another."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from dvae_core.errors import ConfigError, DataError
from dvae_core.progress import ignore
from dvae_eval.exact import enumeration
from dvae_eval.exact.elimination import Elimination
from dvae_eval.exact.groups import grouped
from dvae_eval.exact.plan import (
    AUTO_SECONDS,
    EXACT_SECONDS,
    exact_log_z,
    exact_plan,
    exact_route,
)
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.test_machines.graphs import kaufman, torus
from tests.oracles import bipartite, brute_log_z


def random_machine(n_left, n_right, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    arrays = (rng.normal(size=shape) * scale for shape in ((n_left, n_right), n_left, n_right))
    return BipartiteMachine.from_arrays(*arrays)


@pytest.mark.parametrize(("n_left", "n_right"), [(3, 2), (2, 5), (1, 1), (1, 6), (4, 4)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_agrees_with_naive_enumeration(n_left, n_right, scale):
    machine = random_machine(n_left, n_right, scale)
    expected = brute_log_z(*bipartite(machine.W, machine.b_left, machine.b_right))
    assert abs(exact_log_z(machine) - expected) < 1e-12 * max(1, abs(expected))


def test_independent_units_have_a_closed_form():
    rng = np.random.default_rng(1)
    b, c = rng.normal(size=700) * 5, rng.normal(size=12) * 5
    expected = np.logaddexp(0, b).sum() + np.logaddexp(0, c).sum()
    machine = BipartiteMachine.from_arrays(np.zeros((700, 12)), b, c)
    assert abs(exact_log_z(machine) - expected) < 1e-12 * expected


def test_flipping_a_unit_changes_log_z_by_its_bias():
    """Gauge symmetry: v_0 -> 1 - v_0 moves W's row into the other side's biases."""
    machine = random_machine(6, 5, seed=2)
    W, b, c = machine.W.copy(), machine.b_left.copy(), machine.b_right + machine.W[0]
    W[0], b[0] = -W[0], -b[0]
    flipped = BipartiteMachine.from_arrays(W, b, c)
    assert abs(exact_log_z(machine) - exact_log_z(flipped) - machine.b_left[0]) < 1e-11


def test_permuting_the_units_and_exchanging_the_sides_changes_nothing():
    machine, rng = random_machine(9, 14, 2.0, seed=3), np.random.default_rng(4)
    left, right = rng.permutation(9), rng.permutation(14)
    other = BipartiteMachine.from_arrays(
        machine.W[np.ix_(left, right)].T, machine.b_right[right], machine.b_left[left]
    )
    assert abs(exact_log_z(machine) - exact_log_z(other)) < 1e-12 * abs(exact_log_z(machine))


# --- the compiled enumeration -------------------------------------------------------------------------------


@pytest.fixture
def compiled(monkeypatch):
    """Leave nothing to plain NumPy, and take many tasks."""
    monkeypatch.setattr(enumeration, "PLAIN_FACTORS", 0)
    monkeypatch.setattr(enumeration, "TASK_SECONDS", 1e-5)


def random_graph(n, density, scale, seed=0):
    rng = np.random.default_rng(seed)
    J = np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < density), 1) * scale
    return machine_from_couplings(J, rng.normal(size=n) * scale)


def enumerated_log_z(reduced, report=ignore, threads=None):
    """Return log Z by enumerating the kept units as if they were one part."""
    return enumeration.enumeration(grouped(reduced)).log_z(report, threads)


def both_ways(reduced, monkeypatch):
    """Return log Z by the compiled loops and by NumPy."""
    compiled = enumerated_log_z(reduced)
    monkeypatch.setattr(enumeration, "PLAIN_FACTORS", 1 << 30)
    return compiled, enumerated_log_z(reduced)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("sizes", [(13, 17), (10, 90), (1, 5), (6, 2)])
def test_the_compiled_enumeration_of_two_sides(compiled, monkeypatch, sizes, scale):
    """Weights of any size: the exponents are put aside in time, or all is left to logarithms."""
    fast, plain = both_ways(random_machine(*sizes, scale).reduced(), monkeypatch)
    assert abs(fast - plain) < 1e-13 * max(1, abs(plain))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_the_compiled_enumeration_of_a_graph(compiled, monkeypatch, density, scale):
    """Couplings among the kept units, of one part of the states and across."""
    fast, plain = both_ways(random_graph(17, density, scale).reduced(), monkeypatch)
    assert abs(fast - plain) < 1e-13 * max(1, abs(plain))


def test_a_broken_enumeration_is_noticed(compiled, monkeypatch):
    """Without the couplings between low and high states, or the exponents, the value is another one."""
    reduced = random_graph(17, 1.0, 0.1).reduced()
    fast, plain = both_ways(reduced, monkeypatch)
    high = enumeration.high_states
    monkeypatch.setattr(enumeration, "PLAIN_FACTORS", 0)
    monkeypatch.setattr(
        enumeration, "high_states", lambda plan: (h := high(plan))._replace(cross=np.zeros_like(h.cross))
    )
    assert abs(fast - plain) < 1e-13 * plain < 1e-3 < abs(enumerated_log_z(reduced) - plain)


@pytest.mark.parametrize("make", [lambda: random_machine(14, 30), lambda: random_graph(19, 0.8, 1.0)])
def test_any_number_of_threads_gives_the_same_bits(compiled, make):
    reduced, told = make().reduced(), []

    def report(progress):
        told.append((progress.done, progress.total))

    values = {enumerated_log_z(reduced, report, threads) for threads in (1, 2, 5)}
    assert len(values) == 1
    states = 1 << len(reduced.b)
    assert told[: len(told) // 3] == sorted(told)[::3]
    assert told[-1] == (states, states)
    assert len(told) > 9


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(26, 64), (21, 500)])
def test_large_enumerations(sizes):
    """Units kept by halves: log Z of both halves of the machine, one unit held off or on, make up the whole."""
    machine = random_machine(*sizes, 0.3)
    halves = [
        BipartiteMachine.from_arrays(machine.W[1:], machine.b_left[1:], machine.b_right + on * machine.W[0])
        for on in (0, 1)
    ]
    off, on = map(exact_log_z, halves)
    assert abs(np.logaddexp(off, on + machine.b_left[0]) - exact_log_z(machine)) < 1e-12 * abs(off)


# --- units that act alike -----------------------------------------------------------------------------------


def curie_weiss(n, J, h):
    return machine_from_couplings(np.triu(np.full((n, n), J), 1), np.full(n, h))


def test_a_curie_weiss_model_of_120_units():
    """All pairs alike: log Z = log Σ_k C(n, k) exp(J k (k - 1) / 2 + h k), with two modes."""
    n, J, h = 120, 4 * 1.2 / 120, -2 * 1.2 * 119 / 120
    k = np.arange(n + 1)
    expected = np.logaddexp.reduce(
        gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + J * k * (k - 1) / 2 + h * k
    )
    machine = curie_weiss(n, J, h)
    assert exact_plan(machine).seconds < 1
    assert abs(exact_log_z(machine) - expected) < 1e-12 * expected


def test_curie_weiss_with_a_random_field():
    """The couplings alone make units alike: with biases of their own, still n + 1 states; and by brute force."""
    rng = np.random.default_rng(0)
    J, b = np.triu(np.full((12, 12), 0.7), 1), rng.normal(size=12)
    assert grouped(machine_from_couplings(J, b).reduced()).n_states == 12
    assert abs(exact_log_z(machine_from_couplings(J, b)) - brute_log_z(J, b)) < 1e-12 * abs(brute_log_z(J, b))


def planted(n_left, n_right, n_patterns, strength, seed=0):
    """Patterns of both signs in an RBM: rows that are alike but for their sign."""
    rng = np.random.default_rng(seed)
    left, right = (rng.choice([-1.0, 1.0], size=(n_patterns, n)) for n in (n_left, n_right))
    W = strength * left.T @ right
    return BipartiteMachine.from_arrays(W, rng.normal(size=n_left) - W.sum(1) / 2, -W.sum(0) / 2)


@pytest.mark.parametrize(("n_patterns", "n_groups"), [(1, 1), (2, 2), (3, 4)])
def test_planted_patterns(n_patterns, n_groups):
    """Against the enumeration of all states, which it takes as soon as W is off by 1e-15."""
    machine = planted(12, 40, n_patterns, 0.4)
    assert len(grouped(machine.reduced()).counts) == n_groups
    W = machine.W + 1e-15 * np.random.default_rng(1).normal(size=machine.W.shape)
    noisy = BipartiteMachine.from_arrays(W, machine.b_left, machine.b_right)
    assert len(grouped(noisy.reduced()).counts) == 12
    assert abs(exact_log_z(machine) - exact_log_z(noisy)) < 1e-12 * abs(exact_log_z(noisy))


@pytest.mark.parametrize("seed", range(4))
def test_groups_that_are_coupled_to_one_another(seed, compiled):
    """Three populations of units with signs, coupled within and across, and two single units; by brute force."""
    rng = np.random.default_rng(seed)
    group, sign = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4]), rng.choice([-1, 1], size=11)
    couplings = rng.normal(size=(5, 5))
    J = np.triu(((couplings + couplings.T)[np.ix_(group, group)]) * np.outer(sign, sign), 1)
    machine, shuffled = machine_from_couplings(J, b := rng.normal(size=11)), rng.permutation(11)
    assert grouped(machine.reduced()).n_states <= 4 * 5 * 3 * 2 * 2
    symmetric = (J + J.T)[np.ix_(shuffled, shuffled)]
    expected = brute_log_z(J, b)
    for value in (exact_log_z(machine), exact_log_z(machine_from_couplings(symmetric, b[shuffled]))):
        assert abs(value - expected) < 1e-12 * max(1, abs(expected))


def test_units_that_differ_a_little_are_not_alike():
    machine = planted(10, 10, 1, 0.4)
    W = machine.W.copy()
    W[0, 0] *= 1 + 1e-9
    counts = grouped(BipartiteMachine.from_arrays(W, machine.b_left, machine.b_right).reduced()).counts
    assert sorted(counts) == [2, 10]


# --- the choice of a route ----------------------------------------------------------------------------------


def disconnected():
    """A dense RBM, a chain of 60 units and units alone, as one machine; and what their log Z are on their own."""
    rng = np.random.default_rng(7)
    dense, chain, alone = random_machine(5, 8), rng.normal(size=59), rng.normal(size=9)
    J, b = np.zeros((82, 82)), np.concatenate((dense.b_left, dense.b_right, rng.normal(size=60), alone))
    J[:5, 5:13] = dense.W
    J[np.arange(13, 72), np.arange(14, 73)] = chain
    log_z = enumerated_log_z(dense.reduced()) + chain_log_z(chain, b[13:73]) + np.logaddexp(0, alone).sum()
    return J, b, log_z


def chain_log_z(J, b):
    """Return log Z of a chain, from its end to its start."""
    off, on = 0.0, b[-1]
    for coupling, bias in zip(J[::-1], b[-2::-1], strict=True):
        off, on = np.logaddexp(off, on), bias + np.logaddexp(off, on + coupling)
    return np.logaddexp(off, on)


def test_parts_that_are_not_connected_multiply():
    J, b, expected = disconnected()
    order = np.random.default_rng(8).permutation(len(b))
    for machine in (
        machine_from_couplings(J, b),
        machine_from_couplings((J + J.T)[np.ix_(order, order)], b[order]),
    ):
        assert set(exact_route(machine).split(" + ")) == {"elimination", "enumeration", "independent units"}
        assert abs(exact_log_z(machine) - expected) < 1e-12 * abs(expected)


def test_a_triangle_beside_it_does_not_make_a_dense_part_dear():
    """The machine is not bipartite, a part of it is: its smaller side is enumerated all the same."""
    rng = np.random.default_rng(9)
    J, b = np.zeros((63, 63)), rng.normal(size=63)
    J[:10, 10:60] = rng.normal(size=(10, 50))
    J[60, 61] = J[60, 62] = J[61, 62] = 1.0
    rbm = BipartiteMachine.from_arrays(J[:10, 10:60], b[:10], b[10:60])
    expected = exact_log_z(rbm) + brute_log_z(J[60:, 60:], b[60:])
    assert abs(exact_log_z(machine_from_couplings(J, b)) - expected) < 1e-12 * abs(expected)


def test_progress_grows_to_its_end():
    told = []
    J, b, _ = disconnected()
    exact_plan(machine_from_couplings(J, b)).log_z(lambda p: told.append((p.done, p.total)))
    exact_log_z(random_machine(17, 64), lambda p: told.append((p.done, p.total)))
    for total in {total for _, total in told}:
        done = [d for d, t in told if t == total]
        assert done == sorted(done)
        assert done[-1] <= total
    assert told[-1][0] == told[-1][1]


def test_what_takes_too_long_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^--method exact: 40 units .* takes about \d+ h \d\d min, .*pt-bar$"):
        exact_log_z(random_machine(40, 40))
    with pytest.raises(ConfigError, match=r"500 units would have to be enumerated, .*pt-bar"):
        exact_log_z(random_machine(500, 500))
    assert grouped(random_machine(70, 70).reduced()) is None
    with pytest.raises(ConfigError, match="too many units to enumerate"):
        exact_plan(random_machine(70, 70)).log_z()


def test_the_time_that_the_exact_value_takes_decides():
    """By itself up to half a minute, when it is asked for up to ten minutes."""
    assert exact_route(random_machine(28, 64)) == "enumeration"
    assert exact_route(random_machine(25, 500)) == "enumeration"
    assert exact_route(random_machine(34, 64)) is None
    assert exact_route(random_machine(34, 64), EXACT_SECONDS) == "enumeration"
    assert exact_route(random_machine(64, 64), EXACT_SECONDS) is None
    assert AUTO_SECONDS < exact_plan(random_machine(34, 64)).seconds < EXACT_SECONDS
    assert exact_plan(random_machine(500, 500)).seconds == np.inf


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_all_routes_agree_on_any_small_machine(data):
    """Few distinct couplings, so that groups, parts and units alone are common; by brute force."""
    n = data.draw(st.integers(1, 8))
    values = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 3.0])
    J = np.zeros((n, n))
    for i, j in itertools.combinations(range(n), 2):
        J[i, j] = data.draw(values)
    b = np.array([data.draw(st.sampled_from([0.0, 1.0, -0.5, -20.0])) for _ in range(n)])
    machine, expected = machine_from_couplings(J, b), brute_log_z(J, b)
    reduced = machine.reduced()
    bonds, couplings = reduced.bonds()
    found = [exact_log_z(machine), enumerated_log_z(reduced)]
    found.append(Elimination(bonds, couplings, reduced.biases, list(range(n)), [], 0).log_z())
    assert np.abs(np.array(found) - expected).max() < 1e-12 * max(1, abs(expected))


@pytest.mark.parametrize("K", [0.05, 0.3, np.log(1 + np.sqrt(2)) / 2, 0.6, 2.0])
@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (6, 6), (8, 8), (5, 12)])
def test_ising_models_on_a_torus_against_kaufmans_formula(shape, K):
    """High and low temperatures and the critical one, by enumeration and by elimination."""
    machine, expected = torus(*shape, K)
    assert abs(exact_log_z(machine) - expected) < 1e-12 * kaufman(*shape, K)


def test_a_coupling_that_is_a_little_off_is_noticed():
    """1e-9 of it, which moves log Z by more than the tolerance of all tests here."""
    machine, expected = torus(4, 4, 0.3)
    shift = kaufman(4, 4, 0.3 * (1 + 1e-9)) - kaufman(4, 4, 0.3)
    assert abs(exact_log_z(machine) - expected - shift) > 1e-9


# --- what machines are made of ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("W", "b", "c", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3), np.zeros(3), "b_left has shape"),
        (np.zeros((2, 0)), np.zeros(2), np.zeros(0), "both at least 1"),
        (np.zeros(3), np.zeros(2), np.zeros(0), "W has shape"),
        (np.full((2, 2), np.nan), np.zeros(2), np.zeros(2), "nan or infinite"),
        (np.zeros((2, 2), complex), np.zeros(2), np.zeros(2), "complex"),
        (np.array([["a"]]), np.zeros(1), np.zeros(1), "real numbers"),
    ],
)
def test_bad_arrays_are_refused(W, b, c, message):
    with pytest.raises(DataError, match=message):
        BipartiteMachine.from_arrays(W, b, c)
