"""Estimators of the gradient against enumeration and quadrature: unbiased ones agree, biased ones are found out.

z is the deviation of a whole mean gradient as a standard normal deviate
(`dvae_eval.gradients.comparison.compare`).  Were it exactly normal, z < Z_LIMIT = 5 would fail correct code
3 times in 10 million; how good the approximation is in the tail is tested below, and the seeds are fixed besides.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.config import RunConfig
from dvae_core.errors import ConfigError, NumericalError
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import GradientConfig
from dvae_eval.gradients import comparison as gradients_module
from dvae_eval.gradients.comparison import (
    EXACT,
    TERMS,
    Z_LIMIT,
    Moments,
    Reference,
    compare,
    exact_gradient,
    measure_gradients,
)
from dvae_eval.gradients.estimators import ESTIMATORS, Estimator, reinmax_slope, straight_through_slope
from dvae_eval.results import load_result
from tests.oracles import enumerate_states, exact_bound, tiny_model

IMAGES = enumerate_states(3).astype(np.uint8)[[5, 2]]
UNBIASED = [estimator.name for estimator in ESTIMATORS if estimator.is_unbiased]


def trained(model) -> TrainedModel:
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


def measure(model, **settings):
    return measure_gradients(trained(model), IMAGES, GradientConfig(**settings))


def z_of(result, name, term="elbo"):
    return result.estimators[name]["terms"][term]["z"]


@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_exact_gradient_is_that_of_the_oracle(n_groups):
    """Two codes: this one differentiates by an offset of the logits, the oracle by the output's bias."""
    model = tiny_model(n_groups=n_groups, seed=n_groups)
    x = torch.from_numpy(IMAGES).double()
    found = exact_gradient(model, x)["elbo"].mean.reshape(2, 4) * 2**0.5
    for image, gradient in zip(x, found, strict=True):
        exact_bound(model, image).backward()
        norms = [network.output_norm for network in model.posterior.networks]
        # offset = scale · tanh(raw), so d/d(raw) = d/d(offset) · scale · (1 - tanh²).
        chain = [norm.scale * (1 - norm.raw_offset.tanh() ** 2) for norm in norms]
        by_bias = torch.cat([norm.raw_offset.grad / c for norm, c in zip(norms, chain, strict=True)])
        assert torch.allclose(by_bias, gradient, atol=1e-6)
        model.zero_grad()


@pytest.mark.parametrize(
    "shape",
    [
        {"n_groups": 1, "seed": 1},
        {"n_groups": 2, "seed": 2},
        {"n_groups": 4, "seed": 3},
        {"n_left": 1, "n_right": 3, "n_groups": 3, "seed": 5},
    ],
)
def test_unbiased_estimators_agree_with_enumeration(shape):
    """4 estimators and 3 terms each: 48 comparisons in all, 1.4e-5 false alarms in all if z is normal."""
    result = measure(tiny_model(**shape), n_samples=40_000)
    assert result.reference["method"] == EXACT
    assert result.trustworthy
    assert max(z_of(result, name, term) for name in UNBIASED for term in TERMS) < Z_LIMIT
    assert all(result.estimators[name]["terms"]["elbo"]["cosine"] > 0.99 for name in UNBIASED)


def test_unbiased_estimators_agree_with_each_other_where_nothing_is_exact():
    result = measure(tiny_model(n_left=1, n_right=1, n_layers=2, seed=7), n_samples=40_000, n_reference=80_000)
    assert result.reference["method"] == "average of reparameterised"
    assert result.trustworthy
    assert z_of(result, "reparameterised") is None
    assert max(z_of(result, name, term) for name in UNBIASED[1:] for term in TERMS) < Z_LIMIT


