"""The hierarchical approximating posterior over the RBM units (Section 3, Eq. 10) and its KL term (App. F)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .networks import MLP
from .prior import Prior
from .smoothing import Smoothing

__all__ = ["DiscretePosterior", "DiscreteSample", "expected_energy"]

# σ(±12) is 6e-6 from 0 or 1: far enough for 1/(1 - q) and for float32, near enough to forbid nothing.
LOGIT_LIMIT = 12.0


@dataclass(frozen=True, slots=True)
class DiscreteSample:
    """One draw of all RBM units: z, its smoothed ζ and the logits of q, each of shape (..., n_units)."""

    z: Tensor
    zeta: Tensor
    logits: Tensor

    @property
    def log_q(self) -> Tensor:
        """The log of q(z|x) = Σ_j log q(z_j | ζ_<j, x), shape (...), nats."""
        return (self.z * self.logits - softplus(self.logits)).sum(-1)

    @property
    def negative_entropy(self) -> Tensor:
        """Σ_j E_{z_j}[log q(z_j | ζ_<j, x)], analytic within every group (Eq. 26), shape (...), nats."""
        return (self.logits.sigmoid() * self.logits - softplus(self.logits)).sum(-1)


class DiscretePosterior(nn.Module):
    """q(z_1, ζ_1, ..., z_k, ζ_k | x) = Π_j r(ζ_j|z_j) q(z_j | ζ_<j, x) (Eq. 10).

    Units are divided into contiguous groups of nearly equal size; group j has a network of x and ζ_<j.

    Parameters
    ----------
    n_pixels, n_units : int
        Sizes of x and of z.
    n_groups : int
        1 makes the posterior factorial.
    hidden : sequence of int
        Widths of the hidden layers of every network.
    smoothing : Smoothing
        The transformation from z to ζ, shared with the prior.
    """

    def __init__(
        self, n_pixels: int, n_units: int, n_groups: int, hidden: Sequence[int], smoothing: Smoothing
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.sizes = [len(part) for part in torch.arange(n_units).tensor_split(n_groups)]
        earlier = [sum(self.sizes[:j]) for j in range(n_groups)]
        self.networks = nn.ModuleList(
            MLP((n_pixels, before), hidden, size, bounded_norm=True)
            for before, size in zip(earlier, self.sizes, strict=True)
        )

    @property
    def groups(self) -> Tensor:
        """The group of every unit, shape (n_units,), int64, non-decreasing."""
        sizes = torch.tensor(self.sizes)
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes, output_size=sum(self.sizes))

    def forward(self, x: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw all groups in turn.

        Parameters
        ----------
        x : float, shape (..., n_pixels)
        rho : float, shape (..., n_units), uniform on [0, 1)
            Its leading axes may go beyond those of x: several samples of each image.
        """
        z: list[Tensor] = []
        zeta: list[Tensor] = []
        logits: list[Tensor] = []
        for network, noise in zip(self.networks, torch.split(rho, self.sizes, dim=-1), strict=True):
            g = network(x, torch.cat(zeta, -1) if zeta else x[..., :0])
            g = g.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).expand_as(noise)
            sample = self.smoothing(g, noise)
            for parts, part in zip((z, zeta, logits), (*sample, g), strict=True):
                parts.append(part)
        return DiscreteSample(torch.cat(z, -1), torch.cat(zeta, -1), torch.cat(logits, -1))


def expected_energy(prior: Prior, sample: DiscreteSample, groups: Tensor) -> Tensor:
    """Return an unbiased estimate of E_q[E_p(z)], shape (...), whose gradient is unbiased too.

    For transformations with a spike at ζ = 0.  A bond J_ij with i in an earlier group than j has the value
    z_i q_j, the later unit's expectation taken analytically (Eq. 25), and towards the posterior the gradient of

        J_ij [ (1 - z_i)/(1 - q_i) q_j · dq_i + z_i · dq_j ]      (Eq. 12, 31),

    where Eq. 31 has z_j in the place of the first q_j, its expectation given all that dq_i depends on.
    The factor belongs to the earlier unit alone: fixing z_i = 0 changes all that follows it, and only the
    samples with z_i = 0 know what follows.  Bonds inside a group are q_i q_j, exactly.

    Parameters
    ----------
    groups : int64, shape (n_units,)
        Non-decreasing, so that in a bond i < j unit i is never in a later group than j.
    """
    z, q = sample.z, sample.logits.sigmoid()
    J = prior.couplings()
    between = J * (groups[:, None] != groups)
    value = q @ prior.biases() + ((z @ between + q @ (J - between)) * q).sum(-1)
    # So far the earlier unit has no gradient between groups; add one of value zero.
    off = (1 - z) / (1 - q).detach()
    effect = off * (q @ between.T).detach()
    return -(value + (effect * (q - q.detach())).sum(-1))
