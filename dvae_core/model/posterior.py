"""The hierarchical approximating posterior over the RBM units (Section 3, Eq. 10) and its KL term (App. F)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from .networks import MLP
from .prior import Prior
from .smoothing import DiscreteSample, Smoothing

# Names, since torch.export of torch 2.4 cannot trace `fields`.
PARTS = tuple(field.name for field in fields(DiscreteSample))


class DiscretePosterior(nn.Module):
    """q(z_1, ζ_1, ..., z_k, ζ_k | x) = Π_j r(ζ_j|z_j) q(z_j | ζ_<j, x) (Eq. 10).

    The units are divided into contiguous groups of nearly equal size.  The network of group j has the inputs x and
    ζ_<j and returns the logits, followed by any further outputs that the smoothing needs (App. E).

    Parameters
    ----------
    n_pixels, n_units : int
        Sizes of x and of z.
    n_groups : int
        1 for a factorial posterior.
    hidden : sequence of int
        Widths of the hidden layers of each network.
    smoothing : Smoothing
        The transformation from z to ζ, shared with the prior.
    """

    def __init__(
        self, n_pixels: int, n_units: int, n_groups: int, hidden: Sequence[int], smoothing: Smoothing
    ) -> None:
        super().__init__()
        # In a tuple torch does not register it as a submodule: its weights belong to the model, and are saved
        # once.
        self._shared = (smoothing,)
        self.sizes = [len(part) for part in torch.arange(n_units).tensor_split(n_groups)]
        earlier = [sum(self.sizes[:j]) for j in range(n_groups)]
        self.networks = nn.ModuleList(
            MLP((n_pixels, before), hidden, size, bounded_norm=True, n_free=(smoothing.n_outputs - 1) * size)
            for before, size in zip(earlier, self.sizes, strict=True)
        )

    @property
    def smoothing(self) -> Smoothing:
        """The transformation from z to ζ."""
        return self._shared[0]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """Ignore the second copy of the smoothing that earlier versions saved here."""
        for name in [name for name in state_dict if name.startswith(f"{prefix}smoothing.")]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *more)

    @property
    def groups(self) -> Tensor:
        """The group of each unit, shape (n_units,), int64, non-decreasing."""
        sizes = torch.tensor(self.sizes)
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes, output_size=sum(self.sizes))

    def forward(self, x: Tensor, rho: Tensor) -> DiscreteSample:
        """Draw the groups one after another and return the sample of all units.

        Parameters
        ----------
        x : float, shape (..., n_pixels)
        rho : float, shape (..., smoothing.n_uniform * n_units), uniform on [0, 1)
            May have additional leading axes: several samples per image.
        """
        samples: list[DiscreteSample] = []
        noises = torch.split(rho, [self.smoothing.n_uniform * size for size in self.sizes], dim=-1)
        for network, noise in zip(self.networks, noises, strict=True):
            earlier = torch.cat([sample.zeta for sample in samples], -1) if samples else x[..., :0]
            samples.append(self.smoothing(network(x, earlier), noise))
        return DiscreteSample(*(torch.cat([getattr(s, part) for s in samples], -1) for part in PARTS))


def expected_energy(prior: Prior, sample: DiscreteSample, groups: Tensor) -> Tensor:
    """Return an unbiased estimate of E_q[E_p(z)], shape (...), with an unbiased gradient.

    A bond J_ij with i in an earlier group than j has the value ν_i q_j: the expectation over the later unit is
    analytic (Eq. 25), and ν_i is E[z_i] given the draw.  Without a spike, ν_i is differentiable in ζ_i.  With a
    spike at ζ = 0 it is z_i, with a surrogate gradient so that the gradient of the bond is

        J_ij [ (1 - z_i)/(1 - q_i) q_j · dq_i + z_i · dq_j ]      (Eq. 12, 31).

    Eq. 31 has z_j instead of the first q_j, which is the expectation of z_j given everything that dq_i depends on.
    Only the earlier unit has the factor.  Bonds within a group have the exact value q_i q_j.

    Parameters
    ----------
    groups : int64, shape (n_units,)
        The group of each unit, non-decreasing: in a bond i < j, unit i is never in a later group than j.
    """
    q, J = sample.logits.sigmoid(), prior.couplings()
    between = J * (groups[:, None] != groups)
    return -(q @ prior.biases() + ((sample.nu @ between + q @ (J - between)) * q).sum(-1))
