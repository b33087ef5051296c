"""What is made of the weights of one image, against loops, closed forms and known tails."""

import math

import numpy as np
import pytest
from scipy import stats

from dvae_eval.likelihood.importance import (
    ImageWeights,
    bounds,
    jackknife_bias,
    milestones,
    stack_images,
)
from dvae_eval.likelihood.pareto import fit_generalised_pareto, pareto_k, pareto_limit


def test_milestones():
    assert milestones(1) == [1]
    assert milestones(10) == [1, 10]
    assert milestones(250) == [1, 10, 100, 250]


def test_bounds_are_means_over_disjoint_blocks():
    log_w = np.random.default_rng(0).normal(size=250)
    by_hand = []
    for k in (1, 10, 100, 250):
        blocks = [log_w[i * k : (i + 1) * k] for i in range(250 // k)]
        by_hand.append(np.mean([np.log(np.mean(np.exp(block))) for block in blocks]))
    assert np.allclose(bounds(log_w), by_hand, rtol=1e-12)


def test_bounds_of_weights_that_would_overflow():
    assert np.allclose(bounds(np.full(20, 5000.0)), 5000)
    assert np.allclose(bounds(np.full(20, -5000.0)), -5000)


def test_jackknife_leaves_out_each_sample_once():
    log_w = np.random.default_rng(1).normal(size=12)
    w = np.exp(log_w)
    left_out = [np.log(np.delete(w, i).mean()) for i in range(12)]
    assert jackknife_bias(log_w) == pytest.approx(11 * (np.mean(left_out) - np.log(w.mean())), rel=1e-10)
    assert jackknife_bias(np.full(12, 3.0)) == pytest.approx(0, abs=1e-12)
    assert math.isnan(jackknife_bias(np.zeros(1)))
    assert np.isfinite(jackknife_bias(np.array([0.0, -5000, -5000])))


def test_jackknife_tells_the_bias_of_the_bound():
    """Log-normal weights, E w = 1: the mean of the corrected bound is nearer to 0, by far more than the noise."""
    log_w = np.random.default_rng(2).normal(-0.32, 0.8, size=(4000, 20))
    bound = np.array([bounds(row)[-1] for row in log_w])
    bias = np.array([jackknife_bias(row) for row in log_w])
    noise = bound.std() / np.sqrt(len(bound))
    assert bound.mean() < -6 * noise  # about -(e^0.64 - 1) / 40 = -0.022
    assert abs(bound.mean() - bias.mean()) < 4 * (bound - bias).std() / np.sqrt(len(bound))


def test_images_are_stacked_in_order():
    images = [ImageWeights.of(np.random.default_rng(i).normal(size=40), np.array([1.0, i])) for i in range(3)]
    stacked = stack_images(images)
    assert stacked.bounds.shape == (3, 3)
    assert stacked.ess.shape == (3,)
    assert stacked.parts[:, 1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("k", [-0.4, 0.0, 0.3, 0.7, 1.2])
def test_generalised_pareto_is_fitted(k):
    """Standard error of the maximum-likelihood estimate: (1 + k)/√n; |z| < 4, false alarm 6e-5 each."""
    n = 4000
    values = np.sort(stats.genpareto.rvs(k, scale=2.5, size=n, random_state=np.random.default_rng(3)))
    shape, scale = fit_generalised_pareto(values)
    assert abs(shape - k) < 4 * (1 + k) / np.sqrt(n)
    assert abs(scale / 2.5 - 1) < 0.15
    by_likelihood = stats.genpareto.fit(values, floc=0)[0]
    assert abs(shape - by_likelihood) < 0.5 * (1 + k) / np.sqrt(n)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9, 1.5])
def test_tail_of_weights_has_its_shape(k):
    """Weights U^-k have a tail of shape k; 300 values of it, a spread of (1 + k)/√300."""
    log_w = -k * np.log(np.random.default_rng(4).random(10_000))
    found = pareto_k(log_w)
    assert abs(found - k) < 4 * (1 + k) / np.sqrt(300)
    assert pareto_k(log_w + 500) == pytest.approx(found, abs=1e-9)


def test_shape_of_weights_that_have_no_tail():
    assert pareto_k(np.full(1000, -3.0)) == -math.inf
    assert pareto_k(np.random.default_rng(5).random(1000)) < 0
    assert math.isnan(pareto_k(np.zeros(20)))
    # One sample has all the weight.
    assert pareto_k(np.r_[np.full(999, -700.0), 0.0]) == math.inf
    # Ties with the threshold up to the first quartile of the tail, and not beyond it: no nan.
    assert pareto_k(np.r_[np.zeros(170), np.linspace(1, 2, 30)]) == math.inf


def test_fewer_samples_have_a_stricter_limit():
    """Vehtari et al. (2024), Eq. 13: min(1 - 1/log10 S, 0.7)."""
    assert pareto_limit(100) == pytest.approx(0.5)
    assert pareto_limit(10_000) == 0.7
    assert pareto_limit(5) == 0.0
