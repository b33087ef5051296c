"""The bound from both sides on simulated images, against exact log p(x) and known gaps."""

import itertools

import numpy as np
import pytest
import torch

from dvae_core.config import SMOOTHINGS
from dvae_core.model.boltzmann import BoltzmannMachine
from dvae_core.model.prior_states import draw_states
from dvae_core.model.rbm import RBM
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood import image_tasks
from dvae_eval.likelihood.checks import check_simulated
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.folded import FoldedDVAE
from dvae_eval.likelihood.importance import ImageWeights, stack_images
from dvae_eval.likelihood.per_image import ImageEstimates
from dvae_eval.likelihood.simulated import SimulatedGap, SimulatedTask, gap_terms, simulate
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.runtime.resume import ResumeDirectory
from dvae_eval.trained import machine_of
from tests.eval.likelihood.test_likelihood import IMAGES, float32, trained
from tests.eval.likelihood.test_likelihood_exact import GaussianBernoulli
from tests.oracles import brute_log_z, dense, exact_log_p_x, tiny_model

MANY_IMAGES = np.tile(IMAGES, (7, 1))


def measured(model, images=MANY_IMAGES, **settings):
    """Return the result of the estimator on a trained model."""
    return estimate_log_likelihood(model, images, estimate_log_z(machine_of(model)), LikelihoodConfig(**settings))


# --- what the images are drawn from ---------------------------------------------------------------------------


