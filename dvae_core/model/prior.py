"""The interface of all priors over the binary units z in {0,1}, and a coarse estimate of log Z.

E(z) = -(z'Jz + b'z),  p(z) = exp(-E(z)) / Z  (Eq. 6), J strictly upper triangular.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn


class Prior(nn.Module, ABC):
    """A Boltzmann machine whose units divide into a kept part and a part that can be summed out.

    Given the kept units, the units of the other part are independent.

    Attributes
    ----------
    n_units : int
    W : float
        The couplings, nats, one value per bond; the shape depends on the prior.
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
        """Return -log Σ_h exp(-β E(v, h)), the reduced potential of the kept units v, shape (...).

        Parameters
        ----------
        z : float, shape (..., n_units)
            All units; the values of those that are summed out are ignored.
        beta : float or shape (..., 1)
            Inverse temperature.  The result is not linear in β, since softplus(β x) ≠ β softplus(x).
        """

    @abstractmethod
    def gibbs(self, z: Tensor, n_sweeps: int, generator: torch.Generator, beta: Tensor | float = 1.0) -> Tensor:
        """Return the units after `n_sweeps` block Gibbs sweeps, each of which draws the summed-out part first.

        Parameters
        ----------
        z : float, shape (n_chains, n_units)
            The initial states, which are not modified.  Only the kept units matter.
        beta : float or shape (n_chains, 1)
            Inverse temperature of each chain.  A sweep leaves p^β invariant.
        """

    def energy(self, z: Tensor) -> Tensor:
        """Return E(z) in nats, shape (...), for z of shape (..., n_units)."""
        return -((z @ self.couplings() * z).sum(-1) + z @ self.biases())

    def log_z_gradient_term(self, z: Tensor) -> Tensor:
        """Return a scalar whose gradient estimates the gradient of log Z: the negative phase of Eq. 11.

        The expectation over the summed-out units is analytic.  z, shape (n_chains, n_units), are samples of p.
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
    """Return a cheap estimate of log Z by annealed importance sampling, nats; for monitoring, not for reports.

    Chains are annealed from β = 0 to 1 on a uniform grid, with a part of the units summed out.  The mean of the
    weights is unbiased for Z, so the estimate of log Z is too low on average (Neal, 2001).  Without couplings all
    units are summed out, and the estimate is exact.
    """
    betas = torch.linspace(0, 1, n_betas + 1).tolist()
    z = prior.initial_state(n_chains, generator)
    log_w = torch.zeros(n_chains, dtype=torch.float64, device=z.device)
    for beta, following in pairwise(betas):
        log_w += (prior.free_energy(z, beta) - prior.free_energy(z, following)).double()
        z = prior.gibbs(z, 1, generator, following)
    log_mean = torch.logsumexp(log_w, 0).item() - math.log(n_chains)
    return prior.n_units * math.log(2) + log_mean
