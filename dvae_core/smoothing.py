"""Smoothing transformations: a continuous ζ for every binary z, so that gradients pass (Sections 2 and 2.1).

r(ζ|z) is the same in the posterior and in the prior, so it cancels from the KL term and from importance
weights.  A transformation maps uniform noise ρ and the probability q = q(z = 1) to ζ by the inverse of the
CDF of q r(ζ|1) + (1 - q) r(ζ|0) (Eq. 8).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .config import ModelConfig

__all__ = ["Smoothing", "SpikeAndExponential", "make_smoothing"]


class Smoothing(nn.Module, ABC):
    """One transformation from binary z to continuous ζ, elementwise."""

    @abstractmethod
    def forward(self, logits: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, ζ) of the posterior for logits of q(z = 1) and uniform noise ρ, all of one shape.

        ζ is differentiable in the logits and in the transformation's parameters; z carries no gradient.
        """

    @abstractmethod
    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return ζ ~ r(ζ|z) for binary z and uniform noise ρ of the same shape."""

    def set_epoch(self, epoch: float) -> None:
        """Follow a schedule over the epochs; nothing by default."""


class SpikeAndExponential(Smoothing):
    """A spike at 0 for z = 0 and an exponential density on [0, 1] for z = 1 (Eq. 9).

    r(ζ|1) = s exp(s ζ) / (exp(s) - 1) with the trainable sharpness s, bounded above by a value that grows
    linearly with the epochs (App. H): s = bound · σ(a).  The paper calls s β; here β is a temperature.

    Parameters
    ----------
    bound, growth, limit : float
        The bound at epoch 0, its growth with every epoch, and where the growth ends.
    """

    bound: Tensor

    def __init__(self, bound: float, growth: float = 0.0, limit: float = 80.0) -> None:
        super().__init__()
        self.start, self.growth, self.limit = bound, growth, limit
        self.raw = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("bound", torch.tensor(float(bound)))

    @property
    def sharpness(self) -> Tensor:
        """The exponent s, a positive scalar."""
        return self.bound * self.raw.sigmoid()

    @torch.no_grad()
    def set_epoch(self, epoch: float) -> None:
        """Move the bound of the sharpness to that of `epoch`; the sharpness itself stays where it is."""
        bound = max(self.start, min(self.limit, self.start + self.growth * epoch))
        if bound != self.bound:
            sharpness = self.sharpness
            self.bound.fill_(bound)
            self.raw.copy_(torch.logit(sharpness / self.bound))

    def forward(self, logits: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = [ρ >= 1 - q] and ζ by Eq. 9."""
        # σ(-g) keeps the digits of 1 - q where q is near 1.
        on = rho >= torch.sigmoid(-logits.detach())
        q = logits.sigmoid()
        # Where z = 0 the branch is dead, yet an infinite value in it would poison the gradient: hence the where.
        position = torch.where(on, (rho - torch.sigmoid(-logits)) / q, torch.zeros_like(q)).clamp(0, 1)
        return on.to(logits.dtype), torch.where(on, self._exponential(position), torch.zeros_like(q))

    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return 0 where z = 0, else a draw of the exponential."""
        return z * self._exponential(rho)

    def _exponential(self, u: Tensor) -> Tensor:
        """Return the inverse CDF of r(ζ|1) at u in [0, 1]."""
        s = self.sharpness
        return torch.log1p(u * torch.expm1(s)) / s


def make_smoothing(config: ModelConfig) -> Smoothing:
    """Return the transformation that `config` names."""
    return SpikeAndExponential(config.sharpness, config.sharpness_growth, config.sharpness_max)
