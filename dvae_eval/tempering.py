"""Parallel tempering of a Boltzmann machine: many independent ladders at once, an independent set summed out.

States live on the kept units v: the smaller side of an RBM, else all but one class of a graph colouring.  Their
reduced potential at β is u_β(v) = -β (v'Jv / 2 + b'v) - Σ_j log(1 + exp(β (c_j + (v'W)_j))), with J the symmetric
couplings among kept units (an RBM has none), and p_β(v) ∝ exp(-u_β(v)).  One iteration is a block Gibbs sweep of
every chain under its own p_β, then exchanges between neighbours, even and odd pairs in turn (non-reversible
exchange: Okabe et al., 2001; Syed et al., 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.rng import torch_generator

from .ladder import Ladder
from .machine import Machine

__all__ = ["Tempering", "Works"]

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Works:
    """The differences of reduced potentials that exchanges and bridge estimators need, in nats.

    Attributes
    ----------
    forward : float64, shape (n_iterations, n_ladders, K)
        u_{k+1}(v_k) - u_k(v_k), for samples v_k of rung k.
    reverse : float64, shape (n_iterations, n_ladders, K)
        u_k(v_{k+1}) - u_{k+1}(v_{k+1}), for samples of rung k + 1.
    """

    forward: Float
    reverse: Float

    @property
    def exchange_rates(self) -> Float:
        """Mean acceptance of an exchange, min(1, exp(-w_f - w_r)), of every pair, shape (K,)."""
        acceptance: Float = np.exp(np.minimum(0, -self.forward - self.reverse)).mean((0, 1))
        return acceptance

    def after(self, start: int) -> Works:
        """Return what came at and after iteration `start`."""
        return Works(self.forward[start:], self.reverse[start:])


class Tempering:
    """Replicas of a Boltzmann machine on a ladder, in `n_ladders` independent copies.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The smaller side is kept, the larger one is summed out; of a general machine, a class of its colouring.
    ladder : Ladder
        Shared by all copies.
    n_ladders : int
        Independent copies.
    seed, round : int
        Fix all random numbers; every round of an estimate has its own.
    """

    def __init__(
        self, machine: Machine, ladder: Ladder, n_ladders: int, seed: int, round: int, device: str = "cpu"
    ) -> None:
        reduced = machine.reduced()
        self.ladder, self.n_ladders, self.blocks = ladder, n_ladders, reduced.blocks
        self.W, self.b, self.c = (
            torch.from_numpy(a).to(device, torch.float32) for a in (reduced.W, reduced.b, reduced.c)
        )
        self.J = None if reduced.J is None else torch.from_numpy(reduced.J).to(device, torch.float32)
        self.generator = torch_generator(seed, "tempering", round, device=device)
        self.betas = torch.from_numpy(ladder.betas).to(device, torch.float32)[:, None]
        n_rungs = len(ladder.betas)
        self.v = (self._uniform(n_ladders, n_rungs, len(self.b)) < 0.5).float()
        # Which replica sits on a rung, and which end of the ladder it saw last: +1 cold, -1 hot, 0 neither.
        self.replica = torch.arange(n_rungs, device=device).repeat(n_ladders, 1)
        self.last_end = torch.zeros((n_ladders, n_rungs), dtype=torch.int64, device=device)
        self.round_trips = torch.zeros(n_ladders, dtype=torch.int64, device=device)
        self.n_iterations = 0

    def anneal(self, n_sweeps: int) -> None:
        """Bring every chain from β = 0 to its own temperature, `n_sweeps` sweeps on each rung on its way."""
        for beta in self.betas:
            for _ in range(n_sweeps):
                self._sweep(torch.minimum(self.betas, beta))

    def run(self, n_iterations: int, progress: Callable[[int, int, Works], None] | None = None) -> Works:
        """Run and return the works of every iteration; `progress` hears of them about fifty times."""
        shape = (n_iterations, self.n_ladders, self.ladder.n_steps)
        works = Works(np.empty(shape), np.empty(shape))
        report_every = max(1, n_iterations // 50)
        for i in range(n_iterations):
            self._sweep(self.betas)
            forward, reverse = self._works()
            works.forward[i], works.reverse[i] = forward.cpu().numpy(), reverse.cpu().numpy()
            self._exchange(-(forward + reverse))
            if progress and (i + 1) % report_every == 0:
                progress(i + 1, n_iterations, Works(works.forward[: i + 1], works.reverse[: i + 1]))
        return works

    def _uniform(self, *shape: int) -> Tensor:
        """Return uniform numbers on [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.b.device)

    def _sweep(self, betas: Tensor) -> None:
        """Draw the summed-out units given the kept ones, and these given all others, each chain at its β."""
        field = torch.addmm(self.c, self.v.flatten(0, 1), self.W).view(self.n_ladders, -1, len(self.c))
        h = (self._uniform(*field.shape) < field.mul_(betas).sigmoid_()).float()
        field = torch.addmm(self.b, h.flatten(0, 1), self.W.T).view_as(self.v)
        if self.J is None:
            self.v = (self._uniform(*field.shape) < field.mul_(betas).sigmoid_()).float()
        else:
            self._sweep_coupled(field, betas, self.J)

    def _sweep_coupled(self, field: Tensor, betas: Tensor, J: Tensor) -> None:
        """Draw the kept units class by class, `field` being what the summed-out ones and the biases do to them."""
        for block in self.blocks:
            p = (field[..., block] + self.v @ J[:, block]).mul_(betas).sigmoid_()
            self.v[..., block] = (self._uniform(*p.shape) < p).float()

    def _works(self) -> tuple[Tensor, Tensor]:
        """Return forward and reverse works, float64, shape (n_ladders, K) each.

        The differences are taken unit by unit before they are summed, which keeps their digits.
        """
        field = torch.addmm(self.c, self.v.flatten(0, 1), self.W).view(self.n_ladders, -1, len(self.c))
        bias = (self.v @ self.b).double()
        if self.J is not None:
            bias += (self.v @ self.J * self.v).sum(-1, dtype=torch.float64) / 2
        step = (self.betas[1:, 0] - self.betas[:-1, 0]).double()
        own = softplus(field * self.betas)
        up = softplus(field[:, :-1] * self.betas[1:]) - own[:, :-1]
        down = softplus(field[:, 1:] * self.betas[:-1]) - own[:, 1:]
        forward = -step * bias[:, :-1] - up.sum(-1, dtype=torch.float64)
        reverse = step * bias[:, 1:] - down.sum(-1, dtype=torch.float64)
        return forward, reverse

    def _exchange(self, log_acceptance: Tensor) -> None:
        """Exchange the states of every other pair of neighbours with probability min(1, exp(log_acceptance))."""
        n_rungs = len(self.betas)
        lower = torch.arange(self.n_iterations % 2, n_rungs - 1, 2, device=self.b.device)
        self.n_iterations += 1
        uniform = self._uniform(self.n_ladders, len(lower)).double()
        accepted = (uniform.log() < log_acceptance[:, lower]).long()
        source = torch.arange(n_rungs, device=self.b.device).repeat(self.n_ladders, 1)
        source[:, lower] += accepted
        source[:, lower + 1] -= accepted
        self.v = self.v.gather(1, source[..., None].expand_as(self.v))
        self.replica = self.replica.gather(1, source)
        self._count_round_trips()

    def _count_round_trips(self) -> None:
        """Count a trip when a replica reaches the hot end after the cold one."""
        hot, cold = self.replica[:, :1], self.replica[:, -1:]
        self.round_trips += (self.last_end.gather(1, hot) == 1).sum(1)
        self.last_end.scatter_(1, hot, -1)
        self.last_end.scatter_(1, cold, 1)
