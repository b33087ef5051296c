"""Importance weights against log p(x) by enumeration and quadrature."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.config import SMOOTHINGS, RunConfig
from dvae_core.errors import ConfigError, ResultError
from dvae_core.model.dvae import without_smoothing
from dvae_core.model.smoothing import MixtureOfRamps, SpikeAndGaussian
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.folded import FoldedDVAE
from dvae_eval.likelihood.importance import ImageWeights, milestones
from dvae_eval.likelihood.per_image import ImageEstimates
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.trained import machine_of
from tests.oracles import brute_log_z, dense, enumerate_states, exact_log_p_x, tiny_model

IMAGES = enumerate_states(3).astype(np.uint8)


def trained(**shape) -> TrainedModel:
    model = tiny_model(**shape)
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


def largest_z(model, n=60_000):
    """Return the largest |mean(w) - p(x)| over the 8 images, in standard errors."""
    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(IMAGES).double()
    n_uniform, n_normal = model.n_noise
    log_z = brute_log_z(*dense(model.prior))
    with torch.no_grad():
        rho = torch.rand((n, 1, n_uniform), generator=generator, dtype=torch.float64)
        eps = torch.randn((n, 1, n_normal), generator=generator, dtype=torch.float64)
        w = (model.weight_parts(x, rho.expand(-1, 8, -1), eps.expand(-1, 8, -1)).sum(0) - log_z).exp()
    exact = np.exp([exact_log_p_x(model, image) for image in x])
    assert abs(exact.sum() - 1) < 1e-3
    return np.abs((w.mean(0).numpy() - exact) / (w.std(0).numpy() / np.sqrt(n))).max()


# Logits that are not extreme: a weight that is seen once in 10^5 draws has no standard error.
SHAPES = [
    {"n_groups": 2, "scale": 0.6},
    {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.7},
    {"n_groups": 1, "scale": 0.6},
    {"n_groups": 4, "scale": 0.6},
    {"n_left": 1, "n_right": 3, "n_groups": 3, "scale": 0.6},
    {"n_left": 1, "n_right": 2, "n_layers": 2, "n_groups": 3, "scale": 0.5},
]
OTHER_PRIORS = [
    {"n_left": 1, "n_right": 2, "n_groups": 2, "prior": "graph", "graph": "complete", "scale": 0.5},
    {"n_left": 2, "n_right": 2, "n_groups": 4, "prior": "graph", "graph": "ring", "scale": 0.5},
    {"n_left": 2, "n_right": 1, "n_groups": 2, "prior": "independent", "scale": 0.5},
    {"n_left": 1, "n_right": 1, "n_layers": 2, "n_sharing_groups": 1, "scale": 0.5},
    {"n_left": 1, "n_right": 1, "n_layers": 2, "n_sharing_groups": 2, "scale": 0.5},
]
CASES = [
    pytest.param(smoothing, shape, marks=[pytest.mark.slow] * (i > 1))
    for smoothing in SMOOTHINGS
    for i, shape in enumerate(SHAPES)
] + [("spike-and-exponential", shape) for shape in OTHER_PRIORS]


@pytest.mark.parametrize(("smoothing", "shape"), CASES)
def test_weights_are_unbiased_for_p_x(smoothing, shape):
    """mean(w) = p(x) for each of the 8 images; |z| < 5 each, false alarm 5e-6 in all (normal), fixed seed."""
    assert largest_z(tiny_model(**shape, seed=3, smoothing=smoothing)) < 5


def bounds_in_blocks(model, k, n=4000):
    """Return log 1/k Σ w of n blocks of k weights as the estimator draws them, and log p(x), of the image 101."""
    x = np.array([1, 0, 1], dtype=np.uint8)
    draw = FoldedDVAE(model).of_image(torch.from_numpy(x), index=5, seed=0)
    with torch.no_grad():
        log_w = torch.cat([draw(1000).double().sum(0) for _ in range(n * k // 1000)])
    log_w = log_w.reshape(n, k) - brute_log_z(*dense(model.prior))
    return (torch.logsumexp(log_w, 1) - np.log(k)).numpy(), exact_log_p_x(model, torch.from_numpy(x).double())


def standardised(values, expected):
    return (values.mean() - expected) / (values.std() / np.sqrt(len(values)))


ESTIMATED = [(smoothing, {"n_groups": 2, "scale": 0.5}) for smoothing in SMOOTHINGS] + [
    pytest.param("spike-and-exponential", shape, marks=[pytest.mark.slow] * (shape.get("n_layers", 0) > 1))
    for shape in OTHER_PRIORS
]


@pytest.mark.parametrize(("smoothing", "shape"), ESTIMATED)
def test_means_of_weights_are_unbiased_and_bounds_are_ordered(smoothing, shape):
    """E (1/K) Σ w = p(x) for K = 1 and 5, |z| < 4 (false alarm 6e-5 each); E L_1 <= E L_5 <= log p(x)."""
    model = tiny_model(**shape, seed=3, smoothing=smoothing)
    single, exact = bounds_in_blocks(model, 1)
    several, _ = bounds_in_blocks(model, 5)
    for bound in (single, several):
        assert abs(standardised(np.exp(bound - exact), 1.0)) < 4
        assert standardised(bound, exact) < 3
    difference = several.mean() - single.mean()
    assert difference > -3 * np.hypot(single.std(), several.std()) / np.sqrt(len(single))
    assert single.std() > 0.05


def test_weights_that_forget_the_prior_are_rejected(monkeypatch):
    """The same test fails by far if log Z is left out, or the energy changes sign."""
    model = tiny_model(seed=3, n_groups=2, scale=0.5)
    single, exact = bounds_in_blocks(model, 1)
    log_z = brute_log_z(*dense(model.prior))
    assert abs(standardised(np.exp(single + log_z - exact), 1.0)) > 20
    folded = FoldedDVAE(model)
    monkeypatch.setattr(FoldedDVAE, "__init__", lambda self, _: self.__dict__.update(folded.__dict__))
    folded.couplings, folded.biases = -folded.couplings, -folded.biases
    assert abs(standardised(np.exp(bounds_in_blocks(model, 1)[0] - exact), 1.0)) > 5


def test_weights_without_the_ratio_of_densities_are_rejected(monkeypatch):
    forward = SpikeAndGaussian.forward

    def broken(*args):
        sample = forward(*args)
        return dataclasses.replace(sample, log_ratio=torch.zeros_like(sample.log_ratio))

    monkeypatch.setattr(SpikeAndGaussian, "forward", broken)
    assert largest_z(tiny_model(seed=3, smoothing="spike-and-gaussian")) > 15


def test_weights_with_z_from_the_noise_of_zeta_are_rejected(monkeypatch):
    """Without a spike, z is no function of ρ: [ρ >= 1 - q] has the wrong joint distribution with ζ."""
    forward = MixtureOfRamps.forward

    def broken(self, output, rho):
        sample = forward(self, output, rho)
        z = rho.chunk(2, -1)[0] >= torch.sigmoid(-sample.logits)
        return dataclasses.replace(sample, z=z.double())

    monkeypatch.setattr(MixtureOfRamps, "forward", broken)
    assert largest_z(tiny_model(seed=3, smoothing="mixture-of-ramps")) > 15


def test_a_model_without_its_smoothing_has_zeta_equal_to_z():
    """Footnote 5: the weights of the model without smoothing are unbiased for the p(x) that it defines."""
    plain = without_smoothing(tiny_model(seed=3))
    assert largest_z(plain) < 5
    model = float32(trained(seed=3))
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, IMAGES, log_z, LikelihoodConfig(n_samples=4000, as_trained=False))
    exact = np.array([exact_log_p_x(plain, x) for x in torch.from_numpy(IMAGES).double()])
    z = (np.array(result.per_image["log_likelihood"]) - exact) * np.sqrt(result.per_image["ess"])
    assert np.abs(z).max() < 5
    assert abs(result.log_likelihood - exact_with_smoothing(3).mean()) > 0.05


def exact_with_smoothing(seed):
    """Return log p(x) of the images under the smoothed model."""
    return np.array([exact_log_p_x(tiny_model(seed=seed), x) for x in torch.from_numpy(IMAGES).double()])


def test_smoothing_that_depends_on_x_cannot_be_taken_away():
    with pytest.raises(ConfigError, match="spike-and-gaussian"):
        without_smoothing(tiny_model(smoothing="spike-and-gaussian"))


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


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_samples_at_a_time_do_not_change_the_estimate(monkeypatch, precision, tolerance):
    """Each image has its own random numbers: 7 or 1000 at a time, alone or among others, they are the same.

    What is left is the rounding of the products of matrices, whose order of summation may depend on their size.
    """
    model = float32(trained(n_layers=1, n_left=1, n_right=2, n_groups=2))
    log_z = estimate_log_z(machine_of(model))
    config = LikelihoodConfig(n_samples=1010, seed=3, precision=precision)

    def values(tile, **changes):
        monkeypatch.setattr(FoldedDVAE, "tile", tile)
        result = estimate_log_likelihood(model, IMAGES, log_z, dataclasses.replace(config, **changes))
        return result.per_image["index"], np.array(result.per_image["log_likelihood"])

    whole, by_seven, some = values(1000), values(7), values(500, limit=3)
    assert some[0] == [0, 4, 7]
    assert np.abs(whole[1] - by_seven[1]).max() < tolerance
    assert np.abs(whole[1][some[0]] - some[1]).max() < tolerance
    other = values(1000, seed=4)
    assert np.abs(whole[1] - other[1]).min() > 1e-3


def test_log_z_of_another_model_is_refused():
    log_z = estimate_log_z(machine_of(trained(seed=1)))
    with pytest.raises(ResultError, match="another prior"):
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


@pytest.mark.parametrize(("power", "n_samples"), [(1.0, 1000), (0.5, 1000), (0.3, 10_000), (0.5, 4000)])
def test_the_gap_of_a_bound_that_rises_as_a_power_is_found(power, n_samples):
    """L_K = 1 - K^-a has the gap K^-a, whether K is a power of ten or not."""
    curve = 1 - np.array(milestones(n_samples), dtype=float) ** -power
    gap = ImageEstimates(weights_with(curve), 0.0, n_samples).extrapolated_gap
    assert gap == pytest.approx(n_samples**-power, rel=1e-9)


def test_a_bound_that_does_not_slow_down_has_a_wide_gap():
    assert ImageEstimates(weights_with([-4, -3, -2, -1]), 0.0, 1000).extrapolated_gap == pytest.approx(99)
    assert ImageEstimates(weights_with([-1, -1, -1, -1]), 0.0, 1000).extrapolated_gap == 0


def weights_with(curve):
    """Return the weights of two images with this mean bound curve and nothing else to tell."""
    curve, none = np.asarray(curve, dtype=float), np.zeros(2)
    return ImageWeights(np.stack((curve - 1, curve + 1)), np.zeros((2, 3)), none, none + 1, none)