def randomised(prior, seed=0):
    """Return the prior with random parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return prior


@pytest.mark.parametrize(
    "prior",
    [RBM(3, 2), RBM(2, 3), BoltzmannMachine(4, ((0, 1), (1, 2), (0, 2), (2, 3))), BoltzmannMachine(3, ())],
    ids=["right", "left", "graph", "independent"],
)
def test_states_of_a_small_prior_are_exact(prior):
    """Frequencies of all states: the largest of at most 32 |z| is below 5, false alarm 2e-5."""
    randomised(prior)
    n = 20_000
    z, how = draw_states(prior, n, torch.Generator().manual_seed(1))
    assert how == "exact"
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=prior.n_units)))
    p = (-prior.energy(states)).softmax(0).detach().numpy()
    number = (z @ 2.0 ** torch.arange(prior.n_units).flip(0)).long().numpy()
    found = np.bincount(number, minlength=len(p)) / n
    assert np.abs((found - p) / np.sqrt(p * (1 - p) / n)).max() < 5


def test_states_of_a_large_prior_come_from_chains():
    """Without couplings one sweep is as good as a thousand: means of 40 units, |z| < 5, false alarm 2e-5."""
    prior = RBM(20, 20)
    with torch.no_grad():
        prior.b_left.fill_(1.0)
    z, how = draw_states(prior, 400, torch.Generator().manual_seed(0))
    assert "sweeps" in how
    p = torch.sigmoid(prior.biases())
    assert ((z.mean(0) - p).abs() / (p * (1 - p) / 400).sqrt()).max() < 5


@torch.no_grad()
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_log_q_of_given_latents_is_that_of_the_draw(smoothing):
    model = tiny_model(n_groups=2, n_layers=2, smoothing=smoothing, seed=2)
    folded = FoldedDVAE(model, "float64")
    image = folded.image(torch.from_numpy(IMAGES[5]))
    draws = image.sample(*folded.noise(200, torch.Generator().manual_seed(0)))
    given = image.given(draws.z.clone(), draws.latents.clone())
    for name in ("log_q_discrete", "log_q_layers"):
        assert torch.allclose(getattr(given, name), getattr(draws, name), atol=1e-6)


# --- the bounds against exact values --------------------------------------------------------------------------


def bounds(model, n_images, n_samples, latents=lambda drawn: drawn.latents):
    """Return L, U and the exact log p(x) of simulated images; `latents` says which are taken for the true ones."""
    drawn = simulate(model, n_images, seed=0)
    task = SimulatedTask(FoldedDVAE(model, "float64"), latents(drawn), n_samples, seed=0)
    weights = stack_images([task(x, i) for i, x in enumerate(drawn.images)])
    lower = weights.bounds[:, -1] - brute_log_z(*dense(model.prior))
    exact = {tuple(x): exact_log_p_x(model, torch.from_numpy(x).double()) for x in IMAGES}
    return lower, lower + weights.parts[:, 0], np.array([exact[tuple(x)] for x in drawn.images])


def z_of(values):
    return values.mean() / (values.std() / np.sqrt(len(values)))


MODELS = {
    "spike-and-exponential": {"n_groups": 2, "scale": 0.6},
    "spike-and-gaussian": {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.6},
    "mixture-of-ramps": {"n_left": 1, "n_right": 1, "n_layers": 1, "scale": 0.6},
}


@pytest.mark.parametrize(("smoothing", "shape"), MODELS.items(), ids=list(MODELS))
def test_log_p_lies_between_the_bounds(smoothing, shape):
    """E L < log p(x) < E U, image by image (paired); and exp(log p(x) - U), exp(L - log p(x)) have the mean 1.

    |z| < 4.5 for two means, false alarm 1e-5 for each model, fixed seed.
    """
    lower, upper, exact = bounds(tiny_model(**shape, seed=3, smoothing=smoothing), 500, 3)
    assert z_of(exact - lower) > 3
    assert z_of(upper - exact) > 3
    assert abs(z_of(np.exp(exact - upper) - 1)) < 4.5
    assert abs(z_of(np.exp(lower - exact) - 1)) < 4.5


def bridge_z(lower, upper, exact):
    """Return z of E[p/(p + w_0)] = E_q[w/(w + p)], p = p(x), of one proposal an image; all bounded."""
    w = np.exp(lower - exact)
    true = np.maximum(2 * np.exp(upper - exact) - w, 0)
    return z_of(1 / (1 + true) - w / (1 + w))


def test_latents_of_another_image_are_rejected():
    """Pixels that tell much of the latents; with the right latents |z| < 4.5, false alarm 7e-6, fixed seed."""
    model = tiny_model(seed=3, scale=0.6, smoothing="none")
    with torch.no_grad():
        model.decoder.linears[-1].weight *= 4
    assert abs(bridge_z(*bounds(model, 500, 1))) < 4.5
    assert bridge_z(*bounds(model, 500, 1, lambda drawn: drawn.latents[1:] + drawn.latents[:1])) > 5


def test_bounds_without_the_true_latents_are_rejected(monkeypatch):
    """Another draw from q in their place: the mean of four weights is a lower bound, and no upper one."""

    def left_out(self, x, latents):
        return self.of_image(x, 0, 77, "samples")(1)[:, 0]

    model = tiny_model(**MODELS["spike-and-exponential"], seed=3)
    monkeypatch.setattr(FoldedDVAE, "log_weight", left_out)
    _, upper, exact = bounds(model, 500, 3)
    assert z_of(np.exp(exact - upper) - 1) > 6


def test_a_posterior_that_is_exact_has_no_gap():
    """All parameters 0: q(z|x) is the prior, the decoder ignores the latents, and all weights are p(x)."""
    model = trained(n_groups=1)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.zero_()
    result = measured(float32(model), n_samples=200)
    found = result.diagnostics["simulated"]
    assert (found["n_images"], found["states"]) == (50, "exact")
    assert abs(result.simulated_gap) < 1e-6
    assert np.abs(found["differences"]).max() < 1e-6


# --- the gap -----------------------------------------------------------------------------------------------------


def lognormal(sd):
    """Log weights with log p(x) = 0, drawn from q or from the posterior."""
    return lambda rng, n, posterior: sd * rng.standard_normal(n) + (posterior - 0.5) * sd**2


def narrow(d, variance):
    """A standard normal posterior in d dimensions, q being a normal distribution of another variance."""
    return lambda rng, n, posterior: (
        (1 - variance) / 2 * rng.chisquare(d, n) / (variance if posterior else 1) + d / 2 * np.log(variance)
    )


def missed(share, p=1e-7, noise=0.5):
    """A part of the posterior, `share` of it, where q has the probability p alone."""
    seen, unseen = np.log(share / p), np.log((1 - share) / (1 - p))

    def draw(rng, n, posterior):
        part = rng.random(n) < (share if posterior else p)
        return np.where(part, seen, unseen) + lognormal(noise)(rng, n, posterior)

    return draw


def simulated(weights, n_images=50, n_samples=2000, seed=0):
    """Return the gap of images whose weights are of a kind, and the mean of what their bounds really lack."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_images):
        log_w = weights(rng, n_samples, False)
        found.append(ImageWeights.of(log_w, gap_terms(weights(rng, 1, True).item(), log_w)))
    return gap_of(found, n_samples)


