"""Mean-field modes: the bound holds on every machine, and planted patterns and deep holes are found."""

import numpy as np
import pytest

from dvae_eval.machine import BipartiteMachine
from dvae_eval.sampling import basins as basins_module
from dvae_eval.sampling.basins import find_basins
from tests.solved import complete, curie_weiss, golf_hole, planted, random_rbm, torus

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
    monkeypatch.setattr(basins_module, "_starts", lambda reduced, seed: np.zeros((1, len(reduced.c))))
    monkeypatch.setattr(basins_module, "_random_starts", lambda reduced, seed: np.zeros((1, len(reduced.c))))
    monkeypatch.setattr(basins_module, "_from_turned", lambda reduced, W, modes, seed: modes)
    assert find_basins(machine.reduced(), seed=0).bounds[0] < log_z - 5


def detectors(depths, turned, n=30, steep=12.0):
    """Kept units that know a state of 30 others each, `depths` nats deep; half of all units called off when on."""
    rng = np.random.default_rng(0)
    W = np.where(rng.random((len(depths), n)) < 0.5, steep, -steep)
    b, c = np.array(depths) - np.maximum(W, 0).sum(1), np.zeros(n)
    kept, others = rng.random(len(depths)) < turned, rng.random(n) < turned
    s, t = np.where(kept, -1, 1), np.where(others, -1, 1)
    machine = BipartiteMachine(W * s[:, None] * t, s * (b + W @ others), t * (c + kept @ W))
    return machine, -float(b @ kept + c @ others + kept @ W @ others)


@pytest.mark.parametrize("turned", [0.0, 0.5])
def test_a_pattern_that_one_unit_knows_is_found_however_steep(turned, monkeypatch):
    machine, offset = detectors([35.0, 5.0, 5.0, 5.0, 5.0, 5.0], turned)
    assert find_basins(machine.reduced(), seed=0).bounds[0] == pytest.approx(35 + offset, abs=1e-3)
    monkeypatch.setattr(basins_module, "_from_turned", lambda reduced, W, modes, seed: modes)
    # The others at random are the best that is found then: 30 log 2 = 20.8.
    assert find_basins(machine.reduced(), seed=0).bounds[0] < 21 + offset


def test_the_seed_fixes_the_draws():
    basins = find_basins(random_rbm(0, (12, 30), 0.5)[0].reduced(), seed=0)
    assert (basins.draw(4, 3, 5) == basins.draw(4, 3, 5)).all()
    assert (basins.draw(4, 3, 5) != basins.draw(4, 3, 6)).any()
