"""One sweep for training, annealing and torch's replicas: a broken one must fail the tests of each of them."""

import pytest

from dvae_core.model.tempered import Tempered
from dvae_eval.sampling import tempering
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from tests.core.model import test_priors
from tests.eval.sampling import test_annealing, test_kernels
from tests.oracles import worst_p_value

SWEEP = Tempered.sweep


def with_halved_fields(machine, v, field, beta, generator, classes):
    """Draw the summed-out units with half of their logits."""
    return SWEEP(machine, v, field / 2, beta, generator, classes)


def without_couplings_of_kept_units(machine, v, field, beta, generator, classes):
    """Draw the kept units given the summed-out ones alone."""
    return SWEEP(machine, v, field, beta, generator, [(block, 0 * J) for block, J in classes])


@pytest.fixture(params=[("rbm", with_halved_fields), ("complete", without_couplings_of_kept_units)])
def machine(request, monkeypatch):
    """Return the name of a machine, with a broken sweep of it."""
    monkeypatch.setattr(Tempered, "sweep", request.param[1])
    return request.param[0]


def test_training_rejects_a_broken_sweep(machine):
    prior = test_priors.priors()[machine]
    p_value = test_priors.p_after_sweeps(prior, lambda z, generator: prior.gibbs(z, 1, generator), 1.0)
    assert p_value < test_priors.FALSE_ALARM


def test_annealing_rejects_a_broken_sweep(machine):
    given = getattr(test_annealing, machine)()
    for estimate in test_annealing.estimates(given):
        assert abs(test_annealing.z_score(estimate, test_annealing.exact(given))) > 5


def test_replicas_of_torch_reject_a_broken_sweep(machine, monkeypatch):
    monkeypatch.setattr(tempering, "has_numba", lambda: False)
    given = test_kernels.SMALL["3x5" if machine == "rbm" else machine]
    reference = test_kernels.random_reference(given)
    replicas = make_replicas(given, Schedule(test_kernels.BETAS), 400, 1, 0, reference=reference)
    assert worst_p_value(replicas, lambda beta, v: test_kernels.log_p(given, reference, beta, v)) < 1e-6
