"""Parameter sharing in the prior over the continuous layers (App. H): its structure.

Its numbers are judged in test_gradients and test_likelihood.
"""

import pytest
import torch

from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import load
from dvae_core.errors import ConfigError
from dvae_core.model.dvae import DVAE
from dvae_core.model.hierarchy import ContinuousPrior
from dvae_core.training.trainer import Trainer

N_UNITS, N_LAYERS, N_CONTINUOUS, HIDDEN = 5, 4, 3, 7
HIDDEN_AND_OUT = 3 * HIDDEN + HIDDEN * 2 * N_CONTINUOUS + 2 * N_CONTINUOUS  # bias, s, o; last weights; last bias
SHARED = N_CONTINUOUS * HIDDEN + HIDDEN_AND_OUT + N_UNITS * N_CONTINUOUS  # one group's network, and its M


def prior(n_sharing_groups, n_layers=N_LAYERS):
    torch.manual_seed(0)
    return ContinuousPrior(N_UNITS, n_layers, N_CONTINUOUS, (HIDDEN,), n_sharing_groups).eval()


def draws(model, n=6):
    """Return ζ, noise, and draws of all layers."""
    generator = torch.Generator().manual_seed(1)
    zeta = torch.rand((n, N_UNITS), generator=generator)
    eps = torch.randn((n, len(model.uses) * N_CONTINUOUS), generator=generator)
    return zeta, eps, model.sample(zeta, eps)


@pytest.mark.parametrize(
    ("n_sharing_groups", "n_parameters"),
    [
        (0, sum((N_UNITS + m * N_CONTINUOUS) * HIDDEN + HIDDEN_AND_OUT for m in range(N_LAYERS))),
        (1, SHARED),
        (2, 2 * SHARED),
        (4, 4 * SHARED),
    ],
)
def test_shared_parameters_are_there_once(n_sharing_groups, n_parameters):
    model = prior(n_sharing_groups)
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert len(model.networks) == (n_sharing_groups or N_LAYERS)


@pytest.mark.parametrize("n_sharing_groups", [0, 1, 2, 3])
def test_draws_and_densities_take_the_same_path(n_sharing_groups):
    """The noise of every layer is found again in the densities conditioned on the draws."""
    model = prior(n_sharing_groups)
    zeta, eps, layers = draws(model)
    gaussians = model(zeta, layers)
    assert [layer.shape for layer in layers] == [(6, N_CONTINUOUS)] * N_LAYERS
    found = [(value - p.mean) / p.log_std.exp() for value, p in zip(layers, gaussians, strict=True)]
    assert torch.allclose(torch.cat(found, -1), eps, atol=1e-5)
    assert model.context(zeta, layers).shape == (6, model.n_context)


@pytest.mark.parametrize(
    ("n_sharing_groups", "groups"), [(1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 1, 1]), (5, [0, 1, 2, 3, 4])]
)
def test_layers_of_a_group_change_together(n_sharing_groups, groups):
    """Groups are consecutive; where their number does not divide the layers', the first have one more."""
    model = prior(n_sharing_groups, n_layers=5)
    zeta, _, layers = draws(model)
    before = model(zeta, layers)
    for g in range(n_sharing_groups):
        with torch.no_grad():
            model.networks[g].linears[-1].bias.add_(0.5)
        after = model(zeta, layers)
        moved = [not torch.equal(a.mean, b.mean) for a, b in zip(before, after, strict=True)]
        assert moved == [group == g for group in groups]
        before = after


def test_pixels_and_layers_depend_on_sums_alone():
    """Complete sharing: moving a vector from one layer to another changes nothing that follows both."""
    model = prior(1)
    zeta, _, layers = draws(model)
    moved = [layers[0] + 1, layers[1] - 1, *layers[2:]]
    assert torch.allclose(model.context(zeta, layers), model.context(zeta, moved), atol=1e-5)
    before, after = model(zeta, layers), model(zeta, moved)
    assert torch.allclose(before[2].mean, after[2].mean, atol=1e-5)
    assert not torch.allclose(before[1].mean, after[1].mean, atol=1e-2)


def test_the_decoder_shares_the_map_of_the_rbm_with_the_last_group():
    config = ModelConfig(n_layers=4, n_continuous=3, n_sharing_groups=2)
    model = DVAE(config, n_pixels=9)
    assert model.decoder.linears[0].in_features == 3
    zeta = torch.rand((2, 64))
    last = model.continuous_prior.maps[1].weight
    assert torch.allclose(model.decode(zeta, [torch.zeros(2, 3)] * 4), model.decoder(zeta @ last.T), atol=1e-6)


def test_more_groups_than_layers_are_refused():
    with pytest.raises(ConfigError, match="--sharing-groups: 3 is more than the 2 continuous layers"):
        ModelConfig(n_layers=2, n_sharing_groups=3)
    with pytest.raises(ConfigError, match="--sharing-groups"):
        ModelConfig(n_layers=0, n_sharing_groups=1)


def test_evaluation_normalises_every_layer_as_training_did(tmp_path):
    """The bound with running statistics is near that with the minibatch's; one pool of statistics is not.

    Layers that share a network have inputs of growing variance, so that each needs statistics of its own.
    """
    units = {"n_left": 4, "n_right": 4, "n_groups": 2}
    model = ModelConfig(**units, n_layers=4, n_continuous=3, encoder_hidden=(30,), n_sharing_groups=1)
    training = TrainConfig(epochs=7, n_chains=20, n_sweeps=2, learning_rate=0.01, warmup_epochs=0, seed=2)
    trainer = Trainer(tmp_path, RunConfig("bars-and-stripes", model, training), load("bars-and-stripes"))
    trainer.train(Silent())
    gap = abs(kl(trainer, train=True) - kl(trainer, train=False))
    for norm in trainer.model.continuous_prior.networks[0].norms:
        for statistic in (norm.running_mean, norm.running_spread):
            by_use = statistic.view(norm.n_uses, -1)
            by_use.copy_(by_use.mean(0).expand_as(by_use))
    pooled_gap = abs(kl(trainer, train=True) - kl(trainer, train=False))
    assert gap < 0.3
    assert pooled_gap > 3 * gap


@torch.no_grad()
def kl(trainer, train):
    """Return the mean of the continuous layers' KL over a large batch, nats, leaving the model as it was."""
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    generator = torch.Generator().manual_seed(3)
    x = torch.from_numpy(trainer.data.fixed("valid")).float()
    n_uniform, n_normal = trainer.model.n_noise
    rho = torch.rand((len(x), n_uniform), generator=generator)
    eps = torch.randn((len(x), n_normal), generator=generator)
    bound = trainer.model.train(train).bound(x, rho, eps)
    trainer.model.load_state_dict(before)
    return float(sum(bound.kl_continuous).mean())


class Silent:
    """Progress that nobody hears."""

    def step(self, epoch, step, n_steps, elbo):
        pass

    def epoch(self, metrics):
        pass
