"""GumBolt's relaxation: a Concrete variable in training by a second code, a binary one in evaluation."""

import numpy as np
import pytest
import torch
from scipy import integrate
from torch.distributions import RelaxedBernoulli

from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import load
from dvae_core.errors import ConfigError
from dvae_core.model.posterior import expected_energy
from dvae_core.model.rbm import RBM
from dvae_core.model.smoothing import DiscreteSample, GumBolt
from dvae_core.training.trainer import Trainer
from tests.oracles import tiny_model

RHO = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000


def concrete(q, s):
    """Return the density of ζ by torch's distributions."""
    law = RelaxedBernoulli(torch.tensor(1 / s, dtype=torch.float64), probs=torch.tensor(q, dtype=torch.float64))
    return lambda t: float(law.log_prob(torch.tensor(t, dtype=torch.float64)).exp())


@pytest.mark.parametrize("s", [0.8, 3.0])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_zeta_in_training_is_a_concrete_variable(q, s):
    """F(ζ(ρ)) = ρ with F by quadrature of the Concrete density."""
    rho = torch.tensor([0.05, 0.4, 0.6, 0.95], dtype=torch.float64)
    zeta = GumBolt(s).double()(torch.full_like(rho, float(np.log(q / (1 - q)))), rho).zeta
    # Both ends have a singularity for s > 1: differences between two draws need neither.
    for k in range(3):
        mass = integrate.quad(concrete(q, s), float(zeta[k]), float(zeta[k + 1]), limit=500, epsabs=1e-11)[0]
        assert mass == pytest.approx(float(rho[k + 1] - rho[k]), abs=1e-7)


def test_evaluation_is_binary_and_training_draws_the_same_z():
    smoothing, logits = GumBolt(3.0).double(), torch.linspace(-4, 4, 4000, dtype=torch.float64)
    relaxed, binary = smoothing(logits, RHO), smoothing.eval()(logits, RHO)
    assert torch.equal(binary.zeta, binary.z)
    assert torch.equal(binary.z, relaxed.z)
    assert torch.equal(relaxed.zeta > 0.5, relaxed.z > 0)
    assert torch.equal(relaxed.nu, relaxed.zeta)


@torch.no_grad()
def test_training_in_the_limit_is_evaluation():
    model, plain = tiny_model(smoothing="gumbolt", seed=3), tiny_model(smoothing="none", seed=3)
    x = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64).expand(500, -1)
    rho, eps = torch.rand((500, 4), dtype=torch.float64), torch.zeros((500, 0), dtype=torch.float64)
    model.smoothing.train().set_sharpness(1e9)
    for relaxed in (model.bound(x, rho, eps), model.eval().bound(x, rho, eps)):
        assert torch.allclose(relaxed.elbo(0.0), plain.bound(x, rho, eps).elbo(0.0), atol=1e-12)


def energy_of_bond(g, s):
    """Return E[-ζ_1 σ(a + c ζ_1)] of a bond of strength 1 whose later unit has the logit a + c ζ_1, and d/dg."""
    prior = RBM(1, 1).double()
    with torch.no_grad():
        prior.W.fill_(1.0)
    logit = torch.tensor(g, dtype=torch.float64, requires_grad=True)
    smoothing = GumBolt(s).double()
    first = smoothing(logit.expand(len(RHO)), RHO)
    second = smoothing(-0.5 + 1.5 * first.zeta, torch.full_like(RHO, 0.5))
    both = DiscreteSample(*(torch.stack([getattr(u, k) for u in (first, second)], -1) for k in first.__slots__))
    energy = expected_energy(prior, both, torch.tensor([0, 1])).mean()
    return float(energy.detach()), float(torch.autograd.grad(energy, logit)[0])


def test_gradients_are_those_of_the_proxy_and_become_those_of_the_bound():
    """Of the proxy by central differences; of the bound by enumeration, with a bias that falls with s."""
    g, step = 0.3, 1e-4
    sigma = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    exact = -sigma(g) * (1 - sigma(g)) * sigma(1.0)
    biases = []
    for s in (1.0, 4.0, 16.0):
        slope = energy_of_bond(g, s)[1]
        differences = (energy_of_bond(g + step, s)[0] - energy_of_bond(g - step, s)[0]) / (2 * step)
        assert slope == pytest.approx(differences, rel=1e-5)
        biases.append(abs(slope - exact))
    assert biases[0] > 4 * biases[1] > 4 * biases[2]
    assert biases[0] > 0.01


def test_the_sharpness_follows_its_schedule_and_is_not_trained():
    smoothing = GumBolt(3.0, growth=0.5, limit=5.0)
    assert not list(smoothing.parameters())
    for epoch, expected in ((0, 3.0), (2, 4.0), (100, 5.0)):
        smoothing.set_epoch(epoch)
        assert float(smoothing.sharpness) == expected


def test_several_importance_samples_are_refused(tmp_path):
    config = RunConfig("bars-and-stripes", ModelConfig(smoothing="gumbolt"), TrainConfig(n_importance=2))
    with pytest.raises(ConfigError, match="--importance"):
        Trainer(tmp_path, config, load("bars-and-stripes"))
