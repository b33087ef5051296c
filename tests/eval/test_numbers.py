"""Means of weights given as logarithms, and standard errors, against their definitions."""

import math

import numpy as np
import pytest

from dvae_eval.numbers import effective_sample_size, log_mean_exp, std_err_of_mean


def test_log_mean_exp():
    values = np.random.default_rng(0).normal(size=(3, 4))
    assert log_mean_exp(values) == pytest.approx(np.log(np.exp(values).mean()), rel=1e-12)
    assert log_mean_exp(np.array([5000.0, 5000.0])) == 5000
    assert log_mean_exp(np.array([-math.inf, 0.0])) == pytest.approx(-math.log(2))


def test_effective_sample_size():
    assert effective_sample_size(np.full(30, 800.0)) == pytest.approx(30)
    assert effective_sample_size(np.array([0.0, -1000, -1000])) == pytest.approx(1)
    assert effective_sample_size(np.log([1.0, 2, 3])) == pytest.approx(36 / 14)


def test_standard_error_of_a_mean():
    assert std_err_of_mean(np.array([1.0, 2, 3, 6])) == pytest.approx(math.sqrt(14 / 3 / 4))
    assert math.isnan(std_err_of_mean(np.array([1.0])))
    assert math.isnan(std_err_of_mean(np.array([1.0, math.inf])))
