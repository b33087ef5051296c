"""Transformations without a spike: r(ζ|0) and r(ζ|1) overlap on [0, 1] (D.1; Vahdat et al., DVAE++, 2018).

Here z is not a function of ρ, and Eq. 31 does not apply.  Given ζ, the probability of z = 1 is

    ν = σ(g + log r(ζ|1)/r(ζ|0)),

so E[z_i z_j] = E[ν_i q_j] for i in an earlier group than j, and both factors are differentiable.

All of them are symmetric, r(ζ|1) = r(1-ζ|0), and their densities may vanish or diverge at ζ = 0 and 1.  They are
therefore computed in t = log(ζ/(1-ζ)), folded to t <= 0, which loses no digits near either end.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from .base import DiscreteSample, Smoothing, TrainableSharpness, bounded_logits, shared


class SymmetricMixture(Smoothing):
    """Two overlapping densities that mirror each other.

    Uniform noise: one number per unit for ζ, then one per unit for z given ζ, which only importance weights need.
    """

    n_uniform = 2

    def forward(self, output: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw ζ by its inverse CDF, then z from q(z|ζ, x)."""
        rho, coin = rho.chunk(2, -1)
        logits = bounded_logits(output, rho)
        t = self.icdf(torch.sigmoid(-logits), logits.sigmoid(), rho)
        nu = (logits + self.log_ratio(t)).sigmoid()
        return shared((coin < nu).to(nu.dtype), t.sigmoid(), logits, nu)

    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return a draw of r(ζ|z)."""
        return self.icdf(1 - z, z, rho).sigmoid()

    def icdf(self, off: Tensor, on: Tensor, rho: Tensor) -> Tensor:
        """Return t of the ζ at which the CDF of off · r(ζ|0) + on · r(ζ|1) is ρ; off + on = 1.

        The value is that of `solve`.  The gradient in q and in the sharpness is that of Eq. 21, dt = -dF / F': a
        Newton step from the solution, which leaves the value unchanged.
        """
        below, above = self.cdfs(torch.zeros_like(rho))
        lower = rho <= off * below + on * above
        # ρ in the upper half: solve the mirrored mixture in its lower half.
        off, on = torch.where(lower, off, on), torch.where(lower, on, off)
        rho = torch.where(lower, rho, 1 - rho).clamp_min(torch.finfo(rho.dtype).eps)
        with torch.no_grad():
            t = self.solve(off, on, rho)
            density = self.density(t) * (off + on * self.log_ratio(t).exp())
        below, above = self.cdfs(t)
        cdf = off * below + on * above
        t = t - (cdf - cdf.detach()) / density
        return torch.where(lower, t, -t)

    @abstractmethod
    def cdfs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the CDFs of r(ζ|0) and r(ζ|1) at t <= 0."""

    @abstractmethod
    def density(self, t: Tensor) -> Tensor:
        """Return the density of t = log(ζ/(1-ζ)) under r(ζ|0), which is r(ζ|0) ζ (1-ζ), at t <= 0."""

    @abstractmethod
    def log_ratio(self, t: Tensor) -> Tensor:
        """Return log r(ζ|1) - log r(ζ|0) at any t; an odd function."""

    @abstractmethod
    def solve(self, off: Tensor, on: Tensor, rho: Tensor) -> Tensor:
        """Return the t <= 0 at which off · F_0 + on · F_1 = ρ, without gradient."""