def test_without_the_factor_it_is_biased_in_the_rbms_term_alone():
    result = measure(tiny_model(n_groups=4, seed=3), n_samples=40_000)
    assert z_of(result, "without-factor", "rbm") > 3 * Z_LIMIT
    assert z_of(result, "without-factor", "rest") < Z_LIMIT
    found = result.estimators["without-factor"]["terms"]["rbm"]
    assert found["bias"] > 2 * found["bias_std_err"]
    # With one group there is no bond that the factor belongs to.
    assert z_of(measure(tiny_model(n_groups=1, seed=1), n_samples=40_000), "without-factor", "rbm") < Z_LIMIT


def test_an_estimator_that_should_be_unbiased_and_is_not_takes_the_trust_away(monkeypatch):
    def halved(model, draw, baselines):
        return ESTIMATORS[1].surrogate(model, draw, baselines) / 2

    broken = (ESTIMATORS[0], Estimator("nvil", True, halved))
    monkeypatch.setattr(gradients_module, "ESTIMATORS", broken)
    result = measure(tiny_model(n_groups=2, seed=2), n_samples=8000)
    assert not result.trustworthy
    assert any(reason.startswith("bias of nvil, elbo") for reason in result.reasons)


P = torch.tensor([0.05, 0.3, 0.5, 0.9], dtype=torch.float64)


def expected_slope(slope, df):
    """Return E[f'(z) · slope] of one unit with q = P, by enumeration of z; f' of a number."""
    on, off = (torch.full_like(P, z) for z in (1.0, 0.0))
    return P * slope(P, on) * df(1.0) + (1 - P) * slope(P, off) * df(0.0)


def test_both_are_exact_for_a_linear_function():
    for slope in (straight_through_slope, reinmax_slope):
        assert torch.allclose(expected_slope(slope, lambda z: 2.5), 2.5 * P * (1 - P), atol=1e-14)


def test_reinmax_is_exact_for_a_quadratic_function_and_straight_through_is_not():
    """d/dg E[f] = q (1 - q) (f(1) - f(0)) for f(z) = a z + b z²; a cubic has a remainder."""
    a, b = 0.7, -1.9
    exact = P * (1 - P) * (a + b)
    assert torch.allclose(expected_slope(reinmax_slope, lambda z: a + 2 * b * z), exact, atol=1e-14)
    wrong = expected_slope(straight_through_slope, lambda z: a + 2 * b * z)
    assert ((wrong - exact).abs() > 0.01)[P != 0.5].all()
    assert ((expected_slope(reinmax_slope, lambda z: 3 * z**2) - P * (1 - P)).abs() > 0.01).all()


def test_the_factor_of_reinmax_is_half_the_distance_of_z_from_q():
    for z in (0.0, 1.0):
        assert torch.allclose(reinmax_slope(P, torch.full_like(P, z)), (z - P).abs() / 2, atol=1e-15)


def test_estimators_through_z_where_units_are_independent():
    """The RBM's term is linear in each unit: both are exact.  In the rest straight-through's bias is found."""
    result = measure(tiny_model(n_groups=1, seed=1), n_samples=40_000)
    assert max(z_of(result, name, "rbm") for name in ("straight-through", "reinmax")) < Z_LIMIT
    assert z_of(result, "straight-through", "rest") > Z_LIMIT
    assert z_of(result, "reinmax", "rest") < Z_LIMIT


def test_reinmax_has_less_bias_than_straight_through():
    result = measure(tiny_model(n_groups=4, seed=3), n_samples=40_000)
    bias = {name: result.estimators[name]["terms"]["elbo"]["bias"] for name in ("straight-through", "reinmax")}
    assert 1.5 * bias["reinmax"] < bias["straight-through"]


def coupled_model(n_side=8, n_pixels=12):
    """A model whose groups hang together and whose bound is far from zero: what a baseline is for."""
    return tiny_model(n_left=n_side, n_right=n_side, n_groups=4, n_pixels=n_pixels, seed=0, scale=0.5)