def gap_of(found, n_samples):
    """Return the gap of images with these weights and log Z = 0, and the mean of what their bounds really lack."""
    estimates = ImageEstimates(stack_images(found), 0.0, n_samples)
    mean = estimates.values.mean()
    return SimulatedGap(*estimates.weights.parts.T, n_samples, estimates.gap, mean, "known"), -mean


def passed(found):
    return all(check.passed for check in check_simulated(found))


CASES = [lognormal(3), lognormal(4), lognormal(4.5), narrow(50, 0.5), narrow(2, 0.1)]


@pytest.mark.parametrize("weights", CASES)
def test_a_gap_that_the_weights_show_is_told_and_trusted(weights):
    """Within 4 errors of bridge sampling and a tenth; the bound is above.  False alarm 1e-4, fixed seed."""
    found, gap = simulated(weights, 100)
    assert abs(found.gap - gap) < 4 * found.std_err + 0.1 * gap
    assert found.bound > gap
    assert passed(found)


@pytest.mark.parametrize("share", [0.6, 0.9, 1 - 1e-9])
def test_a_part_that_q_never_proposes_is_caught(share):
    """The weights themselves tell nothing of a gap of 0.9 to 14 nats."""
    found, gap = simulated(missed(share))
    assert found.gap_from_proposals < 0.05
    assert found.bound > gap
    assert found.gap > gap / 2
    assert not passed(found)


def test_a_few_images_that_are_missed_altogether_are_caught():
    """A tenth of the images at 50 nats: bridge sampling says little, the bound 5; no error excuses it."""
    rng = np.random.default_rng(1)
    found = []
    for i in range(50):
        log_w = lognormal(1)(rng, 1000, False)
        found.append(ImageWeights.of(log_w, gap_terms(50.0 + np.log(1000) if i % 10 == 0 else 0.0, log_w)))
    gap, _ = gap_of(found, 1000)
    assert gap.gap < 0.2
    assert gap.bound == pytest.approx(5, abs=0.2)
    assert not passed(gap)


@pytest.mark.slow
def test_sound_weights_hardly_ever_fail():
    """60 sets of 50 images of every kind: the checks failed at most 3 times of 240."""
    kinds = [lognormal(2), lognormal(3), lognormal(4), narrow(50, 0.5)]
    assert sum(not passed(simulated(kind, seed=seed)[0]) for kind in kinds for seed in range(60)) <= 3


def test_what_cannot_be_told_is_infinite_or_nothing():
    assert gap_terms(0.0, np.full(3, -np.inf)).tolist() == [np.inf, 1.0]
    assert gap_terms(np.nan, np.zeros(3))[0] == np.inf
    log_w = np.zeros(200)
    found, _ = gap_of([ImageWeights.of(log_w, gap_terms(np.inf, log_w))] * 2, 200)
    assert (found.gap, found.bound) == (np.inf, np.inf)
    assert not passed(found)
    assert check_simulated(gap_of([ImageWeights.of(log_w, gap_terms(np.inf, log_w))] * 2, 50)[0]) == []


# --- in a result ----------------------------------------------------------------------------------------------


def blind(n_layers=0):
    """A model whose q hardly ever proposes z_0 = 1, which nearly all of its posterior has."""
    model = trained(n_left=1, n_right=1, n_layers=n_layers, seed=3, scale=0.3, smoothing="spike-and-gaussian")
    with torch.no_grad():
        model.model.prior.b_left.fill_(2.0)
        layer = model.model.posterior.networks[0].linears[-1]
        layer.weight[0], layer.bias[0] = 0.0, -20.0
    return model


