"""The folded model against the model itself: the same weights, whatever the architecture."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dvae_core.config import SMOOTHINGS, ModelConfig
from dvae_core.model.dvae import DVAE
from dvae_core.model.networks import L1BatchNorm
from dvae_eval.likelihood.folded import FoldedDVAE, FoldedMLP
from dvae_eval.likelihood.protocol import LatentVariableModel
from tests.oracles import brute_log_z, dense, exact_log_p_x, tiny_model

N_PIXELS = 5
ARCHITECTURES = {
    "one group": {"n_groups": 1},
    "no hidden layers": {"encoder_hidden": (), "prior_hidden": ()},
    "linear decoder": {"decoder_hidden": ()},
    "no layers": {"n_layers": 0},
    "shared": {"n_layers": 3, "n_sharing_groups": 1},
    "shared by groups": {"n_layers": 3, "n_sharing_groups": 2},
    "graph": {"prior": "graph", "graph": "ring"},
    "independent": {"prior": "independent"},
}


def random_model(seed=0, n_pixels=N_PIXELS, **settings):
    """Return a model in evaluation mode with random weights and random statistics of its batch norms."""
    shape = {"n_left": 3, "n_right": 4, "n_groups": 3, "n_layers": 2, "n_continuous": 3, "encoder_hidden": (6, 5)}
    shape |= {"prior_hidden": (4,), "decoder_hidden": (7,), **settings}
    model = DVAE(ModelConfig(**shape), n_pixels).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for norm in (module for module in model.modules() if isinstance(module, L1BatchNorm)):
            norm.running_mean.normal_(generator=generator)
            norm.running_spread.uniform_(0.5, 2, generator=generator)
    return model


def noise(model, n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    rho = torch.rand((n, model.n_noise[0]), generator=generator, dtype=torch.float64)
    return rho, torch.randn((n, model.n_noise[1]), generator=generator, dtype=torch.float64)


def difference(model, folded):
    """Return the largest relative difference of any part of any of 50 weights, for an image."""
    rho, eps = noise(model, 50)
    x = torch.tensor([1, 0, 0, 1, 1]).double()
    with torch.no_grad():
        ours, theirs = folded.image(x).weight_parts(rho, eps), model.weight_parts(x, rho, eps)
        return ((ours - theirs).abs() / (1 + theirs.abs())).max()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_smoothing_has_the_weights_of_the_model(smoothing):
    model = random_model(smoothing=smoothing)
    assert difference(model, FoldedDVAE(model, "float64")) < 1e-12


@pytest.mark.parametrize("settings", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_every_architecture_has_the_weights_of_the_model(settings):
    model = random_model(**settings)
    assert difference(model, FoldedDVAE(model, "float64")) < 1e-12


def test_statistics_of_another_place_are_noticed():
    """A shared network has statistics of its own in every place where it is used."""
    model = random_model(n_layers=3, n_sharing_groups=1)
    folded = FoldedDVAE(model, "float64")
    folded.layer_priors.reverse()
    assert difference(model, folded) > 0.01


def test_float32_is_float64_but_for_rounding():
    model = random_model()
    rho, eps = noise(model, 1000)
    x = torch.tensor([1, 0, 0, 1, 1])
    with torch.no_grad():
        exact = FoldedDVAE(model, "float64").image(x).weight_parts(rho, eps)
        rough = FoldedDVAE(model, "float32").image(x).weight_parts(rho.float(), eps.float())
        rougher = FoldedDVAE(model, "bf16").image(x).weight_parts(rho.float(), eps.float())
    # A unit whose ρ is at the very edge of q may be drawn differently: not the largest, but a high quantile.
    assert (rough - exact).abs().quantile(0.99) < 1e-4
    assert 1e-3 < (rougher - exact).abs().quantile(0.9) < 1


@pytest.mark.parametrize("n_pixels", [1, 111, 112, 113, 784])
def test_log_p_x_of_any_logits(n_pixels):
    """Σ_i log σ((2 x_i - 1) t_i) with t up to ±1000, and as many pixels as fill columns or do not."""
    model = FoldedDVAE(random_model(n_pixels=n_pixels))
    generator = torch.Generator().manual_seed(n_pixels)
    t = 10 * torch.randn((20, n_pixels), generator=generator)
    t[:3] = torch.tensor([0.0, 1000.0, -1000.0])[:, None]
    x = torch.randint(2, (n_pixels,), generator=generator)
    model.decoder = FoldedMLP([(torch.eye(n_pixels), torch.zeros(n_pixels))])
    image = model.image(x)
    exact = -binary_cross_entropy_with_logits(t.double(), x.expand_as(t).double(), reduction="none").sum(-1)
    assert torch.allclose(image.log_p_x(t).double(), exact, rtol=1e-6, atol=1e-5)


class FoldedModel:
    """A folded model behind the two methods that any model may have; see `LatentVariableModel`."""

    def __init__(self, model, precision="float32"):
        self.folded = FoldedDVAE(model, precision)

    def sample_latents(self, x, n_samples, generator):
        draws = self.folded.image(x).sample(*self.folded.noise(n_samples, generator))
        return draws, draws.log_q_discrete + draws.log_q_layers

    def log_joint(self, x, latents):
        return self.folded.image(x).log_joint_parts(latents).sum(0)


def test_as_any_model_it_has_unbiased_weights():
    """mean(p̃/q) = Z p(x) by the two methods of the protocol; |z| < 4 for one image, false alarm 6e-5."""
    model = tiny_model(seed=3, n_left=1, n_right=1, n_layers=1, scale=0.6, smoothing="spike-and-gaussian")
    folded: LatentVariableModel = FoldedModel(model, "float64")
    assert isinstance(folded, LatentVariableModel)
    x = torch.tensor([1, 0, 1], dtype=torch.uint8)
    with torch.no_grad():
        latents, log_q = folded.sample_latents(x, 40_000, torch.Generator().manual_seed(0))
        w = (folded.log_joint(x, latents) - log_q - brute_log_z(*dense(model.prior))).exp().numpy()
    exact = np.exp(exact_log_p_x(model, x.double()))
    assert abs(w.mean() - exact) < 4 * w.std() / np.sqrt(len(w))
    assert w.std() > 0.1 * exact
