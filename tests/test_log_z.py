"""Parallel tempering and BAR against exact log Z, on models that the tests make themselves."""

import numpy as np
import pytest

from dvae_core.errors import ConfigError
from dvae_eval.config import LogZConfig
from dvae_eval.exact import enumerate_states, exact_log_z
from dvae_eval.ladder import Ladder
from dvae_eval.log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.tempering import Tempering

QUICK = {"method": "pt-bar", "n_sweeps": 800}


def independent(rng):
    return BipartiteMachine.from_arrays(np.zeros((20, 15)), rng.normal(size=20) * 2, rng.normal(size=15) * 2)


def random_rbm(rng, scale=1.0, shape=(12, 30)):
    W = rng.normal(size=shape) * scale / np.sqrt(min(shape))
    return BipartiteMachine.from_arrays(W, rng.normal(size=shape[0]), rng.normal(size=shape[1]))


def planted(rng, strength=0.25, shape=(16, 40)):
    """Symmetric modes between which Gibbs never goes: a Hopfield coupling of ±1 patterns, written in {0,1}."""
    J = strength * np.outer(rng.choice([-1, 1], shape[0]), rng.choice([-1, 1], shape[1]))
    return BipartiteMachine.from_arrays(4 * J, -2 * J.sum(1), -2 * J.sum(0))


def huge(rng):
    return BipartiteMachine.from_arrays(rng.uniform(-50, 50, (8, 10)), rng.normal(size=8), rng.normal(size=10))


def one_unit_sides(rng):
    return BipartiteMachine.from_arrays(rng.normal(size=(1, 1)) * 3, rng.normal(size=1), rng.normal(size=1))


MODELS = [independent, random_rbm, planted, huge, one_unit_sides]


@pytest.mark.parametrize("make", MODELS)
def test_agrees_with_the_exact_value(make):
    """|z| < 6 with 15 degrees of freedom: false alarm 2.4e-5 each; and the error must be small."""
    machine = make(np.random.default_rng(11))
    result = estimate_log_z(machine, LogZConfig(**QUICK, seed=1))
    assert result.trustworthy, result.reasons
    assert abs(result.log_z - exact_log_z(machine)) < 6 * result.std_err
    assert 0 < result.std_err < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_standard_errors_are_true(make):
    """z-scores of 100 seeds: their sd in [0.8, 1.3] (false alarm under 1e-3 for Student's t), mean near 0."""
    machine = make(np.random.default_rng(12))
    exact = exact_log_z(machine)
    results = [estimate_log_z(machine, LogZConfig(**QUICK, seed=seed)) for seed in range(100)]
    scores = np.array([(r.log_z - exact) / r.std_err for r in results])
    assert 0.8 < scores.std() < 1.3
    assert abs(scores.mean()) < 4 * 1.1 / 10
    covered = np.mean([low <= exact <= high for low, high in (r.ci95 for r in results)])
    assert covered > 0.87


def test_no_couplings_and_no_biases_have_no_error():
    machine = BipartiteMachine.from_arrays(np.zeros((5, 4)), np.zeros(5), np.zeros(4))
    result = estimate_log_z(machine, LogZConfig(**QUICK))
    assert abs(result.log_z - 9 * np.log(2)) < 1e-9
    assert result.std_err < 1e-9
    assert result.trustworthy


def test_the_same_seed_gives_the_same_number_and_another_does_not():
    machine = random_rbm(np.random.default_rng(0))
    first, again, other = (estimate_log_z(machine, LogZConfig(**QUICK, seed=s)) for s in (3, 3, 4))
    assert first.log_z == again.log_z
    assert first.repeats == again.repeats
    assert first.log_z != other.log_z


def test_sides_may_be_exchanged():
    """The smaller side is kept whichever it is, so the estimate is the very same."""
    machine = random_rbm(np.random.default_rng(1))
    turned = BipartiteMachine.from_arrays(machine.W.T, machine.b_right, machine.b_left)
    assert estimate_log_z(machine, LogZConfig(**QUICK)).log_z == estimate_log_z(turned, LogZConfig(**QUICK)).log_z


def test_auto_enumerates_where_it_can():
    machine = random_rbm(np.random.default_rng(2))
    result = estimate_log_z(machine)
    assert (result.method, result.std_err, result.trustworthy) == ("exact", 0.0, True)
    assert result.log_z == exact_log_z(machine)
    assert result.ci95 == [result.log_z, result.log_z]


def test_the_exact_value_cannot_be_asked_for_in_vain():
    machine = random_rbm(np.random.default_rng(3), shape=(40, 40))
    for settings in ({"method": "exact"}, {"method": "pt-bar", "against_exact": True}):
        with pytest.raises(ConfigError, match=r"at most \d+ units"):
            estimate_log_z(machine, LogZConfig(**settings))


def test_a_run_that_is_far_too_short_is_not_trusted():
    """Strong planted modes, a ladder made for a far too low exchange rate, and hardly any sweeps."""
    machine = planted(np.random.default_rng(4), strength=0.6, shape=(24, 60))
    result = estimate_log_z(machine, LogZConfig(method="pt-bar", n_sweeps=20, exchange_rate=0.05))
    assert not result.trustworthy
    assert result.reasons


def test_the_ladder_keeps_the_exchange_rate_that_was_asked_for():
    machine = random_rbm(np.random.default_rng(5), scale=4.0, shape=(20, 60))
    for rate in (0.4, 0.8):
        result = estimate_log_z(machine, LogZConfig(**QUICK, exchange_rate=rate))
        rates = np.array(result.diagnostics["exchange_rates"])
        assert np.ptp(rates) < 0.15
        # One rung more or less moves the rate by the share that one step has of the barrier.
        assert abs(rates.mean() - rate) < 0.05 + (1 - rate) / len(rates)


def tempered_distribution(exchange, beta_index, n_iterations=1500, n_ladders=60):
    """Return the total variation distance of the kept side's histogram on one rung from the exact one."""
    rng = np.random.default_rng(6)
    machine = BipartiteMachine.from_arrays(rng.normal(size=(3, 6)) * 2, rng.normal(size=3), rng.normal(size=6))
    tempering = Tempering(machine, Ladder(np.array([0.0, 0.4, 1.0])), n_ladders, seed=7, round=0)
    if exchange is not None:
        original = tempering._exchange
        tempering._exchange = lambda log_acceptance: original(exchange(log_acceptance))
    counts = np.zeros(8)
    for _ in range(n_iterations):
        tempering.run(1)
        states = tempering.v[:, beta_index].numpy().astype(int) @ np.array([1, 2, 4])
        counts += np.bincount(states, minlength=8)
    beta = float(tempering.ladder.betas[beta_index])
    v = enumerate_states(3)
    log_p = beta * v @ machine.b_left + np.logaddexp(0, beta * (v @ machine.W + machine.b_right)).sum(1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    return np.abs(counts / counts.sum() - p).sum() / 2


@pytest.mark.parametrize("beta_index", [1, 2])
def test_tempering_leaves_every_rung_invariant(beta_index):
    """90000 samples over 8 states, correlated over a few sweeps: distances above 0.01 do not happen by chance."""
    assert tempered_distribution(None, beta_index) < 0.01


def test_a_wrong_exchange_rule_is_rejected():
    """Exchanges that are always accepted carry hot states to the cold end."""
    assert tempered_distribution(lambda log_acceptance: log_acceptance * 0 + 1, 2) > 0.03