@pytest.mark.parametrize("n_layers", [0, 1])
def test_a_spike_and_gaussian_that_misses_most_of_the_mass_is_caught(n_layers):
    """q's samples tell a fifth of a nat at most, and about two are missing."""
    model = blind(n_layers)
    exact = np.mean([exact_log_p_x(model.model, torch.from_numpy(x).double()) for x in IMAGES])
    result = measured(model, n_samples=200, seed=1)
    missing = exact - result.log_likelihood
    assert result.gap < 0.2
    assert missing > 1.5
    assert missing / 2 < result.simulated_gap < 2 * missing
    assert not result.trustworthy
    assert "q rarely proposes" in " ".join(result.reasons)
    assert measured(model, n_samples=200, seed=1, n_simulated=0).trustworthy


def test_images_that_are_not_simulated_are_said_so():
    model = float32(trained(seed=3, scale=0.5))
    for settings in ({"n_simulated": 0}, {"method": "ais", "n_ais_chains": 10, "n_ais_steps": 3}):
        result = measured(model, n_samples=100, **settings)
        assert "--" in result.diagnostics["simulated"]["not_done"]
        assert (result.simulated_gap, result.simulated_bound) == (None, None)
    assert measured(model, IMAGES, n_samples=100).diagnostics["simulated"]["n_images"] == 8


def test_simulated_images_are_resumed_and_do_not_change_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)
    model = float32(trained(seed=3, scale=0.5))
    log_z, config = estimate_log_z(machine_of(model)), LikelihoodConfig(n_samples=100)

    class Stopped(Exception):
        pass

    def stop(phase, done, _total, _estimate):
        if phase == "simulated" and done >= 3:
            raise Stopped

    with pytest.raises(Stopped):
        estimate_log_likelihood(
            model, IMAGES, log_z, config, resume=ResumeDirectory(tmp_path / "s"), progress=stop
        )
    plans = []
    kept = ResumeDirectory(tmp_path / "s")
    resumed = estimate_log_likelihood(model, IMAGES, log_z, config, resume=kept, announce=plans.append)
    assert [plan.n_done for plan in plans] == [3]
    kept.remove()
    assert not (tmp_path / "s").exists()
    whole = measured(model, IMAGES, n_samples=100)
    assert resumed.diagnostics == whole.diagnostics
    assert whole.per_image == measured(model, IMAGES, n_samples=100, n_simulated=0).per_image


class Generative(GaussianBernoulli):
    """A user's model that draws images too."""

    def sample_joint(self, generator):
        z = torch.randn(1, generator=generator, dtype=self.slope.dtype)
        p = torch.sigmoid(z.item() * self.slope + self.offset)
        return torch.bernoulli(p, generator=generator).to(torch.uint8), z

    def log_q(self, x, z):
        return torch.distributions.Normal(0, self.width).log_prob(z)


class Narrow(Generative):
    """Its q has a tenth of the prior's width, and proposes nothing of the rest."""

    def __init__(self):
        super().__init__()
        self.width = 0.02


def test_models_of_others_that_draw_images_are_seen_from_both_sides():
    images = np.random.default_rng(1).integers(2, size=(20, 2, 3), dtype=np.uint8)
    config = LikelihoodConfig(n_samples=1000)
    sound, unsound = (estimate_log_likelihood(model, images, config=config) for model in (Generative(), Narrow()))
    assert sound.trustworthy
    assert sound.simulated_gap < sound.simulated_bound < 0.02
    assert sound.diagnostics["simulated"]["states"] == "the model's own"
    assert unsound.simulated_gap > 0.5
    assert not unsound.trustworthy
    without = estimate_log_likelihood(GaussianBernoulli(), images, config=config)
    assert "sample_joint" in without.diagnostics["simulated"]["not_done"]
    assert without.log_likelihood == sound.log_likelihood