def test_the_papers_estimator_is_the_quietest_and_plain_reinforce_the_loudest():
    """Variances differ by factors of several; at 4000 draws each is known to some percent."""
    model = coupled_model()
    images = np.random.default_rng(0).integers(2, size=(2, 12), dtype=np.uint8)
    result = measure_gradients(trained(model), images, GradientConfig(n_samples=4000, n_reference=4000))
    variance = [result.estimators[name]["terms"]["elbo"]["variance"] for name in UNBIASED]
    assert UNBIASED == ["reparameterised", "nvil", "reinforce-mean", "reinforce"]
    assert 2 * variance[0] < variance[1] < variance[2]
    assert 2 * variance[2] < variance[3]


def test_z_is_a_normal_deviate_without_bias_and_grows_with_one():
    """Of 1000 comparisons 22.8 are beyond 2; 5 to 48 fails less than once in 10^4 (binomial).

    The draws are skewed and one direction has most of the variance, as with real gradients.
    """
    rng = np.random.default_rng(0)
    scale = torch.tensor([5.0, 1.0, 1.0, 0.1])
    z = {0.0: [], 1.0: []}
    for shift in z:
        for _ in range(1000):
            moments = Moments()
            moments.add((torch.from_numpy(rng.exponential(size=(400, 4))) - 1) * scale + shift)
            z[shift].append(compare(moments, Reference(EXACT, 0, torch.zeros(4).double(), 0.0, 0.0))["z"])
    assert 5 <= sum(value > 2 for value in z[0.0]) <= 48
    assert max(z[0.0]) < Z_LIMIT
    assert min(z[1.0]) > 2


def test_moments_are_those_of_the_rows():
    rows = (
        torch.randn((40_000, 3), generator=torch.Generator().manual_seed(0)).double()
        @ torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.5]]).double()
    )
    moments = Moments()
    for part in rows.split(400):
        moments.add(part)
    covariance = rows.T.cov()
    assert torch.allclose(moments.mean, rows.mean(0))
    assert moments.variance == pytest.approx(float(covariance.trace()), rel=1e-9)
    # 10^4 products, each with a relative spread of about 3: 3% is one standard error.
    assert moments.square_trace == pytest.approx(float((covariance @ covariance).trace()), rel=0.15)


def test_the_seed_fixes_the_result_and_the_file_keeps_it(tmp_path):
    model = tiny_model(n_groups=2)
    one, two, other = (measure(model, n_samples=400, seed=seed) for seed in (3, 3, 4))

    def numbers(result):
        return {name: found["terms"] for name, found in result.estimators.items()}

    assert numbers(one) == numbers(two)
    assert numbers(one) != numbers(other)
    one.save(tmp_path / "gradients.json")
    read = load_result(tmp_path / "gradients.json")
    assert read == one
    data = json.loads((tmp_path / "gradients.json").read_text())
    assert data["kind"] == "gradients"
    assert set(data["estimators"]) == {estimator.name for estimator in ESTIMATORS}
    keys = {"variance", "snr", "bias", "bias_std_err", "z", "cosine"}
    assert all(set(f["terms"][t]) == keys for f in data["estimators"].values() for t in TERMS)
    assert str(one).startswith("variance of the bound's gradient: reparameterised")


def test_a_gradient_that_is_not_finite_is_named():
    model = tiny_model(n_groups=2)
    with torch.no_grad():
        model.prior.W.fill_(float("inf"))
    with pytest.raises(NumericalError, match="not finite"):
        measure(model, n_samples=8)


def test_the_model_is_left_as_it_was():
    model = tiny_model(n_groups=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, n_samples=8)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(network._forward_hooks or network._forward_pre_hooks for network in model.posterior.networks)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_figures(tmp_path):
    from dvae_reports.figures.gradients import plot_gradient_variance

    result = measure(tiny_model(n_groups=2), n_samples=400)
    ax = plot_gradient_variance(result)
    assert ax.get_xscale() == "log"
    assert "without-factor (biased)" in [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(ax.lines) == 3


@pytest.mark.parametrize("smoothing", ["spike-and-gaussian", "mixture-of-ramps"])
def test_smoothings_that_the_estimators_are_not_defined_for_are_refused(smoothing):
    with pytest.raises(ConfigError, match=smoothing):
        measure(tiny_model(smoothing=smoothing))
