"""Persistent Markov chains for the negative phase (Eq. 11): block Gibbs, or parallel tempering (Section 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..config import TrainConfig
from ..model.prior import Prior

SWEEPS_BETWEEN_EXCHANGES = 2


class PersistentChains:
    """Persistent Markov chains on a schedule of inverse temperatures from 0 to 1.

    Plain persistent block Gibbs is the schedule with the single rung β = 1.  With several rungs, neighbouring
    rungs exchange their states (Swendsen & Wang, 1986), even and odd pairs in turn, so that states that reach β =
    1 have visited β = 0.

    Parameters
    ----------
    prior : Prior
        The distribution that the chains sample; training changes it between calls of `advance`.
    config : TrainConfig
        Sampler, and numbers of chains, sweeps and rungs.
    generator : torch.Generator
        Source of the initial states.

    Attributes
    ----------
    z : float, shape (n_rungs, n_chains, n_units)
        The states; β increases along the first axis.
    """

    def __init__(self, prior: Prior, config: TrainConfig, generator: torch.Generator) -> None:
        n_rungs = _n_rungs(config)
        self.n_sweeps = config.n_sweeps
        self.z = prior.initial_state(n_rungs * config.n_chains, generator).view(n_rungs, config.n_chains, -1)
        self.betas = _betas(n_rungs, self.z)
        self.n_exchanges = 0

    def adapt(self, config: TrainConfig) -> None:
        """Continue with other settings: each rung takes the states of the nearest one; new chains copy others.

        Copies diverge within a few sweeps, since each chain has its own random numbers.
        """
        n_rungs, n_before = _n_rungs(config), len(self.z)
        # Counted down from β = 1, which is the only rung of plain Gibbs.
        steps_down = torch.arange(n_rungs) * (n_before - 1) / max(1, n_rungs - 1)
        rungs = (n_before - 1 - steps_down.round().long()).flip(0)
        chains = torch.arange(config.n_chains) % self.z.shape[1]
        self.z = self.z[rungs.to(self.z.device)][:, chains.to(self.z.device)]
        self.n_sweeps, self.betas = config.n_sweeps, _betas(n_rungs, self.z)

    @property
    def negative_samples(self) -> Tensor:
        """The states at β = 1, shape (n_chains, n_units)."""
        return self.z[-1]

    def advance(self, prior: Prior, generator: torch.Generator) -> None:
        """Take the sweeps of one training step, with exchanges between them; the last move is a sweep."""
        if len(self.z) == 1:
            self._sweep(prior, self.n_sweeps, generator)
            return
        for start in range(0, self.n_sweeps, SWEEPS_BETWEEN_EXCHANGES):
            self._exchange(prior, generator)
            self._sweep(prior, min(SWEEPS_BETWEEN_EXCHANGES, self.n_sweeps - start), generator)

    def metrics(self, prior: Prior) -> dict[str, float]:
        """Return the lowest exchange rate of neighbouring rungs; an empty dict for a single rung."""
        if len(self.z) == 1:
            return {}
        rates = self._log_acceptance(prior, slice(None, -1), slice(1, None)).clamp(max=0).exp().mean(-1)
        return {"lowest_exchange_rate": float(rates.min())}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that `load_state_dict` restores: tensors and plain values."""
        return {"z": self.z, "n_exchanges": self.n_exchanges}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.z, self.n_exchanges = state["z"].to(self.z), state["n_exchanges"]

    def _sweep(self, prior: Prior, n_sweeps: int, generator: torch.Generator) -> None:
        """Sweep every chain at its own β."""
        betas = self.betas.repeat_interleave(self.z.shape[1])[:, None] if len(self.z) > 1 else 1.0
        self.z = prior.gibbs(self.z.flatten(0, 1), n_sweeps, generator, betas).view_as(self.z)

    @torch.no_grad()
    def _exchange(self, prior: Prior, generator: torch.Generator) -> None:
        """Exchange the states of every other pair of neighbours.

        Only the kept units decide; the others are exchanged with them, and the next sweep draws them first.
        """
        lower, upper = slice(self.n_exchanges % 2, -1, 2), slice(self.n_exchanges % 2 + 1, None, 2)
        log_acceptance = self._log_acceptance(prior, lower, upper)
        uniform = torch.rand(log_acceptance.shape, generator=generator, device=self.z.device)
        accepted = (uniform.log() < log_acceptance)[..., None]
        cold, hot = self.z[upper], self.z[lower]
        z = self.z.clone()
        z[lower], z[upper] = torch.where(accepted, cold, hot), torch.where(accepted, hot, cold)
        self.z = z
        self.n_exchanges += 1

    @torch.no_grad()
    def _log_acceptance(self, prior: Prior, lower: slice, upper: slice) -> Tensor:
        """Return F_l(z_l) + F_u(z_u) - F_l(z_u) - F_u(z_l) of pairs of rungs, shape (n_pairs, n_chains).

        F_β is not β times a fixed energy, so the usual (β_u - β_l)(E_u - E_l) would be wrong here.
        """
        (z_l, z_u), (beta_l, beta_u) = ((x[lower], x[upper]) for x in (self.z, self.betas[:, None, None]))
        own = prior.free_energy(z_l, beta_l) + prior.free_energy(z_u, beta_u)
        return own - prior.free_energy(z_u, beta_l) - prior.free_energy(z_l, beta_u)


def _n_rungs(config: TrainConfig) -> int:
    """Return the number of inverse temperatures."""
    return config.n_rungs if config.sampler == "tempering" else 1


def _betas(n_rungs: int, like: Tensor) -> Tensor:
    """Return the schedule, shape (n_rungs,), on the device of `like`."""
    return torch.linspace(0, 1, n_rungs).to(like) if n_rungs > 1 else like.new_ones(1)
