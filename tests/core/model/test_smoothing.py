"""Every smoothing transformation against scipy's quadrature of textbook densities (Eq. 9, 20, 21; App. D, E)."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from dvae_core.config import SMOOTHINGS, ModelConfig, RunConfig
from dvae_core.data import load
from dvae_core.errors import ConfigError
from dvae_core.model.smoothing import PowerFunction, SpikeAndExponential, SpikeAndGaussian, make_smoothing
from dvae_core.training.trainer import Trainer
from tests.oracles import densities

SPIKES = ["spike-and-exponential", "spike-and-slab", "spike-and-gaussian"]
MIXTURES = ["mixture-of-ramps", "overlapping-exponential", "power-function"]
WITH_SHARPNESS = ["spike-and-exponential", "overlapping-exponential", "power-function"]
EVERY = [(name, s) for name in SPIKES + MIXTURES for s in ((1.4, 3.0, 20.0) if name in WITH_SHARPNESS else (1.0,))]
every = pytest.mark.parametrize(("name", "s"), EVERY)
Q = np.array([0.02, 0.4, 0.5, 0.97])


def transformation(name, s):
    """Return a transformation of exactly that sharpness, float64."""
    smoothing = make_smoothing(ModelConfig(smoothing=name, sharpness=min(2 * s, 80.0))).double()
    if name in WITH_SHARPNESS:
        smoothing.set_sharpness(s)
    return smoothing


def draw(smoothing, logits, rho, coin=None):
    """Return the sample for logits and noise; the Gaussian is the prior's."""
    output = torch.cat((logits, *[torch.zeros_like(logits)] * (smoothing.n_outputs - 1)), -1)
    noise = (rho, torch.full_like(rho, 0.5) if coin is None else coin)[: smoothing.n_uniform]
    return smoothing(output, torch.cat(noise, -1))


def cdf(name, s, q, t):
    """Return the CDF of the mixture at t by quadrature of the densities from the nearer end.

    The power function's densities are singular at the ends: its CDF is the closed form, which the test below
    holds against quadrature away from them.
    """
    if name == "power-function":
        return (1 - q) * t ** (1 / s) + q * (1 - (1 - t) ** (1 / s))
    low, high = (-12, 12) if name == "spike-and-gaussian" else (0, 1)
    total = 0.0
    for weight, density in zip((1 - q, q), densities(name, s), strict=True):
        if density is None:
            total += weight * (t >= 0)
        elif t < 0.5:
            total += weight * integrate.quad(density, low, t, limit=200)[0]
        else:
            total += weight * (1 - integrate.quad(density, t, high, limit=200)[0])
    return total


@pytest.mark.parametrize("s", [1.4, 3.0, 20.0])
def test_the_closed_form_of_the_power_function(s):
    for q, density in enumerate(densities("power-function", s)):
        mass = integrate.quad(density, 0.1, 0.8)[0]
        assert abs(cdf("power-function", s, q, 0.8) - cdf("power-function", s, q, 0.1) - mass) < 1e-10


def has_digits(name, t):
    """Return whether ζ is far from singular ends; nearer, there is the test in 700 digits."""
    return name != "power-function" or 1e-6 < t < 1 - 1e-6


def grid():
    """Return logits and ρ of all pairs of some, float64, flat; none on the edge of a spike, ρ = 1 - q."""
    q, rho = np.meshgrid(Q, np.linspace(0.033, 0.969, 9))
    return torch.tensor(np.log(q / (1 - q))).flatten(), torch.tensor(rho).flatten()


@every
def test_inverse_cdf_inverts_the_cdf(name, s):
    """F(F^-1(ρ)) = ρ with F by quadrature; at the spike, F jumps over ρ."""
    logits, rho = grid()
    sample = draw(transformation(name, s), logits, rho)
    for q, r, t in zip(logits.sigmoid().tolist(), rho.tolist(), sample.zeta.tolist(), strict=True):
        if t == 0:
            assert cdf(name, s, q, -1e-9) - 1e-8 <= r <= cdf(name, s, q, 0) + 1e-8
        elif has_digits(name, t):
            assert abs(cdf(name, s, q, t) - r) < 1e-7


