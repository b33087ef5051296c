"""Spike-and-exponential against scipy's quadrature and textbook formulas (Eq. 9)."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from dvae_core.smoothing import SpikeAndExponential


def transformation(sharpness: float) -> SpikeAndExponential:
    """Return a transformation of exactly that sharpness, float64."""
    smoothing = SpikeAndExponential(bound=2 * sharpness).double()
    with torch.no_grad():
        smoothing.raw.zero_()
        smoothing.bound.copy_(torch.tensor(2 * sharpness, dtype=torch.float64))
    return smoothing


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("q", [0.02, 0.4, 0.97])
def test_inverse_cdf_inverts_the_cdf(sharpness, q):
    """F(F^-1(ρ)) = ρ, F = (1 - q) + q ∫ r(ζ|1) by quadrature."""
    rho = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    logits = torch.full_like(rho, float(np.log(q / (1 - q))))
    z, zeta = transformation(sharpness)(logits, rho)
    assert torch.equal(z > 0, rho >= 1 - q)
    assert (zeta[z == 0] == 0).all()

    def density(t):
        return sharpness * np.exp(sharpness * (t - 1)) / -np.expm1(-sharpness)

    for r, t in zip(rho[z > 0].tolist(), zeta[z > 0].tolist(), strict=True):
        mass, _ = integrate.quad(density, 0, t)
        assert abs((1 - q) + q * mass - r) < 1e-9


def test_gradient_is_that_of_the_implicit_function():
    """dζ/dq = -∂F/∂q / (q r(ζ|1)) (Eq. 21), and dζ/ds by central differences."""
    q, sharpness = 0.6, 3.0
    logit = torch.tensor(np.log(q / (1 - q)), dtype=torch.float64, requires_grad=True)
    smoothing = transformation(sharpness)
    _, zeta = smoothing(logit, torch.tensor(0.8, dtype=torch.float64))
    zeta.backward()
    t = float(zeta.detach())
    cdf_on = np.expm1(sharpness * t) / np.expm1(sharpness)
    density_on = sharpness * np.exp(sharpness * t) / np.expm1(sharpness)
    expected = -(cdf_on - 1) / (q * density_on) * q * (1 - q)
    assert abs(float(logit.grad) - expected) < 1e-10

    def value(s):
        return transformation(s)(logit.detach(), torch.tensor(0.8, dtype=torch.float64))[1].item()

    slope = (value(sharpness + 1e-5) - value(sharpness - 1e-5)) / 2e-5
    # d sharpness / d raw = bound σ'(0) = 2 * 3 / 4.
    assert abs(float(smoothing.raw.grad) - slope * 1.5) < 1e-6


def test_no_gradient_is_poisoned_at_the_extremes():
    logits = torch.tensor([-12.0, -12.0, 12.0, 12.0, 0.0], requires_grad=True)
    rho = torch.tensor([0.0, 0.9999999, 0.0, 0.9999999, 0.5])
    _, zeta = SpikeAndExponential(80.0)(logits, rho)
    zeta.sum().backward()
    assert torch.isfinite(zeta).all()
    assert ((zeta >= 0) & (zeta <= 1)).all()
    assert torch.isfinite(logits.grad).all()


def test_the_posterior_and_the_prior_share_r():
    """ζ | z = 1 has one distribution, whether drawn through ρ or given z (Kolmogorov-Smirnov, 1e-5)."""
    smoothing = SpikeAndExponential(4.0)
    generator = torch.Generator().manual_seed(0)
    rho = torch.rand(40_000, generator=generator)
    z, zeta = smoothing(torch.zeros(40_000), rho)
    given = smoothing.sample(torch.ones(20_000), torch.rand(20_000, generator=generator))
    assert abs(float(z.mean()) - 0.5) < 5 * 0.5 / 200
    assert stats.ks_2samp(zeta[z > 0].detach().numpy(), given.detach().numpy()).pvalue > 1e-5
    assert (smoothing.sample(torch.zeros(10), torch.rand(10, generator=generator)) == 0).all()


def test_the_bound_rises_with_the_epochs_and_holds():
    smoothing = SpikeAndExponential(bound=3.0, growth=0.5, limit=5.0)
    for epoch, bound in ((0, 3.0), (2, 4.0), (4, 5.0), (100, 5.0)):
        before = float(smoothing.sharpness.detach())
        smoothing.set_epoch(epoch)
        assert float(smoothing.sharpness.detach()) == pytest.approx(before, rel=1e-5)
        with torch.no_grad():
            smoothing.raw.fill_(9.0)
        assert bound - 1e-3 < float(smoothing.sharpness.detach()) <= bound
