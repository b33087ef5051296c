"""Importance weights against log p(x) by enumeration and quadrature."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.checkpoint import TrainedModel
from dvae_core.config import RunConfig
from dvae_core.errors import ResultError
from dvae_eval import likelihood
from dvae_eval.config import LikelihoodConfig
from dvae_eval.exact import enumerate_states
from dvae_eval.likelihood import estimate_log_likelihood, machine_of
from dvae_eval.log_z import estimate_log_z
from tests.oracles import exact_log_p_x, tiny_model

IMAGES = enumerate_states(3).astype(np.uint8)


def trained(**shape) -> TrainedModel:
    model = tiny_model(**shape)
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


@pytest.mark.parametrize(
    "shape",
    [
        {"n_groups": 1},
        {"n_groups": 2},
        {"n_groups": 4},
        {"n_left": 1, "n_right": 3, "n_groups": 3},
        {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.7},
        # Smaller scales, where weights have tails light enough for their own standard deviation to be known.
        {"n_left": 1, "n_right": 2, "n_groups": 2, "prior": "graph", "graph": "complete", "scale": 0.5},
        {"n_left": 2, "n_right": 2, "n_groups": 4, "prior": "graph", "graph": "ring", "scale": 0.5},
        {"n_left": 2, "n_right": 1, "n_groups": 2, "prior": "independent", "scale": 0.5},
        {"n_left": 1, "n_right": 2, "n_layers": 2, "n_groups": 3, "scale": 0.5},
    ],
)
def test_weights_are_unbiased_for_p_x(shape):
    """mean(w) = p(x) for each of the 8 images; |z| < 5 each, false alarm 5e-6 in all (normal), fixed seed."""
    model = tiny_model(**shape, seed=3)
    log_z = estimate_log_z(machine_of(trained(**shape, seed=3))).log_z
    n, generator = 200_000, torch.Generator().manual_seed(0)
    x = torch.from_numpy(IMAGES).double()
    n_uniform, n_normal = model.n_noise
    with torch.no_grad():
        rho = torch.rand((n, 1, n_uniform), generator=generator, dtype=torch.float64)
        eps = torch.randn((n, 1, n_normal), generator=generator, dtype=torch.float64)
        w = (model.weight_parts(x, rho.expand(-1, 8, -1), eps.expand(-1, 8, -1)).sum(0) - log_z).exp()
    exact = np.exp([exact_log_p_x(model, image) for image in x])
    assert abs(exact.sum() - 1) < 1e-3
    z = (w.mean(0).numpy() - exact) / (w.std(0).numpy() / np.sqrt(n))
    assert np.abs(z).max() < 5


def test_the_bound_rises_to_the_exact_value_and_not_beyond():
    """E L_1 <= E L_10 <= ... <= log p(x), and L_K is near it.

    The error of log mean(w) is about 1/sqrt(effective samples); |z| < 5 for each of 8 images, and the fixed seed.
    """
    model = float32(trained(n_groups=2, n_layers=1, n_left=1, n_right=2, seed=5, scale=0.4))
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, IMAGES, log_z, LikelihoodConfig(n_samples=4000))
    exact = np.array([exact_log_p_x(model.model.double(), x) for x in torch.from_numpy(IMAGES).double()])
    bounds = result.diagnostics["bound_curve"]["log_likelihood"]
    assert all(a < b + 0.002 for a, b in pairwise(bounds))
    assert bounds[0] < bounds[-1]
    z = (np.array(result.per_image["log_likelihood"]) - exact) * np.sqrt(result.per_image["ess"])
    assert np.abs(z).max() < 5
    assert min(result.per_image["ess"]) > 100
    assert abs(result.elbo - bounds[0]) < 1e-4
    assert abs(sum(result.elbo_parts.values()) - result.elbo) < 1e-9


def float32(model: TrainedModel) -> TrainedModel:
    """Return the model with float32 weights, as trained ones have."""
    model.model.float()
    return model


def test_batches_do_not_change_the_estimate(monkeypatch):
    """Each image has its own random numbers: chunks and batches of any size see the same ones."""
    model = float32(trained(n_layers=1, n_left=1, n_right=2, n_groups=2))
    log_z = estimate_log_z(machine_of(model))
    config = LikelihoodConfig(n_samples=500, seed=3)
    whole = estimate_log_likelihood(model, IMAGES, log_z, config)
    first = estimate_log_likelihood(model, IMAGES[:3], log_z, config)
    monkeypatch.setattr(likelihood, "PAIRS", 7)
    small = estimate_log_likelihood(model, IMAGES, log_z, config)
    assert np.allclose(whole.per_image["log_likelihood"], small.per_image["log_likelihood"], atol=1e-5)
    assert np.allclose(whole.per_image["log_likelihood"][:3], first.per_image["log_likelihood"], atol=1e-5)


def test_log_z_of_another_model_is_refused():
    log_z = estimate_log_z(machine_of(trained(seed=1)))
    with pytest.raises(ResultError, match="another model"):
        estimate_log_likelihood(float32(trained(seed=2)), IMAGES, log_z)


def test_an_untrustworthy_log_z_makes_an_untrustworthy_likelihood():
    model = float32(trained(seed=1))
    log_z = estimate_log_z(machine_of(model))
    doubtful = dataclasses.replace(log_z, trustworthy=False, reasons=["no round trips"])
    result = estimate_log_likelihood(model, IMAGES, doubtful, LikelihoodConfig(n_samples=10))
    assert not result.trustworthy
    assert "no round trips" in " ".join(result.reasons)


def test_effective_sample_size_of_equal_weights_is_the_number_of_samples():
    """A model whose posterior is its prior and whose decoder ignores the latents has constant weights."""
    model = trained(n_groups=1)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.zero_()
    model = float32(model)
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, IMAGES, log_z, LikelihoodConfig(n_samples=50))
    assert np.allclose(result.per_image["ess"], 50)
    assert abs(result.log_likelihood - 3 * np.log(0.5)) < 1e-5