class MixtureOfRamps(SymmetricMixture):
    """r(ζ|0) = 2 (1 - ζ) and r(ζ|1) = 2 ζ on [0, 1] (D.1)."""

    def cdfs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 2ζ - ζ² and ζ²."""
        zeta = t.sigmoid()
        return zeta * (2 - zeta), zeta**2

    def density(self, t: Tensor) -> Tensor:
        """Return 2 ζ (1 - ζ)²."""
        return 2 * t.sigmoid() * torch.sigmoid(-t) ** 2

    def log_ratio(self, t: Tensor) -> Tensor:
        """Return log ζ/(1-ζ)."""
        return t

    def solve(self, off: Tensor, on: Tensor, rho: Tensor) -> Tensor:
        """Return the solution by Eq. 20, with its fraction expanded so that q = 1/2 is not a special case."""
        zeta = rho / (off + (off**2 + (on - off) * rho).clamp_min(0).sqrt())
        return torch.logit(zeta.clamp_max(0.5))


class OverlappingExponential(TrainableSharpness, SymmetricMixture):
    """r(ζ|0) ∝ exp(-s ζ) and r(ζ|1) ∝ exp(s (ζ - 1)) on [0, 1] (DVAE++)."""

    def cdfs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1 - exp(-sζ))/(1 - exp(-s)) and (exp(sζ) - 1)/(exp(s) - 1)."""
        s, zeta = self.sharpness, t.sigmoid()
        return torch.expm1(-s * zeta) / torch.expm1(-s), torch.expm1(s * zeta) / torch.expm1(s)

    def density(self, t: Tensor) -> Tensor:
        """Return s exp(-sζ)/(1 - exp(-s)) ζ (1 - ζ)."""
        s, zeta = self.sharpness, t.sigmoid()
        return s * torch.exp(-s * zeta) / -torch.expm1(-s) * zeta * torch.sigmoid(-t)

    def log_ratio(self, t: Tensor) -> Tensor:
        """Return s (2ζ - 1)."""
        return self.sharpness * torch.tanh(t / 2)

    def solve(self, off: Tensor, on: Tensor, rho: Tensor) -> Tensor:
        """Return the root of a quadratic in y = exp(sζ) - 1, a y² + b y - c = 0."""
        s = self.sharpness
        c = rho * -torch.expm1(-s)
        a = on * torch.exp(-s)
        b = off + a - c
        root = (b**2 + 4 * a * c).sqrt()
        # The form of the positive root in which no digits cancel.
        y = torch.where(b >= 0, 2 * c / (b + root), (root - b) / (2 * a))
        return torch.logit((torch.log1p(y) / s).clamp_max(0.5))


class PowerFunction(TrainableSharpness, SymmetricMixture):
    """r(ζ|0) = ζ^(1/s - 1) / s and r(ζ|1) = (1 - ζ)^(1/s - 1) / s on [0, 1], s > 1 (DVAE++)."""

    floor = 1.0
    n_newton = 10

    def cdfs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ζ^(1/s) and 1 - (1 - ζ)^(1/s)."""
        s = self.sharpness
        return torch.exp(logsigmoid(t) / s), -torch.expm1(-softplus(t) / s)

    def density(self, t: Tensor) -> Tensor:
        """Return ζ^(1/s) (1 - ζ) / s."""
        s = self.sharpness
        return torch.exp(logsigmoid(t) / s) * torch.sigmoid(-t) / s

    def log_ratio(self, t: Tensor) -> Tensor:
        """Return (1 - 1/s) log ζ/(1-ζ)."""
        return (1 - 1 / self.sharpness) * t

    def solve(self, off: Tensor, on: Tensor, rho: Tensor) -> Tensor:
        """Return the root by Newton's method in a = ζ^(1/s).

        The CDF is convex in a and at least off · a + on · a^s / s.  Newton's method starts from the smaller of the
        two upper bounds on a that these terms imply, and decreases monotonically to the root.
        """
        s = self.sharpness
        a = torch.minimum(rho / off, (s * rho / on) ** (1 / s))
        a = torch.minimum(a, 0.5 ** (1 / s))
        for _ in range(self.n_newton):
            log_rest = torch.log1p(-(a**s)) / s
            slope = off + on * (a * torch.exp(-log_rest)) ** (s - 1)
            a = a - (off * a - on * torch.expm1(log_rest) - rho) / slope
        log_zeta = s * a.clamp_min(torch.finfo(a.dtype).tiny).log()
        return (log_zeta - torch.log1p(-log_zeta.exp())).clamp_max(0)
