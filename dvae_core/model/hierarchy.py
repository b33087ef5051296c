"""The hierarchy of continuous latent layers below the RBM (Section 4, Eq. 13-14, App. G)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .networks import MLP

# A standard deviation outside e^±6 is a numerical artefact.
LOG_STD_LIMIT = 6.0


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A Gaussian with diagonal covariance: mean and log standard deviation, shape (..., n)."""

    mean: Tensor
    log_std: Tensor

    @classmethod
    def from_output(cls, output: Tensor) -> Gaussian:
        """Return the Gaussian whose mean and log standard deviation are a network's output, shape (..., 2 n)."""
        mean, log_std = output.chunk(2, dim=-1)
        return cls(mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))

    def rsample(self, eps: Tensor) -> Tensor:
        """Return mean + std · eps, shape (..., n), for standard normal eps; differentiable."""
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
    """Π_m q(𝔷_m | 𝔷_<m, ζ, x): each layer is a Gaussian given x, ζ and all earlier layers (Eq. 13)."""

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
    """Π_m p(𝔷_m | 𝔷_<m, ζ), in the same order as the posterior (App. G), with parameters shared or not (App. H).

    Without sharing, each layer has its own network, whose input is the concatenation of ζ and all earlier layers.
    With sharing, the layers are divided into groups of consecutive layers, and group g has one network, applied to

        c_m = M_g ζ + Σ_{1 <= l < m} 𝔷_l

    for each of its layers m; M_g has one row per variable of a layer.  The decoder's input is `context` after the
    last layer: the concatenation without sharing, the last group's sum over all layers with sharing.  One group is
    the paper's complete sharing.

    For n groups the paper shares each "as in the complete architecture", "and the RBM layer is independently
    parameterized".  Our reading: each group has its own map M_g, and the sum includes the layers of earlier
    groups. The sizes of the groups differ by at most one layer.

    Parameters
    ----------
    n_units, n_layers, n_continuous : int
        Sizes of ζ, and number and size of the layers.
    hidden : sequence of int
        Widths of the hidden layers of each network.
    n_sharing_groups : int
        0 for no sharing, 1 for complete sharing; at most `n_layers`.
    """

    def __init__(
        self,
        n_units: int,
        n_layers: int,
        n_continuous: int,
        hidden: Sequence[int],
        n_sharing_groups: int = 0,
    ) -> None:
        super().__init__()
        self.n_continuous = n_continuous
        self.maps = nn.ModuleList(nn.Linear(n_units, n_continuous, bias=False) for _ in range(n_sharing_groups))
        parts = torch.arange(n_layers).tensor_split(n_sharing_groups or max(n_layers, 1))
        # For each layer, the index of its network and the index of the layer among that network's uses.
        self.uses = [(g, use) for g, part in enumerate(parts) for use in range(len(part))]
        self.n_context = n_continuous if n_sharing_groups else n_units + n_layers * n_continuous
        self.networks = nn.ModuleList(
            MLP(
                (n_continuous if n_sharing_groups else n_units + g * n_continuous,),
                hidden,
                2 * n_continuous,
                n_uses=len(part),
            )
            for g, part in enumerate(parts)
            if len(part)
        )

    def context(self, zeta: Tensor, layers: Sequence[Tensor]) -> Tensor:
        """Return the input, shape (..., n), of the network of the next layer, or of the decoder after the last."""
        if not self.maps:
            return torch.cat((zeta, *layers), -1)
        g, _ = self.uses[min(len(layers), len(self.uses) - 1)]
        context: Tensor = sum(layers, self.maps[g](zeta))
        return context

    def layer(self, m: int, zeta: Tensor, layers: Sequence[Tensor]) -> Gaussian:
        """Return p(𝔷_m | 𝔷_<m, ζ) of layer m = 0, 1, ..., given the draws of all earlier layers or more."""
        g, use = self.uses[m]
        return Gaussian.from_output(self.networks[g](self.context(zeta, layers[:m]), use=use))

    def forward(self, zeta: Tensor, layers: Sequence[Tensor]) -> list[Gaussian]:
        """Return p(𝔷_m | 𝔷_<m, ζ) of each layer, given the draws of the earlier layers."""
        return [self.layer(m, zeta, layers) for m in range(len(layers))]

    def sample(self, zeta: Tensor, eps: Tensor) -> list[Tensor]:
        """Return draws of all layers from the prior; eps, (..., n_layers * n_continuous), is standard normal."""
        layers: list[Tensor] = []
        for m in range(len(self.uses)):
            noise = eps[..., m * self.n_continuous : (m + 1) * self.n_continuous]
            layers.append(self.layer(m, zeta, layers).rsample(noise))
        return layers
