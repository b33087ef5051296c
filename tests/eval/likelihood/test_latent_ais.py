"""Annealing in the noise of the latents against log p(x) by enumeration and quadrature."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.config import RunConfig
from dvae_core.errors import ConfigError
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood import ais as latent_ais
from dvae_eval.likelihood.ais import AnnealingTask, anneal
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.folded import FoldedDVAE
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.trained import machine_of
from tests.eval.likelihood.test_folded import FoldedModel
from tests.oracles import brute_log_z, dense, enumerate_states, exact_log_p_x, tiny_model

IMAGES = enumerate_states(3).astype(np.uint8)


def largest_z(model, n_chains=3000, n_steps=12):
    """Return the largest |mean(w) - p(x)| over the 8 images, in standard errors of the chains' mean."""
    task = AnnealingTask(FoldedDVAE(model, "float64"), n_chains, n_steps, seed=0)
    log_z = brute_log_z(*dense(model.prior))
    zs = []
    for index, x in enumerate(IMAGES):
        w = (task.log_weights(x, index) - log_z).exp().numpy()
        exact = np.exp(exact_log_p_x(model, torch.from_numpy(x).double()))
        zs.append((w.mean() - exact) / (w.std() / np.sqrt(n_chains)))
    return np.abs(zs).max()


MODELS = {
    "spike-and-exponential": {"n_groups": 2, "scale": 0.6},
    "spike-and-gaussian": {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.6},
    "mixture-of-ramps": {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.6},
    "none": {"n_left": 1, "n_right": 2, "n_layers": 1, "scale": 0.5},
}


@pytest.mark.parametrize(("smoothing", "shape"), MODELS.items(), ids=list(MODELS))
def test_weights_of_chains_are_unbiased_for_p_x(smoothing, shape):
    """|z| < 5 for each of 8 images, false alarm 5e-6 in all, fixed seed."""
    assert largest_z(tiny_model(**shape, seed=3, smoothing=smoothing)) < 5


def test_steps_of_the_noise_that_change_its_distribution_are_rejected(monkeypatch):
    """ε + s ξ widens N(0, 1), and exp(β (f' - f)) does not make up for it."""

    def broken(rho, eps, generator):
        return rho, eps + torch.empty_like(eps).normal_(generator=generator)

    monkeypatch.setattr(latent_ais, "_other_eps", broken)
    assert largest_z(tiny_model(n_left=1, n_right=1, n_layers=1, scale=0.6, seed=3)) > 8


def test_annealing_a_gaussian_gives_its_normaliser():
    """f = a ε_1 - ε_2² / 2: E[exp f] = exp(a²/2) / √2, and the error falls as steps are added."""
    generator = torch.Generator().manual_seed(1)

    def draw(n_steps):
        rho, eps = torch.rand(2000, 1, generator=generator), torch.randn(2000, 2, generator=generator)
        log_w = anneal(lambda _, eps: 2 * eps[:, 0] - eps[:, 1] ** 2 / 2, rho, eps, n_steps, generator)
        return log_w.numpy()

    rough, fine = draw(1), draw(500)
    w = np.exp(fine)
    exact = np.exp(2) / np.sqrt(2)
    assert abs(w.mean() - exact) < 4 * w.std() / np.sqrt(len(w))
    assert fine.std() < rough.std() / 3


def test_annealing_beside_importance_weighting():
    """Both estimates and their difference are in the result; the mean is right within its error, |z| < 4."""
    model = tiny_model(n_left=1, n_right=2, n_layers=1, scale=0.5, seed=5)
    exact = np.array([exact_log_p_x(model, torch.from_numpy(x).double()) for x in IMAGES])
    trained = TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)
    config = LikelihoodConfig(method="ais", n_samples=500, n_ais_chains=200, n_ais_steps=20)
    log_z = estimate_log_z(machine_of(trained))
    result = estimate_log_likelihood(trained, IMAGES, log_z, config)
    assert (result.method, result.n_samples, result.settings["n_samples"]) == ("ais", 200, 500)
    z = (np.array(result.per_image["log_likelihood"]) - exact) * np.sqrt(result.per_image["ess"])
    assert np.abs(z).max() < 4.5
    beside = result.diagnostics["importance"]
    mean_importance = np.mean(result.per_image["importance"])
    assert beside["log_likelihood"] == pytest.approx(mean_importance)
    assert result.log_likelihood == pytest.approx(mean_importance + beside["difference"])
    assert "200 annealed chains" in str(result)
    assert "annealing lies below" in " ".join(check["name"] for check in result.diagnostics["checks"])


def test_annealing_that_misses_mass_is_not_trusted(monkeypatch):
    """Chains that end far below what importance weighting found have not been annealed enough."""
    model = tiny_model(n_left=1, n_right=2, n_layers=1, scale=0.5, seed=5)
    trained = TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)
    weights = AnnealingTask.log_weights
    monkeypatch.setattr(AnnealingTask, "log_weights", lambda *args: weights(*args) - 1)
    config = LikelihoodConfig(method="ais", n_samples=500, n_ais_chains=50, n_ais_steps=5)
    result = estimate_log_likelihood(trained, IMAGES, estimate_log_z(machine_of(trained)), config)
    assert not result.trustworthy
    assert "annealing lies below" in " ".join(result.reasons)


def test_only_this_projects_models_are_annealed():
    prior = machine_of(TrainedModel(tiny_model(), RunConfig("t"), (1, 3), {}, Path("t"), ""))
    with pytest.raises(ConfigError, match="--method ais"):
        estimate_log_likelihood(
            FoldedModel(tiny_model()),
            IMAGES,
            estimate_log_z(prior),
            LikelihoodConfig(method="ais", n_samples=2),
            prior=prior,
        )
