"""GumBolt's relaxation (Khoshaman & Amin, 2018, arXiv:1805.07349): smooth in training, binary in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import DiscreteSample, ScheduledSharpness, bounded_logits, shared
from .spikes import NoSmoothing


class GumBolt(ScheduledSharpness, NoSmoothing):
    """A binary Concrete variable in training, ζ = σ(s (g + logit ρ)), and ζ = z in evaluation.

    In training ζ replaces z in the networks that follow and, as ν, in the energy between groups of the posterior.
    The objective is then a proxy of the bound, with a biased gradient; for s → ∞ it becomes the bound.  As
    elsewhere in this model, the entropy and the bonds within a group are analytic; the paper relaxes them too.

    The sharpness s, the inverse of the paper's temperature, follows its schedule and is not trained: the proxy's
    gradient in s would lead away from the bound.
    """

    def forward(self, output: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw z = [ρ >= 1 - q], with the relaxed ζ in training mode and ζ = z in evaluation mode."""
        binary = super().forward(output, rho)
        if not self.training:
            return binary
        tiny = torch.finfo(rho.dtype).eps
        noise = torch.logit(rho.clamp(tiny, 1 - tiny))
        zeta = (self.sharpness * (bounded_logits(output, rho) + noise)).sigmoid()
        return shared(binary.z.detach(), zeta, binary.logits, zeta)