@pytest.mark.parametrize("name", SPIKES)
def test_zeta_tells_z_and_z_has_probability_q(name):
    """ζ = 0 iff z = 0, and P(z = 1) = q: by a fine grid over ρ, exact to its spacing."""
    rho = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for q in Q:
        sample = draw(transformation(name, 3.0), torch.full_like(rho, np.log(q / (1 - q))), rho)
        assert torch.equal(sample.zeta != 0, sample.z > 0)
        assert abs(float(sample.z.mean()) - q) < 1e-4
        assert torch.equal(sample.nu.detach(), sample.z)


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("s", [1.001, 2.0, 20.0, 79.0])
def test_mixtures_keep_their_digits_near_the_ends(name, s):
    """F(σ(t)) = ρ to 1e-10 in 700 digits, for q and ρ as near to 0 and 1 as they get (false alarms: none)."""
    smoothing = transformation(name, s)
    s = float(smoothing.sharpness.detach()) if name in WITH_SHARPNESS else 1.0
    logits, rho = torch.meshgrid(
        torch.tensor([-12.0, -3.0, 0.0, 1e-9, 5.0, 12.0], dtype=torch.float64),
        torch.tensor([1e-7, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-7], dtype=torch.float64),
        indexing="ij",
    )
    t = smoothing.icdf(torch.sigmoid(-logits), logits.sigmoid(), rho)
    with mpmath.workdps(700):
        for g, r, value in zip(logits.flatten(), rho.flatten(), t.flatten().detach(), strict=True):
            q, zeta = 1 / (1 + mpmath.exp(-mpmath.mpf(float(g)))), 1 / (1 + mpmath.exp(-mpmath.mpf(float(value))))
            off, on = {
                "mixture-of-ramps": (2 * zeta - zeta**2, zeta**2),
                "overlapping-exponential": (
                    mpmath.expm1(-s * zeta) / mpmath.expm1(-s),
                    mpmath.expm1(s * zeta) / mpmath.expm1(s),
                ),
                "power-function": (zeta ** (1 / mpmath.mpf(s)), 1 - (1 - zeta) ** (1 / mpmath.mpf(s))),
            }[name]
            assert abs((1 - q) * off + q * on - float(r)) < 1e-10


@every
def test_gradients_are_those_of_the_implicit_function(name, s):
    """dζ/dq = -(F_1 - F_0)/(dF/dζ) (Eq. 21) by quadrature, and dζ/ds by central differences."""
    logits, rho = grid()
    logits.requires_grad_()
    smoothing = transformation(name, s)
    zeta = draw(smoothing, logits, rho).zeta
    (slopes,) = torch.autograd.grad(zeta.sum(), logits, retain_graph=True)
    off, on = densities(name, s)
    for g, slope, t in zip(logits.tolist(), slopes.tolist(), zeta.tolist(), strict=True):
        q = 1 / (1 + np.exp(-g))
        if t == 0:
            assert slope == 0
        elif has_digits(name, t):
            density = (1 - q) * (off(t) if off else 0) + q * on(t)
            expected = (cdf(name, s, 0, t) - cdf(name, s, 1, t)) / density * q * (1 - q)
            assert slope == pytest.approx(expected, rel=2e-5, abs=1e-9)
    if name in WITH_SHARPNESS:
        (slope,) = torch.autograd.grad(zeta.sum(), smoothing.raw)
        low, high = (draw(transformation(name, x), logits, rho).zeta.sum().item() for x in (s - 1e-5, s + 1e-5))
        # d sharpness / d raw = (bound - floor) p (1 - p) with p = σ(raw).
        p = smoothing.raw.detach().sigmoid()
        inner = (smoothing.bound - smoothing.floor) * p * (1 - p)
        assert float(slope) == pytest.approx((high - low) / 2e-5 * float(inner), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", MIXTURES)
def test_nu_is_the_posterior_of_z_given_zeta(name):
    """ν = q r(ζ|1) / (q r(ζ|1) + (1-q) r(ζ|0)), the density ratio by the textbook."""
    logits, rho = grid()
    sample = draw(transformation(name, 3.0), logits, rho)
    q, t = logits.sigmoid().numpy(), sample.zeta.detach().numpy()
    off, on = densities(name, 3.0)
    assert np.allclose(sample.nu.detach(), q * on(t) / (q * on(t) + (1 - q) * off(t)), atol=1e-9)
    assert torch.equal(sample.z, (0.5 < sample.nu).double())


@every
def test_the_posterior_and_the_prior_share_r(name, s):
    """ζ | z has one distribution, drawn through ρ or given z (Kolmogorov-Smirnov, false alarm 2e-5 a case)."""
    smoothing = transformation(name, s)
    generator = torch.Generator().manual_seed(0)
    rho, coin = torch.rand((2, 40_000), generator=generator, dtype=torch.float64)
    sample = draw(smoothing, torch.zeros_like(rho), rho, coin)
    assert abs(float(sample.z.mean()) - 0.5) < 5 * 0.5 / 200
    for z in (0.0, 1.0):
        uniform = torch.rand(20_000, generator=generator, dtype=torch.float64)
        given = smoothing.sample(torch.full_like(uniform, z), uniform).detach().numpy()
        drawn = sample.zeta[sample.z == z].detach().numpy()
        if z == 0 and name in SPIKES:
            assert (given == 0).all()
            assert (drawn == 0).all()
        else:
            assert stats.ks_2samp(drawn, given).pvalue > 1e-5
            if not (name == "power-function" and s > 10):
                points = np.quantile(given, [0.1, 0.5, 0.9])
                levels = [cdf(name, s, z, t) for t in points]
                # Five standard deviations of an empirical level of 20 000 draws.
                assert np.abs(np.array(levels) - [0.1, 0.5, 0.9]).max() < 5 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("name", SMOOTHINGS)
@pytest.mark.parametrize("bound", [1.5, 80.0])
def test_nothing_is_poisoned_at_the_extremes(name, bound):
    """Float32, logits beyond their limits, ρ at both ends: values and gradients stay finite."""
    smoothing = make_smoothing(ModelConfig(smoothing=name, sharpness=bound))
    logits, rho = torch.meshgrid(
        torch.tensor([-1e4, -12.0, -1.0, 0.0, 1.0, 12.0, 1e4]),
        torch.tensor([0.0, 1e-7, 6e-6, 0.2, 0.5, 0.8, 1 - 6e-6, 0.9999999]),
        indexing="ij",
    )
    logits = logits.clone().requires_grad_()
    sample = draw(smoothing, logits, rho)
    if sample.zeta.requires_grad:
        (sample.zeta + sample.nu + sample.kl + sample.log_ratio).sum().backward()
        assert torch.isfinite(logits.grad).all()
    for part in (sample.zeta, sample.nu, sample.kl, sample.log_ratio):
        assert torch.isfinite(part).all()
    if name != "spike-and-gaussian":
        assert ((sample.zeta >= 0) & (sample.zeta <= 1)).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in smoothing.parameters())
    for z in (0.0, 1.0):
        assert torch.isfinite(smoothing.sample(torch.full_like(rho, z), rho)).all()


