"""Anyone's model: the example runs and is right, the page quotes it, and mistakes are named."""

import re
import runpy

import numpy as np
import pytest
import torch

from dvae_core.errors import ConfigError, NumericalError, ResultError
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.protocol import LatentVariableModel, model_digest
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine
from tests.places import ROOT

EXAMPLE = ROOT / "examples" / "evaluate_your_own_model.py"


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


def make(example, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return example["MyModel"](9)


def images(n=6):
    return np.random.default_rng(0).integers(2, size=(n, 9), dtype=np.uint8)


def test_the_example_finds_the_exact_value(example, capsys):
    with torch.random.fork_rng():
        example["main"]()
    found = capsys.readouterr().out
    estimate, exact = (float(re.search(rf"{word} (-\d+\.\d+)", found)[1]) for word in ("log p\\(x\\) >=", "exact"))
    assert abs(estimate - exact) < 0.03
    assert "trustworthy: True" in found


def test_the_page_quotes_the_example():
    page = (ROOT / "docs" / "evaluate-your-own-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    # The rest of the page runs by itself (test_docs.py).
    assert blocks[0][blocks[0].index("class MyModel") :] in EXAMPLE.read_text(encoding="utf-8")


def test_the_bound_rises_to_the_exact_value(example):
    """E L_1 <= E L_10 <= ... <= log p(x); |z| < 4.5 for each of 6 images, false alarm 4e-5."""
    model = make(example)
    assert isinstance(model, LatentVariableModel)
    log_z = estimate_log_z(model.prior())
    result = estimate_log_likelihood(model, images(), log_z, LikelihoodConfig(n_samples=3000), prior=model.prior())
    exact = [example["exact_log_likelihood"](model, images()[i : i + 1], log_z.log_z) for i in range(6)]
    z = (np.array(result.per_image["log_likelihood"]) - exact) * np.sqrt(result.per_image["ess"])
    assert np.abs(z).max() < 4.5
    curve = result.diagnostics["bound_curve"]["log_likelihood"]
    assert curve == sorted(curve)
    assert set(result.elbo_parts) == {"log_joint", "entropy"}
    assert sum(result.elbo_parts.values()) == pytest.approx(curve[0])
    assert result.model["prior_sha256"] == model.prior().sha256


def test_log_z_of_another_prior_is_refused(example):
    model, other = make(example), make(example, seed=1)
    with pytest.raises(ResultError, match="another prior than that of MyModel"):
        estimate_log_likelihood(model, images(), estimate_log_z(other.prior()), prior=model.prior())


def test_a_model_without_its_prior_is_refused(example):
    model = make(example)
    with pytest.raises(ConfigError, match="prior"):
        estimate_log_likelihood(model, images(), estimate_log_z(model.prior()))


def test_a_digest_tells_models_apart(example):
    model, alike, other = make(example), make(example), make(example, seed=1)
    assert model_digest(model) == model_digest(alike) != model_digest(other)
    assert model_digest(Wrong(1, 2)) != model_digest(Wrong(1, 3))


class Wrong:
    """A model with one mistake."""

    def __init__(self, log_q, log_joint):
        self.log_q, self.log_p = log_q, log_joint

    def sample_latents(self, x, n_samples, generator):
        return None, self.log_q(n_samples)

    def log_joint(self, x, latents):
        return self.log_p(10)


@pytest.mark.parametrize(
    ("log_q", "log_joint", "words"),
    [
        (lambda n: torch.zeros(n, 1), torch.zeros, r"log q of sample_latents: .* \(10, 1\) for 10 samples"),
        (torch.zeros, lambda n: torch.zeros(()), r"log_joint: .* of shape \(\)"),
        (torch.zeros, lambda n: 3.0, "log_joint: float"),
        (torch.zeros, lambda n: torch.zeros(n, dtype=torch.int64), "log_joint: torch.int64"),
    ],
)
def test_what_the_methods_return_is_checked(log_q, log_joint, words):
    prior = BipartiteMachine.from_arrays(np.zeros((1, 1)), np.zeros(1), np.zeros(1))
    config = LikelihoodConfig(n_samples=10)
    with pytest.raises(ConfigError, match=words):
        estimate_log_likelihood(Wrong(log_q, log_joint), images(), estimate_log_z(prior), config, prior=prior)


def uniform_prior():
    return BipartiteMachine.from_arrays(np.zeros((1, 1)), np.zeros(1), np.zeros(1))


def test_weights_that_are_zero_count_as_such():
    """Every other draw is impossible: the mean of the weights is half of what the others have."""
    model = Wrong(torch.zeros, lambda n: torch.where(torch.arange(n) % 2 == 0, 0.0, -torch.inf))
    prior = uniform_prior()
    result = estimate_log_likelihood(
        model, images(), estimate_log_z(prior), LikelihoodConfig(n_samples=10), prior=prior
    )
    assert result.log_likelihood == pytest.approx(np.log(0.5) - np.log(4))
    assert result.per_image["ess"] == pytest.approx([5] * 6)
    assert result.elbo == -np.inf
    assert '"elbo": null' in result.to_json()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_estimate_that_is_no_number_names_the_image(value):
    prior, model = uniform_prior(), Wrong(torch.zeros, lambda n: torch.full((n,), value))
    with pytest.raises(NumericalError, match=r"log-likelihood of image 0 .and of 5 more. is not finite"):
        estimate_log_likelihood(
            model, images(), estimate_log_z(prior), LikelihoodConfig(n_samples=10), prior=prior
        )
