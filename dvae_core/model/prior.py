"""The interface of all priors over the binary units z in {0,1}, and a coarse estimate of log Z.

E(z) = -(z'Jz + b'z),  p(z) = exp(-E(z)) / Z  (Eq. 6), J strictly upper triangular.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from .tempered import Tempered


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
    def tempered(self) -> Tempered:
        """Return the machine with a part of its units summed out, on the path from uniform units."""

    @abstractmethod
    def kept(self, z: Tensor) -> Tensor:
        """Return the kept units v (..., n_kept) of all units z (..., n_units), in the order of `tempered`."""

    @abstractmethod
    def joined(self, v: Tensor, h: Tensor) -> Tensor:
        """Return all units z (..., n_units), given kept and summed-out ones."""

    def free_energy(self, z: Tensor, beta: Tensor | float = 1.0) -> Tensor:
        """Return -log Σ_h exp(-β E(v, h)), the reduced potential of the kept units v, shape (...).

        Parameters
        ----------
        z : float, shape (..., n_units)
            All units; the values of those that are summed out are ignored.
        beta : float or shape (..., 1)
            Inverse temperature.  The result is not linear in β, since softplus(β x) ≠ β softplus(x).
        """
        return -self.tempered().log_p(self.kept(z), beta)

    @torch.no_grad()
    def gibbs(self, z: Tensor, n_sweeps: int, generator: torch.Generator, beta: Tensor | float = 1.0) -> Tensor:
        """Return the units after `n_sweeps` block Gibbs sweeps, each of which draws the summed-out part first.

        Parameters
        ----------
        z : float, shape (n_chains, n_units)
            The initial states, which are not modified.  Only the kept units matter.
        n_sweeps : int
            At least 1.
        beta : float or shape (n_chains, 1)
            Inverse temperature of each chain.  A sweep leaves p^β invariant.
        """
        machine, v = self.tempered(), self.kept(z)
        classes = machine.classes()
        # Without couplings no unit is kept, and one sweep draws from the prior exactly.
        for _ in range(n_sweeps if v.shape[-1] else 1):
            v, h = machine.sweep(v, machine.field(v), beta, generator, classes)
        return self.joined(v, h)

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


@torch.no_grad()
def annealed_log_z(prior: Prior, generator: torch.Generator, n_chains: int = 200, n_betas: int = 200) -> float:
    """Return a cheap estimate of log Z by annealed importance sampling, nats; for monitoring, not for reports.

    Chains are annealed from β = 0 to 1 on a uniform grid, with a part of the units summed out.  The mean of the
    weights is unbiased for Z, so the estimate of log Z is too low on average (Neal, 2001).  Without couplings all
    units are summed out, and the estimate is exact.
    """
    betas = torch.linspace(0, 1, n_betas + 1).tolist()
    machine, v = prior.tempered(), prior.kept(prior.initial_state(n_chains, generator))
    classes, log_w = machine.classes(), torch.zeros(n_chains, dtype=torch.float64, device=v.device)
    for beta, following in pairwise(betas):
        field = machine.field(v)
        log_w += machine.log_ratio(v, field, beta, following)
        v, _ = machine.sweep(v, field, following, generator, classes)
    log_mean = torch.logsumexp(log_w, 0).item() - math.log(n_chains)
    return prior.n_units * math.log(2) + log_mean
