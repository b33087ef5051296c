"""What every prior over the binary units z in {0,1} can do.

E(z) = -(z'Jz + b'z),  p(z) = exp(-E(z)) / Z  (Eq. 6), J strictly upper triangular.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn


class Prior(nn.Module, ABC):
    """A Boltzmann machine whose units divide into a kept part and an independent part, which can be summed out.

    Attributes
    ----------
    n_units : int
    W : float
        The couplings, one value a bond, in a shape of the prior's own; nats.
    """

    n_units: int
    W: Tensor

    @abstractmethod
    def couplings(self) -> Tensor:
        """Return J, strictly upper triangular, shape (n_units, n_units)."""

    @abstractmethod
    def biases(self) -> Tensor:
        """Return b, shape (n_units,)."""

    @abstractmethod
    def free_energy(self, z: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """Return -log Σ_h exp(-β E(v, h)), the reduced potential of the kept units v, the others summed out.

        Parameters
        ----------
        z : float, shape (..., n_units)
            All units; those that are summed out do not matter.
        beta : float or shape (..., 1)
            Inverse temperature.  The result is not linear in β: softplus(β x) is not β softplus(x).
        """

    @abstractmethod
    def gibbs(self, z: Tensor, n_sweeps: int, generator: torch.Generator, beta: Tensor | float = 1.0) -> Tensor:
        """Return units after `n_sweeps` block Gibbs sweeps, each of which draws the summed-out part first.

        Parameters
        ----------
        z : float, shape (n_chains, n_units)
            States before; not changed.  Only the kept units matter.
        beta : float or shape (n_chains, 1)
            Inverse temperature of each chain; the chains are left invariant under p^β.
        """

    def energy(self, z: Tensor) -> Tensor:
        """Return E(z) in nats, shape (...), for z of shape (..., n_units)."""
        return -((z @ self.couplings() * z).sum(-1) + z @ self.biases())

    def log_z_gradient_term(self, z: Tensor) -> Tensor:
        """Return a number whose gradient is an estimate of that of log Z, given states z from p.

        The negative phase of Eq. 11, the expectation over the summed-out units taken analytically; z has shape
        (n_chains, n_units).
        """
        return -self.free_energy(z).mean()

    @torch.no_grad()
    def initial_state(self, n_chains: int, generator: torch.Generator) -> Tensor:
        """Return uniform random units, shape (n_chains, n_units), 0. or 1."""
        uniform = torch.rand((n_chains, self.n_units), generator=generator, device=self.W.device)
        return (uniform < 0.5).to(self.W.dtype)


def scaled(value: Tensor, beta: Tensor | float) -> Tensor:
    """Return β times a value of shape (...), for β a number or of shape (..., 1)."""
    return value * (beta.squeeze(-1) if isinstance(beta, Tensor) else beta)


@torch.no_grad()
def annealed_log_z(prior: Prior, generator: torch.Generator, n_chains: int = 200, n_betas: int = 200) -> float:
    """Return a cheap annealed importance estimate of log Z, to follow training with (not to report).

    Chains are annealed from β = 0 to 1 on a uniform grid with a part of the units summed out; the mean of the
    weights is unbiased for Z, so the estimate of log Z is low on average (Neal, 2001).  Without couplings all
    units are summed out, and the weights telescope to the exact value.
    """
    betas = torch.linspace(0, 1, n_betas + 1).tolist()
    z = prior.initial_state(n_chains, generator)
    log_w = torch.zeros(n_chains, dtype=torch.float64, device=z.device)
    for beta, following in pairwise(betas):
        log_w += (prior.free_energy(z, beta) - prior.free_energy(z, following)).double()
        z = prior.gibbs(z, 1, generator, following)
    log_mean = torch.logsumexp(log_w, 0).item() - math.log(n_chains)
    return prior.n_units * math.log(2) + log_mean
