"""The restricted Boltzmann machine of the prior: its energy, what can be summed out, and block Gibbs sampling.

E(z) = -(z_L' W z_R + b_L' z_L + b_R' z_R),  p(z) = exp(-E(z)) / Z  (Eq. 6), z in {0,1}.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

__all__ = ["RBM", "annealed_log_z"]


class RBM(nn.Module):
    """A bipartite Boltzmann machine over {0,1}, all of whose units are latent.

    Parameters
    ----------
    n_left, n_right : int
        Units on either side.

    Attributes
    ----------
    W : float, shape (n_left, n_right)
        Couplings, nats.
    b_left, b_right : float, shape (n_left,), (n_right,)
        Biases, nats.
    """

    def __init__(self, n_left: int, n_right: int) -> None:
        super().__init__()
        self.n_left, self.n_right = n_left, n_right
        self.W = nn.Parameter(torch.zeros(n_left, n_right))
        self.b_left = nn.Parameter(torch.zeros(n_left))
        self.b_right = nn.Parameter(torch.zeros(n_right))

    @property
    def n_units(self) -> int:
        """Number of units of both sides."""
        return self.n_left + self.n_right

    def split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the left (..., n_left) and the right (..., n_right) part of units z (..., n_units)."""
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

    def free_energy_left(self, left: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """Return -log Σ_{z_R} exp(-β E(z)), the reduced potential of the left side with the right summed out.

        Parameters
        ----------
        left : float, shape (..., n_left)
        beta : float or shape (..., 1)
            Inverse temperature.  The result is not β times a fixed energy (DESIGN 3.9).
        """
        return -beta_dot(left, self.b_left, beta) - softplus(beta * (left @ self.W + self.b_right)).sum(-1)

    def free_energy_right(self, right: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """Return the reduced potential of the right side (..., n_right) with the left side summed out."""
        return -beta_dot(right, self.b_right, beta) - softplus(beta * (right @ self.W.T + self.b_left)).sum(-1)

    @torch.no_grad()
    def initial_state(self, n_chains: int, generator: torch.Generator) -> Tensor:
        """Return uniform random units, shape (n_chains, n_units), 0. or 1."""
        uniform = torch.rand((n_chains, self.n_units), generator=generator, device=self.W.device)
        return (uniform < 0.5).to(self.W.dtype)

    @torch.no_grad()
    def gibbs(
        self,
        z: Tensor,
        n_sweeps: int,
        generator: torch.Generator,
        beta: Tensor | float = 1.0,
        rows: slice = slice(None),
    ) -> Tensor:
        """Return units after `n_sweeps` block Gibbs sweeps, each the right side given the left, then the left.

        Parameters
        ----------
        z : float, shape (n_chains, n_units)
            States before; not changed.  Only the left side matters.
        beta : float or shape (n_chains, 1)
            Inverse temperature of each chain; the chains are left invariant under p^β.
        rows : slice
            The chains to move and to return.  Random numbers are drawn for all, so that what a chain does
            depends on its place in z, not on which others are moved here.
        """
        uniform_left, uniform_right = (torch.empty_like(part) for part in self.split(z))
        left, right = (part.clone() for part in self.split(z[rows]))
        for _ in range(n_sweeps):
            uniform_right.uniform_(generator=generator)
            _draw(left, self.W, self.b_right, beta, uniform_right[rows], out=right)
            uniform_left.uniform_(generator=generator)
            _draw(right, self.W.T, self.b_left, beta, uniform_left[rows], out=left)
        return torch.cat((left, right), dim=-1)


def beta_dot(side: Tensor, bias: Tensor, beta: Tensor | float) -> Tensor:
    """Return β b'v, shape (...), for β a number or of shape (..., 1)."""
    linear = side @ bias
    return linear * (beta.squeeze(-1) if isinstance(beta, Tensor) else beta)


def _draw(given: Tensor, W: Tensor, bias: Tensor, beta: Tensor | float, uniform: Tensor, out: Tensor) -> None:
    """Write into `out` a sample of one side given the other: 1 where uniform < σ(β (given W + bias))."""
    torch.addmm(bias, given, W, out=out)
    out.mul_(beta).sigmoid_()
    torch.lt(uniform, out, out=out)


@torch.no_grad()
def annealed_log_z(rbm: RBM, generator: torch.Generator, n_chains: int = 200, n_betas: int = 200) -> float:
    """Return a cheap annealed importance estimate of log Z, to follow training with (not to report).

    Chains are annealed from β = 0 to 1 on a uniform grid with the right side summed out; the mean of the
    weights is unbiased for Z, so the estimate of log Z is low on average (Neal, 2001).
    """
    betas = torch.linspace(0, 1, n_betas + 1).tolist()
    z = rbm.initial_state(n_chains, generator)
    log_w = torch.zeros(n_chains, dtype=torch.float64, device=z.device)
    for beta, following in pairwise(betas):
        left, _ = rbm.split(z)
        log_w += (rbm.free_energy_left(left, beta) - rbm.free_energy_left(left, following)).double()
        z = rbm.gibbs(z, 1, generator, following)
    log_mean = torch.logsumexp(log_w, 0).item() - math.log(n_chains)
    return rbm.n_units * math.log(2) + log_mean
