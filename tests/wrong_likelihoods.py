"""Estimators of log p(x) of which it is known what is wrong with them, for the benchmark to find out."""

import copy

import numpy as np
import torch

from dvae_eval.test_machines.quadrature import exact_log_p

NOISE = 0.05  # nats


def honest(model, images, seed):
    """Off by as much as it claims, on every image alone."""
    exact = exact_log_p(copy.deepcopy(model).double(), torch.from_numpy(images).double()).numpy()
    noise = NOISE * np.sqrt(len(images)) * np.random.default_rng(seed).normal(size=len(images))
    return exact + noise, NOISE


def low_and_says_so(model, images, seed):
    """A bound 1 nat below the truth that says so, within a factor of about two."""
    log_p_x, std_err = honest(model, images, seed)
    return log_p_x - 1.0, std_err, True, 1.5


def low(model, images, seed):
    """The same bound, which does not say so."""
    return low_and_says_so(model, images, seed)[:2]


def too_high(model, images, seed):
    """Above the truth: no gap excuses that."""
    log_p_x, std_err = honest(model, images, seed)
    return log_p_x.mean() + 1.0, std_err, True, 1.5


def doubtful(model, images, seed):
    """Low, and says that it cannot be trusted."""
    return *low(model, images, seed), False


def weighted(model, images, log_z, seed, budget):
    """Importance weighting by the public interface alone, without a gap."""
    values = model.log_likelihood(torch.from_numpy(images).float(), log_z, n_samples=int(2000 * budget), seed=seed)
    return values.numpy(), 0.05


def one_too_many(model, images):
    return np.zeros(len(images) + 1), 0.1


def takes_W(W):
    return 0.0, 1.0
