"""The interface of all smoothing transformations, the sample that they return, and a trainable sharpness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

# σ(±12) differs from 0 or 1 by 6e-6: enough for 1/(1 - q) in float32, and no practical restriction.
LOGIT_LIMIT = 12.0


@dataclass(frozen=True, slots=True)
class DiscreteSample:
    """One draw of the binary units and of their smoothed analogs; every array has shape (..., n_units).

    Attributes
    ----------
    z : 0 or 1, without gradient
    zeta : ζ, differentiable in the parameters of its distribution (Eq. 8)
    logits : of q(z = 1 | ζ_<, x)
    nu : ν = q(z = 1 | ζ, x), an estimate of E[z] given this draw, with an unbiased gradient
        If ζ determines z, its value is z and its gradient is that of Eq. 31.
    kl : KL[q(ζ|z=1,x) || p(ζ|z=1)], nats; 0 if the prior shares r(ζ|z)
    log_ratio : log p(ζ|z) - log q(ζ|z,x), nats; 0 if the prior shares r(ζ|z)
    """

    z: Tensor
    zeta: Tensor
    logits: Tensor
    nu: Tensor
    kl: Tensor
    log_ratio: Tensor

    @property
    def log_q(self) -> Tensor:
        """The log of q(z|x) = Σ_j log q(z_j | ζ_<j, x), shape (...), nats."""
        return (self.z * self.logits - softplus(self.logits)).sum(-1)

    @property
    def negative_entropy(self) -> Tensor:
        """Σ_j E_{z_j}[log q(z_j | ζ_<j, x)], analytic within every group (Eq. 26), shape (...), nats."""
        return (self.logits.sigmoid() * self.logits - softplus(self.logits)).sum(-1)

    @property
    def smoothing_kl(self) -> Tensor:
        """Σ_i q_i KL[q(ζ_i|z_i=1,x) || p(ζ_i|z_i=1)], the last term of Eq. 22, shape (...), nats.

        The expectation over z_i is analytic, so that the gradient of the KL reaches q_i, as App. E requires.
        """
        return (self.logits.sigmoid() * self.kl).sum(-1)


class Smoothing(nn.Module, ABC):
    """An elementwise transformation from binary z to continuous ζ.

    It maps uniform noise ρ and q = q(z = 1) to ζ by the inverse of the CDF of q r(ζ|1) + (1 - q) r(ζ|0)
    (Eq. 8).  If posterior and prior share r(ζ|z), it cancels in the KL term and in the importance weights.

    Attributes
    ----------
    n_outputs, n_uniform : int
        Number of outputs of the posterior network, and of uniform random numbers, per unit.
    """

    n_outputs: ClassVar[int] = 1
    n_uniform: ClassVar[int] = 1

    @abstractmethod
    def forward(self, output: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw n units from the posterior.

        Parameters
        ----------
        output : float, shape (..., n_outputs * n)
            Output of the posterior network; the first n values are the logits of q(z = 1).
        rho : float, shape (..., n_uniform * n), uniform on [0, 1)
            May have additional leading axes.
        """

    @abstractmethod
    def sample(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return a draw of ζ from the prior given binary z, for uniform noise ρ of the same shape."""

    def log_density_ratio(self, output: Tensor, z: Tensor, zeta: Tensor) -> Tensor:
        """Return log p(ζ|z) - log q(ζ|z,x) for any z and ζ, given the posterior's `output`; 0 if r is shared.

        For a draw of `forward` it equals `DiscreteSample.log_ratio`.
        """
        return torch.zeros_like(zeta)

    def set_epoch(self, epoch: float) -> None:
        """Update parameters that depend on the epoch; does nothing by default."""


class ScheduledSharpness(Smoothing):
    """A sharpness s with an upper bound that grows linearly with the epochs (App. H).

    Parameters
    ----------
    bound, growth, limit : float
        The bound at epoch 0, its increase per epoch, and its largest value.
    """

    bound: Tensor

    def __init__(self, bound: float, growth: float = 0.0, limit: float = 80.0) -> None:
        super().__init__()
        self.start, self.growth, self.limit = bound, growth, limit
        self.register_buffer("bound", torch.tensor(float(bound)))

    @property
    def sharpness(self) -> Tensor:
        """The sharpness s, a scalar: the bound."""
        return self.bound

    @torch.no_grad()
    def set_sharpness(self, sharpness: Tensor | float) -> None:
        """Set s, which is also the bound."""
        self.bound.fill_(sharpness)

    def bound_at(self, epoch: float) -> float:
        """Return the bound of the sharpness at an epoch."""
        return max(self.start, min(self.limit, self.start + self.growth * epoch))

    @torch.no_grad()
    def set_epoch(self, epoch: float) -> None:
        """Set the bound to that of `epoch`."""
        self.bound.fill_(self.bound_at(epoch))


class TrainableSharpness(ScheduledSharpness):
    """A sharpness that is trained below its bound, s = floor + (bound - floor) σ(a).

    The papers write β for s; here β is the inverse temperature.
    """

    floor: ClassVar[float] = 0.0

    def __init__(self, bound: float, growth: float = 0.0, limit: float = 80.0) -> None:
        super().__init__(bound, growth, limit)
        self.raw = nn.Parameter(torch.tensor(2.0))

    @property
    def sharpness(self) -> Tensor:
        """The sharpness s, a scalar above `floor`."""
        return self.floor + (self.bound - self.floor) * self.raw.sigmoid()

    @torch.no_grad()
    def set_sharpness(self, sharpness: Tensor | float) -> None:
        """Set s to a value between `floor` and the bound."""
        self.raw.copy_(torch.logit((sharpness - self.floor) / (self.bound - self.floor)))

    @torch.no_grad()
    def set_epoch(self, epoch: float) -> None:
        """Set the bound of the sharpness to that of `epoch`, without changing the sharpness itself."""
        bound = self.bound_at(epoch)
        if bound != self.bound:
            sharpness = self.sharpness
            self.bound.fill_(bound)
            self.set_sharpness(sharpness)


def bounded_logits(output: Tensor, rho: Tensor) -> Tensor:
    """Return the logits clamped to ±`LOGIT_LIMIT` and expanded to the shape of the noise."""
    return output.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).expand_as(rho)


def shared(z: Tensor, zeta: Tensor, logits: Tensor, nu: Tensor) -> DiscreteSample:
    """Return the sample of a transformation whose r(ζ|z) the prior shares: `kl` and `log_ratio` are 0."""
    zero = torch.zeros_like(zeta)
    return DiscreteSample(z, zeta, logits, nu, zero, zero)
