"""Transformations with a spike at ζ = 0 for z = 0, so that ζ determines z (Sections 2.1, D.2 and E.1).

Here z is a function of ρ, and Eq. 31 is the gradient of a function of z.  It holds because ζ(ρ) is continuous: z
changes where ζ = 0.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from ..hierarchy import LOG_STD_LIMIT
from .base import DiscreteSample, Smoothing, TrainableSharpness, bounded_logits, shared


class Spike(Smoothing):
    """A spike at 0 for z = 0; for z = 1 a density on [0, 1], defined by its inverse CDF."""

    def forward(self, output: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw z = [ρ >= 1 - q], and ζ as in Eq. 9."""
        logits = bounded_logits(output, rho)
        # σ(-g) is accurate for 1 - q where q is near 1.
        q, off = logits.sigmoid(), torch.sigmoid(-logits)
        on = rho >= off
        # The inner `where` keeps u finite where z = 0; otherwise the gradient would be NaN there.
        u = torch.where(on, (rho - off) / q, torch.zeros_like(q)).clamp(0, 1)
        zeta = torch.where(on, self.quantile(u), torch.zeros_like(q))
        z = on.to(q.dtype)
        return shared(z, zeta, logits, z_of_rho(z, q, off))

    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return 0 where z = 0, and a draw of r(ζ|1) where z = 1."""
        return z * self.quantile(rho)

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Return the inverse CDF of r(ζ|1) at u in [0, 1]."""


class SpikeAndExponential(TrainableSharpness, Spike):
    """An exponential density for z = 1 (Eq. 9): r(ζ|1) = s exp(s ζ) / (exp(s) - 1) on [0, 1]."""

    def quantile(self, u: Tensor) -> Tensor:
        """Return log(1 + u (exp(s) - 1)) / s."""
        s = self.sharpness
        return torch.log1p(u * torch.expm1(s)) / s


class SpikeAndSlab(Spike):
    """A uniform density for z = 1 (D.2): r(ζ|1) = 1 on [0, 1]."""

    def quantile(self, u: Tensor) -> Tensor:
        """Return u."""
        return u


class NoSmoothing(Spike):
    """ζ = z, the limit of infinite sharpness (footnote 5); for evaluation only, since ζ has no gradient."""

    def quantile(self, u: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(u)


class SpikeAndGaussian(Smoothing):
    """A Gaussian for z = 1 that depends on x in the posterior: N(μ, σ²), and N(0, 1) in the prior (E.1).

    The posterior network returns μ and log σ of each unit after its logit.  The paper moves the spike to the
    beginning of ρ's range, which makes ζ(ρ) jump from 0 to -∞ at ρ = 1 - q.  That leaves the distribution of the
    draws unchanged, but the gradients in q of Eq. 8 and Eq. 31 omit the effect of the jump.  Here the spike is
    where ζ passes through 0, from ρ_step = q Φ(-μ/σ) to ρ_step + 1 - q, and the gradients are unbiased.
    """

    n_outputs = 3

    def forward(self, output: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw ζ = μ + σ Φ^-1(u), where u is ρ / q below the spike and (ρ - 1 + q) / q above it."""
        output, mean, log_std = output.chunk(3, -1)
        logits, log_std = bounded_logits(output, rho), log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
        q, off, std = logits.sigmoid(), torch.sigmoid(-logits), log_std.exp()
        step = (q * torch.special.ndtr(-mean / std)).detach()
        above = rho > step + off
        on = above | (rho < step)
        u = torch.where(on, (rho - above * off) / q, torch.full_like(q, 0.5))
        eps = normal_quantile(u)
        zeta = torch.where(on, mean + std * eps, torch.zeros_like(q))
        z = on.to(q.dtype)
        kl = (0.5 * (mean**2 + std**2 - 1) - log_std).expand_as(q)
        log_ratio = z * (0.5 * (eps**2 - zeta**2) + log_std)
        return DiscreteSample(z, zeta, logits, z_of_rho(z, q, off), kl, log_ratio)

    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return 0 where z = 0, and a standard normal number where z = 1."""
        return z * normal_quantile(rho)

    def log_density_ratio(self, output: Tensor, z: Tensor, zeta: Tensor) -> Tensor:
        """Return log N(ζ; 0, 1) - log N(ζ; μ, σ²) where z = 1, else 0: posterior and prior share the spike."""
        _, mean, log_std = output.chunk(3, -1)
        log_std = log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
        eps = (zeta - mean) * (-log_std).exp()
        return z * (0.5 * (eps**2 - zeta**2) + log_std)


def z_of_rho(z: Tensor, q: Tensor, off: Tensor) -> Tensor:
    """Return z with the surrogate gradient (1 - z)/(1 - q) dq of Eq. 31; its true gradient is 0 or infinite.

    Only samples with z = 0 contribute: they show how later units respond to z = 0.
    """
    if not q.requires_grad:
        return z
    return z + ((1 - z) / off).detach() * (q - q.detach())


def normal_quantile(u: Tensor) -> Tensor:
    """Return Φ^-1(u), finite for all u in [0, 1]."""
    tiny = torch.finfo(u.dtype).eps / 2
    normal: Tensor = torch.special.ndtri(u.clamp(tiny, 1 - tiny))
    return normal
