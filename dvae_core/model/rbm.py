"""The restricted Boltzmann machine (RBM) as a prior: its energy, and the side that is summed out.

E(z) = -(z_L' W z_R + b_L' z_L + b_R' z_R),  p(z) = exp(-E(z)) / Z  (Eq. 6), z in {0,1}.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .prior import Prior
from .tempered import Tempered


class RBM(Prior):
    """A bipartite Boltzmann machine over {0,1}; all of its units are latent.

    Parameters
    ----------
    n_left, n_right : int
        Number of units on each side.

    Attributes
    ----------
    W : float, shape (n_left, n_right)
        Couplings, nats.
    b_left, b_right : float, shape (n_left,), (n_right,)
        Biases, nats.
    """

    def __init__(self, n_left: int, n_right: int) -> None:
        super().__init__()
        self.n_left, self.n_right, self.n_units = n_left, n_right, n_left + n_right
        self.W = nn.Parameter(torch.zeros(n_left, n_right))
        self.b_left = nn.Parameter(torch.zeros(n_left))
        self.b_right = nn.Parameter(torch.zeros(n_right))

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the left (..., n_left) and the right units (..., n_right) of z (..., n_units)."""
        return z[..., : self.n_left], z[..., self.n_left :]

    def couplings(self) -> Tensor:
        """Return J of E(z) = -(z'Jz + b'z), strictly upper triangular, shape (n_units, n_units)."""
        return nn.functional.pad(self.W, (self.n_left, 0, 0, self.n_right))

    def biases(self) -> Tensor:
        """Return b, shape (n_units,)."""
        return torch.cat((self.b_left, self.b_right))

    def energy(self, z: Tensor) -> Tensor:
        """Return E(z) in nats, shape (...), for z of shape (..., n_units)."""
        left, right = self.split(z)
        return -((left @ self.W * right).sum(-1) + left @ self.b_left + right @ self.b_right)

    def tempered(self) -> Tempered:
        """Return the machine with the right side summed out."""
        return Tempered(self.W, self.b_left, self.b_right)

    def kept(self, z: Tensor) -> Tensor:
        """Return the left units."""
        return z[..., : self.n_left]

    def joined(self, v: Tensor, h: Tensor) -> Tensor:
        """Return all units, the left ones first."""
        return torch.cat((v, h), dim=-1)