def test_the_gaussian_of_the_posterior_has_its_kl_and_its_ratio():
    """Against torch.distributions, with μ and σ of their own; ζ rises with ρ, as an inverse CDF does."""
    mean, std, q = 0.7, 1.3, 0.6
    rho = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    output = torch.tensor([[np.log(q / (1 - q)), mean, np.log(std)]]).expand(999, 3)
    sample = SpikeAndGaussian()(output, rho[:, None])
    zeta = sample.zeta[:, 0]
    on = sample.z[:, 0] > 0
    posterior, prior = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    assert (zeta.diff() >= 0).all()
    mixture = q * posterior.cdf(zeta) + (1 - q) * (zeta > 0)
    assert torch.allclose(mixture[on], rho[on], atol=1e-9)
    kl = torch.distributions.kl_divergence(posterior, prior)
    assert torch.allclose(sample.kl, kl.double().expand_as(sample.kl), atol=1e-6)
    assert torch.allclose(sample.smoothing_kl, q * sample.kl[:, 0])
    ratio = prior.log_prob(zeta) - posterior.log_prob(zeta)
    assert torch.allclose(sample.log_ratio[on, 0], ratio[on], atol=1e-6)
    assert (sample.log_ratio[~on] == 0).all()


@pytest.mark.parametrize("kind", [SpikeAndExponential, PowerFunction])
def test_the_bound_rises_with_the_epochs_and_holds(kind):
    smoothing = kind(bound=3.0, growth=0.5, limit=5.0)
    for epoch, bound in ((0, 3.0), (2, 4.0), (4, 5.0), (100, 5.0)):
        before = float(smoothing.sharpness.detach())
        smoothing.set_epoch(epoch)
        assert float(smoothing.sharpness.detach()) == pytest.approx(before, rel=1e-5)
        with torch.no_grad():
            smoothing.raw.fill_(9.0)
        assert bound - 1e-3 < float(smoothing.sharpness.detach()) <= bound
        with torch.no_grad():
            smoothing.raw.fill_(-99.0)
        assert float(smoothing.sharpness.detach()) == pytest.approx(kind.floor)
        with torch.no_grad():
            smoothing.raw.fill_(1.0)


def test_settings_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="more than 1"):
        ModelConfig(smoothing="power-function", sharpness=0.9)
    with pytest.raises(ConfigError, match="no gradient"):
        Trainer(tmp_path, RunConfig("bars-and-stripes", ModelConfig(smoothing="none")), load("bars-and-stripes"))
