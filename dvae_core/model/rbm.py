"""The restricted Boltzmann machine (RBM) as a prior: energy, reduced potential and block Gibbs sampling.

E(z) = -(z_L' W z_R + b_L' z_L + b_R' z_R),  p(z) = exp(-E(z)) / Z  (Eq. 6), z in {0,1}.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .prior import Prior, scaled


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

    def free_energy(self, z: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """Return the reduced potential of the left side, with the right side summed out; see `Prior`."""
        left = self.split(z)[0]
        return -scaled(left @ self.b_left, beta) - softplus(beta * (left @ self.W + self.b_right)).sum(-1)

    @torch.no_grad()
    def gibbs(self, z: Tensor, n_sweeps: int, generator: torch.Generator, beta: Tensor | float = 1.0) -> Tensor:
        """Return the units after `n_sweeps` block Gibbs sweeps: the right side given the left, then the reverse.

        Parameters
        ----------
        z : float, shape (n_chains, n_units)
            The initial states, which are not modified.  Only the left side matters.
        beta : float or shape (n_chains, 1)
            Inverse temperature of each chain.  A sweep leaves p^β invariant.
        """
        left, right = (part.clone() for part in self.split(z))
        uniform_left, uniform_right = torch.empty_like(left), torch.empty_like(right)
        for _ in range(n_sweeps):
            _draw(left, self.W, self.b_right, beta, uniform_right.uniform_(generator=generator), out=right)
            _draw(right, self.W.T, self.b_left, beta, uniform_left.uniform_(generator=generator), out=left)
        return torch.cat((left, right), dim=-1)


def _draw(given: Tensor, W: Tensor, bias: Tensor, beta: Tensor | float, uniform: Tensor, out: Tensor) -> None:
    """Write into `out` a sample of one side given the other: 1 if uniform < σ(β (given W + bias)), else 0."""
    torch.addmm(bias, given, W, out=out)
    out.mul_(beta).sigmoid_()
    torch.lt(uniform, out, out=out)
