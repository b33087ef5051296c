"""Independent states by enumeration and elimination: their frequencies against those of every state."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
from scipy import stats

from dvae_core.graphs import graph_edges
from dvae_eval.exact import elimination_draws, enumeration_draws
from dvae_eval.exact.draws import best_exactly, draw_exactly
from dvae_eval.exact.elimination import elimination
from dvae_eval.exact.enumeration import Enumeration, enumeration
from dvae_eval.exact.plan import ExactPlan, Part, exact_plan
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from tests.oracles import FALSE_ALARM, bipartite, brute_log_z, log_probabilities, numbers, p_value

N = 20_000


def normal(shape, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def in_parts():
    """Units alone, a pair, a path and a triangle, which are not bipartite together."""
    J = np.zeros((9, 9))
    for i, j, value in ((0, 3, 2.0), (1, 6, -1.5), (3, 5, -1.0), (4, 7, 1.0), (2, 4, -2.0), (2, 7, 1.5)):
        J[i, j] = value
    return J


def alike(sign):
    """Units with couplings of one size, of either sign: they make one group."""
    return np.triu(np.outer(sign, sign) * 0.5, 1)


MACHINES = {
    "glass": (np.triu(normal((9, 9), 0), 1), normal(9, 1)),
    "rbm": bipartite(normal((4, 5), 2), normal(4, 3), normal(5, 4)),
    "wide rbm": bipartite(normal((6, 3), 5), normal(6, 6), normal(3, 7)),
    "chain": (np.diag(normal(8, 8, 2.0), 1), normal(9, 9)),
    "parts": (in_parts(), normal(9, 10)),
    "alike": (alike(np.ones(8)), normal(8, 11)),
    "alike but for signs": (alike(np.array([1, -1, 1, 1, -1, -1, 1, -1])), normal(8, 12)),
    "alone": (np.zeros((4, 4)), normal(4, 13)),
}


@pytest.fixture(params=MACHINES)
def arrays(request):
    return MACHINES[request.param]


def eliminated(machine, max_bytes=None):
    """A plan that eliminates all units of a connected machine, with few bytes fixing some of them."""
    reduced = machine.reduced()
    bonds, couplings = reduced.bonds()
    way = elimination(bonds, couplings, reduced.biases, max_bytes=max_bytes)
    return ExactPlan((Part("elimination", 0.0, way.log_z, "", np.arange(machine.n_units), way),))


def test_states_are_as_frequent_as_they_are_probable(arrays):
    """8 tests, each failed by a sound sampler once in 10 000 seeds; the value is as exact as that of a sum."""
    machine = machine_from_couplings(*arrays)
    states, log_z = draw_exactly(machine, exact_plan(machine), N, seed=1)
    assert p_value(states, log_probabilities(*arrays)) > FALSE_ALARM
    assert log_z == pytest.approx(brute_log_z(*arrays), abs=1e-10)


def test_the_best_state_is_the_most_probable_one(arrays):
    machine, log_p = machine_from_couplings(*arrays), log_probabilities(*arrays)
    best = best_exactly(machine, exact_plan(machine))
    assert log_p[numbers(best[None])[0]] == log_p.max()


@pytest.mark.parametrize("name", ["glass", "rbm", "chain", "alike"])
@pytest.mark.parametrize("max_bytes", [None, 300], ids=["plain", "units fixed"])
@pytest.mark.parametrize("draw_bytes", [1 << 30, 300], ids=["all tables", "stretches"])
def test_elimination_draws_the_same_distribution(name, max_bytes, draw_bytes, monkeypatch):
    """16 tests, each failed by a sound sampler once in 10 000 seeds."""
    machine, log_p = machine_from_couplings(*MACHINES[name]), log_probabilities(*MACHINES[name])
    plan = eliminated(machine, max_bytes)
    assert bool(plan.parts[0].way.fixed) == (max_bytes is not None and name != "chain")
    monkeypatch.setattr("dvae_eval.exact.draws._most", lambda: draw_bytes)
    states, log_z = draw_exactly(machine, plan, N, seed=2)
    assert p_value(states, log_p) > FALSE_ALARM
    assert log_z == pytest.approx(brute_log_z(*MACHINES[name]), abs=1e-10)
    assert log_p[numbers(best_exactly(machine, plan)[None])[0]] == log_p.max()


@pytest.mark.parametrize("name", ["glass", "rbm", "alike"])
@pytest.mark.parametrize("n_blocks", [1 << 16, 3])
def test_blocks_draw_the_same_distribution(name, n_blocks, monkeypatch):
    """Where no table holds all states: 6 tests, each failed by a sound sampler once in 10 000 seeds."""
    monkeypatch.setattr("dvae_eval.exact.enumeration.PLAIN_FACTORS", 1)
    monkeypatch.setattr(enumeration_draws, "MAX_TABLE", 1)
    monkeypatch.setattr(enumeration_draws, "MAX_BLOCKS", n_blocks)
    machine = machine_from_couplings(*MACHINES[name])
    (part,) = exact_plan(machine).parts
    way = enumeration(part.way.machine)
    if n_blocks == 3 and len(way.machine.members) > 1:  # most of the states are high ones
        way = dataclasses.replace(way, n_inner=1, n_low=1)
    plan = ExactPlan((dataclasses.replace(part, way=way),))
    assert isinstance(plan.parts[0].way, Enumeration)
    states, log_z = draw_exactly(machine, plan, N, seed=3)
    assert p_value(states, log_probabilities(*MACHINES[name])) > FALSE_ALARM
    assert log_z == pytest.approx(brute_log_z(*MACHINES[name]), abs=1e-10)
    assert best_exactly(machine, plan) is None


def test_p_values_are_uniform_over_seeds():
    """200 draws by elimination: the test above has the false-alarm rate that it states (fails once in 1000)."""
    machine, log_p = machine_from_couplings(*MACHINES["chain"]), log_probabilities(*MACHINES["chain"])
    plan = eliminated(machine)
    found = [p_value(draw_exactly(machine, plan, 2000, seed)[0], log_p) for seed in range(200)]
    assert stats.kstest(found, "uniform").pvalue > 1e-3


# --- broken samplers are rejected ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rbm", "wide rbm"])
def test_summed_units_from_their_marginals_are_rejected(name):
    """The right means, and no correlation with the kept side: what a sampler makes that forgets the latter."""
    machine = machine_from_couplings(*MACHINES[name])
    states, _ = draw_exactly(machine, exact_plan(machine), N, seed=1)
    summed = machine.reduced_units()[len(machine.reduced().b) :]
    broken = states.copy()
    broken[:, summed] = np.random.default_rng(0).permuted(states[:, summed], axis=0)
    assert p_value(broken, log_probabilities(*MACHINES[name])) < 1e-12


def test_messages_of_the_wrong_unit_are_rejected(monkeypatch):
    """Bonds forgotten on the way back: every unit is drawn by its bias and messages alone."""
    machine = machine_from_couplings(*MACHINES["chain"])

    def broken(self, step, tables, states, biases):
        return odds(self, dataclasses.replace(step, bonds=[]), tables, states, biases)

    odds = elimination_draws._Passes._odds
    monkeypatch.setattr(elimination_draws._Passes, "_odds", broken)
    states, _ = draw_exactly(machine, eliminated(machine), N, seed=2)
    assert p_value(states, log_probabilities(*MACHINES["chain"])) < 1e-12


def test_units_of_a_group_without_their_biases_are_rejected(monkeypatch):
    """All states of a group with the same sum alike: what a sampler makes that forgets how their biases differ."""
    machine = machine_from_couplings(*MACHINES["alike"])
    (part,) = exact_plan(machine).parts
    grouped = part.way.machine
    mean = np.mean([bias for _, bias, _ in grouped.members[0]])
    members = (tuple((unit, mean, sign) for unit, _, sign in grouped.members[0]),)
    broken = dataclasses.replace(part.way, machine=dataclasses.replace(grouped, members=members))
    states, _ = draw_exactly(machine, ExactPlan((dataclasses.replace(part, way=broken),)), N, seed=1)
    assert p_value(states, log_probabilities(*MACHINES["alike"])) < 1e-12


# --- larger machines ----------------------------------------------------------------------------------------


def test_a_lattice_has_the_correlations_of_its_bonds():
    """An Ising lattice of 10 x 10 by elimination: correlations of neighbours against d log Z / d J by the sum.

    The derivative of an exact log Z, which draws nothing.  |z| < 5 for three bonds: 2 in a million.
    """
    edges = np.array(graph_edges("grid-10x10", 100))
    values = normal(len(edges), 20)
    J = scipy.sparse.coo_array((values, tuple(edges.T)), shape=(100, 100))
    machine = machine_from_couplings(J, normal(100, 21))
    plan = exact_plan(machine)
    assert plan.route == "elimination"
    states, _ = draw_exactly(machine, plan, 4000, seed=5)
    both = states[:, edges[:, 0]] & states[:, edges[:, 1]]
    for k in (0, 60, 179):
        step = np.zeros(len(edges))
        step[k] = 1e-4
        high, low = (
            exact_plan(
                machine_from_couplings(
                    scipy.sparse.coo_array((v, tuple(edges.T)), shape=(100, 100)), normal(100, 21)
                )
            ).log_z()
            for v in (values + step, values - step)
        )
        expected = (high - low) / 2e-4
        z = (both[:, k].mean() - expected) / np.sqrt(expected * (1 - expected) / len(states))
        assert abs(z) < 5


def test_threads_change_no_state(monkeypatch):
    machine = machine_from_couplings(*MACHINES["glass"])
    rbm = BipartiteMachine.from_arrays(normal((12, 40), 30), normal(12, 31), normal(40, 32))
    monkeypatch.setattr(enumeration_draws, "MAX_TABLE", 1)
    for plan, of in ((eliminated(machine), machine), (exact_plan(rbm), rbm)):
        one, two = (draw_exactly(of, plan, 50, 1, threads=threads)[0] for threads in (1, 2))
        assert np.array_equal(one, two)


def test_a_layout_takes_no_more_than_it_says():
    """Few bytes make stretches; fewer than one table takes cannot be kept, and what it would take is said."""
    edges = np.array(graph_edges("grid-6x60", 360))
    J = scipy.sparse.coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(360, 360))
    reduced = machine_from_couplings(J, np.zeros(360)).reduced()
    way = elimination(*reduced.bonds(), reduced.biases)
    whole = elimination_draws.elimination_draw_bytes(way, 1 << 40)
    less = elimination_draws.elimination_draw_bytes(way, whole // 3)
    assert less <= whole // 3
    assert elimination_draws.elimination_draw_bytes(way, 8) > 8
