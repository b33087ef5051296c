"""The test models: exact values by two codes that share nothing, and what their posteriors are said to do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from dvae_core.config import RunConfig
from dvae_core.errors import ConfigError
from dvae_core.training.checkpoint import save_model
from dvae_eval import test_machines
from dvae_eval.test_machines.quadrature import exact_log_p
from tests.oracles import all_states, brute_log_z, dense, enumerate_states, log_weights, numbers
from tests.oracles.model_files import log_p_from_file

# Nodes and panels of the second code's rules: other ones than the package's.
RULES = {
    "exponential-4": {"units": (6, 1)},
    "ramps-3": {"units": (10, 1)},
    "gaussian-layer-2": {"units": (10, 3)},
    "layers-2": {"units": (8, 1), "layers": (8, 6)},
    "wide-layers-2": {"units": (8, 1), "layers": (8, 6)},
}


def from_file(case, path):
    """log p(x) by the NumPy code that reads nothing but a file of weights."""
    model = case.model
    save_model(path, model.state_dict(), RunConfig("random", model.config), (1, model.n_pixels), {})
    return log_p_from_file(path, case.images, **RULES.get(case.name, {}))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", test_machines.model_names())
def test_log_p_by_another_code_and_another_rule(name, seed, tmp_path):
    case = test_machines.make_model(name, seed)
    assert np.abs(from_file(case, tmp_path / "model.pt") - case.log_p_x).max() < 2e-6
    assert case.log_z == pytest.approx(brute_log_z(*dense(case.model.double().prior)), rel=1e-12)


def test_another_models_value_is_rejected(tmp_path):
    """The same test fails by far if one bias of the decoder is another."""
    case = test_machines.make_model("discrete-8")
    with torch.no_grad():
        case.model.decoder.linears[-1].bias[0] += 0.01
    assert np.abs(from_file(case, tmp_path / "model.pt") - case.log_p_x).max() > 1e-3


@pytest.mark.parametrize("name", test_machines.model_names())
def test_probabilities_of_all_images_sum_to_1(name):
    case = test_machines.make_model(name)
    log_p = exact_log_p(case.model.double(), all_states(6))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ["discrete-8", "ramps-3", "layers-2", "gaussian-layer-2"])
def test_images_that_the_model_makes_have_these_frequencies(name):
    """A third way, without any density: |z| < 5 for each of 20 images, a false alarm in 90 000."""
    case = test_machines.make_model(name)
    images = case.model.generate(200_000, binary=True, seed=1)
    found = numbers(images.numpy().reshape(-1, 6).round())
    share = np.bincount(found, minlength=64) / len(found)
    p = np.exp(case.log_p_x)
    z = (share[numbers(case.images)] - p) / np.sqrt(p * (1 - p) / len(found))
    assert np.abs(z).max() < 5


def test_a_seed_draws_others_and_the_same_again():
    first, again, other = (test_machines.make_model("layers-2", seed) for seed in (0, 0, 1))
    assert np.array_equal(first.log_p_x, again.log_p_x)
    assert np.array_equal(first.images, again.images)
    assert not np.allclose(np.sort(first.log_p_x), np.sort(other.log_p_x))
    assert first.model.decoder.linears[-1].weight.dtype == torch.float32
    assert first.images.dtype == np.uint8
    assert len(np.unique(first.images, axis=0)) == len(first.images) == 20
    with pytest.raises(ConfigError, match="test model 'x' is not known; give one of discrete-8"):
        test_machines.make_model("x")


def test_a_posterior_that_misses_half():
    """By sums over all states: q gives the half of p(z|x) that the first unit turns on a chance of e^-8."""
    case = test_machines.make_model("missed-half-6")
    model = case.model.double()
    J, b = (part.detach().numpy() for part in dense(model.prior))
    z = enumerate_states(6)
    logits = model.decoder(torch.from_numpy(z)).detach().numpy()
    log_joint = log_weights(J, b, z) + case.images.astype(float) @ logits.T - np.logaddexp(0, logits).sum(1)
    on = logsumexp(log_joint[:, z[:, 0] == 1], axis=1) - logsumexp(log_joint, axis=1)
    assert np.all((np.exp(on) > 0.3) & (np.exp(on) < 0.7))
    assert model.posterior.networks[0](torch.from_numpy(case.images).double())[:, 0].tolist() == pytest.approx(
        [-8] * 20, abs=0.02
    )


def test_names_alone_load_no_torch():
    code = (
        "import sys; from dvae_eval.test_machines import model_names; print(model_names(), 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("False\n")
