"""What a trained model is used for: encode, generate and log_likelihood, compared with sums over all states."""

import doctest
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dvae_core.config import ModelConfig
from dvae_core.errors import ConfigError, DataError
from dvae_core.model import dvae
from dvae_core.model.dvae import DVAE
from dvae_eval import estimate_log_z
from tests.oracles import all_states

SMALL = ModelConfig(
    n_left=3, n_right=2, n_groups=1, n_layers=0, smoothing="none", encoder_hidden=(4,), decoder_hidden=(5,)
)
X = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1]])


def model_of(config=SMALL, n_pixels=6, seed=0):
    """A model with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    model = DVAE(config, n_pixels)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model.double().eval().requires_grad_(False)


def enumerated(model):
    """All states z, their p(z) and the probabilities of the pixels given each."""
    z = all_states(model.prior.n_units)
    return z, (-model.prior.energy(z)).softmax(0), model.decode(z, []).sigmoid()


def exact_log_likelihood(model, x):
    z, p, _ = enumerated(model)
    logits = model.decode(z, [])
    images = torch.as_tensor(x).double()[:, None].expand(-1, len(z), -1)
    log_p = -binary_cross_entropy_with_logits(logits.expand_as(images), images, reduction="none").sum(-1)
    return torch.logsumexp(log_p + p.log(), -1)


def log_z_of(model):
    prior = model.prior
    return estimate_log_z((prior.W, prior.b_left, prior.b_right))


def test_log_likelihood_is_that_of_the_sum_over_all_states():
    """20 000 samples: the mean weight's relative error is measured over 20 seeds; |z| < 5, false alarm 2e-6."""
    model = model_of()
    exact = exact_log_likelihood(model, X)
    found = torch.stack([model.log_likelihood(X, log_z_of(model), n_samples=1000, seed=s) for s in range(20)])
    ratio = (found - exact).exp()
    assert found.dtype == torch.float64
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
    assert error.max() < 0.05
    # Without log Z, or with that of another prior, it is not.
    assert not ((found - exact + 1).exp().mean(0) - 1 < 5 * error).all()


def test_log_z_may_be_a_number_and_is_estimated_coarsely_without():
    model, result = model_of(), log_z_of(model_of())
    given = model.log_likelihood(X, result)
    assert torch.equal(model.log_likelihood(X, result.log_z), given)
    with pytest.warns(UserWarning, match=r"log_z: estimated by a short annealing.*estimate_log_z") as caught:
        coarse = model.log_likelihood(X)
    assert caught[0].filename == __file__
    assert (coarse - given).abs().max() < 0.2


def test_generated_images_are_of_the_model():
    """The mean of 20 000 images in each pixel, and of products of two: |z| < 5, false alarm 2e-5."""
    model, n = model_of(seed=1), 20_000
    _, p, pixels = enumerated(model)
    mean, products = p @ pixels, torch.einsum("s,si,sj->ij", p, pixels, pixels)
    images = model.generate(n, seed=3)
    assert images.shape == (n, 6)
    assert ((images.mean(0) - mean).abs() < 5 * images.std(0) / math.sqrt(n)).all()
    pairs = images[:, :, None] * images[:, None]
    assert ((pairs.mean(0) - products).abs() < 5 * pairs.std(0) / math.sqrt(n)).all()
    bits = model.generate(n, binary=True, seed=3)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert ((bits.mean(0) - mean).abs() < 5 * (mean * (1 - mean) / n).sqrt()).all()
    # Those of another prior are not.
    other = model_of(seed=2).generate(n, seed=3)
    assert not ((other.mean(0) - mean).abs() < 5 * other.std(0) / math.sqrt(n)).all()


def test_codes_are_of_the_posterior():
    """The share of ones in 5000 draws: |z| < 5, false alarm 6e-6."""
    model, n = model_of(), 5000
    codes = model.encode(X, n_samples=n)
    assert codes.z.shape == (n, 2, 5)
    assert torch.equal(codes.zeta, codes.z)
    q = codes.q[0]
    assert ((codes.z.mean(0) - q).abs() < 5 * (q * (1 - q) / n).sqrt() + 1e-9).all()
    assert codes.layers.shape == (n, 2, 0, SMALL.n_continuous)
    one = model.encode(X)
    assert one.z.shape == (2, 5)
    assert one.layers.shape == (2, 0, SMALL.n_continuous)


def test_codes_of_a_hierarchy_have_all_latents():
    model = model_of(ModelConfig(n_left=4, n_right=4, n_groups=2, n_layers=3, n_continuous=5), 9)
    images = np.zeros((4, 3, 3), np.uint8)
    codes = model.encode(images)
    assert (codes.z.shape, codes.zeta.shape, codes.layers.shape) == ((4, 8), (4, 8), (4, 3, 5))
    assert ((codes.zeta > 0) <= (codes.z > 0)).all()
    assert torch.equal(codes.zeta, model.encode(images.reshape(4, 9)).zeta)
    assert not torch.equal(codes.zeta, model.encode(images, seed=1).zeta)
    assert torch.isfinite(model.log_likelihood(images, 0.0, n_samples=250)).all()


def test_a_model_in_training_is_used_in_evaluation_mode_and_left_as_it_was():
    model = DVAE(ModelConfig(n_left=4, n_right=4), 9).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model.generate(5)
    model.encode(np.eye(9)[:4])
    model.log_likelihood(np.eye(9)[:4], 0.0, n_samples=10)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(first, model.eval().generate(5))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5)), r"x has shape \(2, 5\); give \(n, 6\), or \(n, height, width\) with 6 pixels"),
        (np.zeros(6), r"x has shape \(6,\)"),
        (np.full((2, 6), 0.5), "values other than 0 and 1"),
    ],
)
def test_images_of_another_kind_are_refused(x, message):
    for method in (model_of().encode, lambda x: model_of().log_likelihood(x, 0.0)):
        with pytest.raises(DataError, match=message):
            method(x)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda model: model.generate(0), "n"),
        (lambda model: model.generate(2, n_sweeps=0), "n_sweeps"),
        (lambda model: model.encode(np.zeros((2, 6)), n_samples=0), "n_samples"),
        (lambda model: model.log_likelihood(np.zeros((2, 6)), 0.0, n_samples=0), "n_samples"),
    ],
)
def test_no_draws_are_refused(call, name):
    with pytest.raises(ConfigError, match=f"^{name}: 0 is not allowed; give at least 1$"):
        call(model_of())


def test_the_examples_hold():
    assert doctest.testmod(dvae).failed == 0
