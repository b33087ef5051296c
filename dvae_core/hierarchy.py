"""The hierarchy of continuous latent layers below the RBM (Section 4, Eq. 13-14, App. G)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .networks import MLP

__all__ = ["ContinuousPosterior", "ContinuousPrior", "Gaussian"]

# Beyond e^±6 a standard deviation is a numerical accident, not a model.
LOG_STD_LIMIT = 6.0


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A Gaussian with diagonal covariance: mean and log standard deviation, shape (..., n)."""

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_output(cls, output: Tensor) -> Gaussian:
        """Return the Gaussian that a network's output (..., 2 n) parameterises."""
        mean, log_std = output.chunk(2, dim=-1)
        return cls(mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))

    def rsample(self, eps: Tensor) -> Tensor:
        """Return mean + std · eps for standard normal eps; differentiable."""
        return self.mean + self.log_std.exp() * eps

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of `value`, summed over the last axis, nats."""
        standardised = (value - self.mean) * (-self.log_std).exp()
        return (-0.5 * standardised**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def kl(self, other: Gaussian) -> Tensor:
        """Return KL[self || other], analytic, summed over the last axis, nats."""
        ratio = (2 * (self.log_std - other.log_std)).exp()
        distance = ((self.mean - other.mean) * (-other.log_std).exp()) ** 2
        return (other.log_std - self.log_std + 0.5 * (ratio + distance - 1)).sum(-1)


class ContinuousPosterior(nn.Module):
    """Π_m q(𝔷_m | 𝔷_<m, ζ, x): every layer is a Gaussian given x, ζ and all earlier layers (Eq. 13)."""

    def __init__(
        self, n_pixels: int, n_units: int, n_layers: int, n_continuous: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.n_continuous = n_continuous
        self.networks = nn.ModuleList(
            MLP((n_pixels, n_units + m * n_continuous), hidden, 2 * n_continuous) for m in range(n_layers)
        )

    def forward(self, x: Tensor, zeta: Tensor, eps: Tensor) -> tuple[list[Tensor], list[Gaussian]]:
        """Return the layers' draws and their distributions, in order.

        Parameters
        ----------
        x : float, shape (..., n_pixels)
        zeta : float, shape (..., n_units)
        eps : float, shape (..., n_layers * n_continuous), standard normal
        """
        layers: list[Tensor] = []
        gaussians: list[Gaussian] = []
        for m, network in enumerate(self.networks):
            noise = eps[..., m * self.n_continuous : (m + 1) * self.n_continuous]
            gaussians.append(Gaussian.from_output(network(x, torch.cat((zeta, *layers), -1))))
            layers.append(gaussians[-1].rsample(noise))
        return layers, gaussians


class ContinuousPrior(nn.Module):
    """Π_m p(𝔷_m | 𝔷_<m, ζ), in the same order as the posterior (App. G)."""

    def __init__(self, n_units: int, n_layers: int, n_continuous: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.n_continuous = n_continuous
        self.networks = nn.ModuleList(
            MLP((n_units + m * n_continuous,), hidden, 2 * n_continuous) for m in range(n_layers)
        )

    def forward(self, zeta: Tensor, layers: Sequence[Tensor]) -> list[Gaussian]:
        """Return p(𝔷_m | 𝔷_<m, ζ) of every layer, conditioned on the given draws of the earlier ones."""
        return [
            Gaussian.from_output(network(torch.cat((zeta, *layers[:m]), -1)))
            for m, network in enumerate(self.networks)
        ]

    def sample(self, zeta: Tensor, eps: Tensor) -> list[Tensor]:
        """Return draws of all layers from the prior, for noise eps (..., n_layers * n_continuous)."""
        layers: list[Tensor] = []
        for m, network in enumerate(self.networks):
            noise = eps[..., m * self.n_continuous : (m + 1) * self.n_continuous]
            layers.append(Gaussian.from_output(network(torch.cat((zeta, *layers), -1))).rsample(noise))
        return layers
