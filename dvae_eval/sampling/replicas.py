"""Parallel tempering of a Boltzmann machine, many independent replicates at once, an independent set summed out.

The path p_β(v, h) from a reference (β = 0) to the machine (β = 1) is that of `reference`, with v the kept units
(the smaller side of an RBM, else all but one class of a graph colouring) and h the others.  The reduced potential
of v alone is u_β(v) = -log p~_β(v), with h summed out.

One iteration is a block Gibbs sweep of every chain at its own β (h given v, then v given h), the works, then
exchanges between neighbours: even and odd pairs in turn (non-reversible exchange: Okabe et al., 2001; Syed et al.,
2022), or even or odd pairs at random.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import ConfigError
from dvae_core.types import Float

from .schedule import Schedule

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Works:
    """Differences of reduced potentials for exchanges and bridge estimators, in nats.

    Attributes
    ----------
    forward : float64, shape (n_iterations, n_replicates, K)
        u_{k+1}(v_k) - u_k(v_k), for samples v_k of rung k.
    reverse : float64, shape (n_iterations, n_replicates, K)
        u_k(v_{k+1}) - u_{k+1}(v_{k+1}), for samples of rung k + 1.
    energies : float64, shape (n_iterations, n_replicates, K + 1)
        -d u_β / dβ of every rung's sample at its own β, with mean d log Z / dβ.
    """

    forward: Float
    reverse: Float
    energies: Float

    @property
    def exchange_rates(self) -> Float:
        """Mean acceptance probability min(1, exp(-w_f - w_r)) of an exchange, for every pair, shape (K,)."""
        acceptance: Float = np.exp(np.minimum(0, -self.forward - self.reverse)).mean((0, 1))
        return acceptance

    @staticmethod
    def joined(parts: Sequence[Works]) -> Works:
        """Return the works of consecutive runs as those of a single run."""
        if len(parts) == 1:
            return parts[0]
        return Works(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Works)))

    def after(self, start: int) -> Works:
        """Return the works from iteration `start` on."""
        return Works(self.forward[start:], self.reverse[start:], self.energies[start:])


class Replicas(ABC):
    """Replicas of a Boltzmann machine on a schedule, in independent replicates.

    Attributes
    ----------
    engine : {"numba", "torch"}
        The library that runs them.
    schedule : Schedule
        Shared by all replicates.
    n_iterations : int
        Number of iterations so far.
    """

    engine: ClassVar[Literal["numba", "torch"]]
    schedule: Schedule
    n_iterations: int

    @property
    @abstractmethod
    def v(self) -> Bits:
        """States of the kept units by rung, shape (n_replicates, n_rungs, n_kept)."""

    @property
    @abstractmethod
    def round_trips(self) -> NDArray[np.int64]:
        """Number of trips of replicas from the cold end to the hot one, shape (n_replicates,)."""

    @property
    @abstractmethod
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """The end last visited by the replica on a rung: +1 cold, -1 hot, 0 neither; (n_replicates, n_rungs)."""

    @property
    @abstractmethod
    def replica_of_rung(self) -> NDArray[np.int64]:
        """Index of the replica on each rung, shape (n_replicates, n_rungs)."""

    @abstractmethod
    def sweep(self, betas: Float, n: int) -> None:
        """Sweep every chain n times at `betas` (n_rungs,), without works or exchanges."""

    @abstractmethod
    def run(self, n: int) -> Works:
        """Run n iterations, and return the works of each; split a long run into calls to bound the memory."""

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue exactly, as plain arrays."""

    @abstractmethod
    def _load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state whose shapes match."""

    def anneal(self, n_sweeps: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Anneal every chain from β = 0 to its own β, with `n_sweeps` sweeps on each rung on its way.

        When the time is up, the remaining rungs are skipped.
        """
        for beta in self.schedule.betas:
            if is_over():
                break
            self.sweep(np.minimum(self.schedule.betas, beta), n_sweeps)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from the result of `state_dict` for the same arguments.

        Raises
        ------
        ConfigError
            If the state was saved with other arguments, or with numba where this process lacks it (or reversed).
        """
        own = self.state_dict()
        if {k: a.shape for k, a in own.items()} != {k: np.shape(a) for k, a in state.items()}:
            raise ConfigError(
                "the saved state of tempering belongs to another run; start again without the saved state"
            )
        self._load(state)
