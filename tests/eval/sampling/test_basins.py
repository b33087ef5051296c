"""Mean-field modes: the bound holds on every machine, and planted patterns and deep holes are found."""

import numpy as np
import pytest

from dvae_eval.machine import BipartiteMachine
from dvae_eval.sampling import basins as basins_module
from dvae_eval.sampling.basins import find_basins
from dvae_eval.test_machines.graphs import complete, torus
from dvae_eval.test_machines.rbms import curie_weiss, golf_hole, planted, random_rbm
from tests.broken import blind_search

MODELS = {
    "random": lambda: random_rbm(0, (12, 30), 1.0),
    "strong": lambda: random_rbm(1, (12, 30), 6.0),
    "planted": lambda: planted(2, (12, 40), 0.4),
    "curie-weiss": lambda: curie_weiss(40, 60, 0.2, -5.0, -4.0),
    "complete": lambda: complete(3, 12, 3.0),
    "odd torus": lambda: torus(5, 5, 0.5),
    "golf hole": lambda: golf_hole(12, 20),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_bound_is_a_bound(name):
    """Gibbs' inequality holds without exception."""
    machine, log_z = MODELS[name]()
    basins = find_basins(machine.reduced(), seed=0)
    assert (basins.bounds <= log_z + 1e-9).all()
    assert (np.diff(basins.bounds) <= 0).all()
    # Within the entropy of the units that are neither on nor off; a bound far below would be of no use.
    assert basins.bounds[0] > log_z - 0.15 * machine.n_units - 1


def test_independent_units_have_a_tight_bound():
    machine, log_z = curie_weiss(5, 7, 0.0, 0.3, -0.4)
    assert abs(find_basins(machine.reduced(), 0).bounds[0] - log_z) < 1e-9


def test_both_planted_modes_are_found():
    machine, log_z = planted(4, (16, 40), 0.4)
    basins = find_basins(machine.reduced(), seed=0)
    assert abs(basins.bounds[0] - basins.bounds[1]) < 1e-6
    assert np.abs(basins.means[0] + basins.means[1] - 1).max() < 0.05
    assert log_z - basins.bounds[0] < np.log(2) + 0.5


def test_a_golf_hole_is_found_and_starts_half_of_the_ladders():
    machine, log_z = golf_hole()
    basins = find_basins(machine.reduced(), seed=0)
    assert basins.bounds[0] > log_z - 0.1
    states = basins.draw(8, 5, seed=1)
    assert states.shape == (8, 5, 20)
    in_hole = (states == (basins.means[0] > 0.5)).mean(-1) > 0.9
    assert in_hole[::2].all()


def test_one_start_alone_misses_a_golf_hole(monkeypatch):
    """From all hidden units off nothing leads into the hole: the test above can fail."""
    machine, log_z = golf_hole()
    blind_search(monkeypatch)
    assert find_basins(machine.reduced(), seed=0).bounds[0] < log_z - 5


def detectors(n, n_known, turned):
    """Units that know a state of n others each, one of them 16 nats deeper than all other states together.

    A share `turned` of all units is called off when it is on: what comes out is the same machine.
    """
    rng = np.random.default_rng(0)
    W = np.where(rng.random((n_known, n)) < 0.5, 12.0, -12.0)
    depths = np.full(n_known, 5.0)
    depths[0] = n * np.log(2) + 16
    b, c = depths - np.maximum(W, 0).sum(1), np.zeros(n)
    known, others = rng.random(n_known) < turned, rng.random(n) < turned
    s, t = np.where(known, -1, 1), np.where(others, -1, 1)
    offset = b @ known + c @ others + known @ W @ others
    machine = BipartiteMachine(W * s[:, None] * t, s * (b + W @ others), t * (c + known @ W))
    return machine, depths[0] - offset


@pytest.mark.parametrize(("n", "n_known", "turned"), [(30, 1, 0.0), (30, 6, 0.5), (20, 60, 0.5)])
def test_a_pattern_that_one_unit_knows_is_found_however_steep(n, n_known, turned, monkeypatch):
    machine, log_z = detectors(n, n_known, turned)
    assert find_basins(machine.reduced(), seed=0).bounds[0] == pytest.approx(log_z, abs=1e-2)
    monkeypatch.setattr(basins_module, "_from_turned", lambda reduced, W, modes, *_: modes)
    assert find_basins(machine.reduced(), seed=0).bounds[0] < log_z - 10


def test_the_seed_fixes_the_draws():
    basins = find_basins(random_rbm(0, (12, 30), 0.5)[0].reduced(), seed=0)
    assert (basins.draw(4, 3, 5) == basins.draw(4, 3, 5)).all()
    assert (basins.draw(4, 3, 5) != basins.draw(4, 3, 6)).any()
