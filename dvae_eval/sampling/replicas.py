"""Parallel tempering of a Boltzmann machine: many independent replicates at once, an independent set summed out.

On the way from a reference of independent units (β = 0) to the machine (β = 1),

    p_β(v, h) ∝ exp(β (v'Wh + v'Jv / 2 + b'v + c'h) + (1 - β) (b0'v + c0'h)),

with v the kept units (the smaller side of an RBM, else all but one class of a graph colouring) and h the others,
whose field is x_j(β) = β ((v'W)_j + c_j) + (1 - β) c0_j.  The reduced potential of v alone is

    u_β(v) = -β (v'Jv / 2 + b'v) - (1 - β) b0'v - Σ_j softplus(x_j(β)).

One iteration is a block Gibbs sweep of every chain under its own p_β (h given v, then v given h), the works, then
exchanges between neighbours: even and odd pairs in turn (non-reversible exchange: Okabe et al., 2001; Syed et al.,
2022), or whichever a coin says.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import ConfigError
from dvae_core.rng import numpy_generator

from ..machine import Machine
from .reference import Reference
from .schedule import Schedule

__all__ = ["Replicas", "Works", "make_replicas"]

Float = NDArray[np.float64]
Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Works:
    """The differences of reduced potentials that exchanges and bridge estimators need, in nats.

    Attributes
    ----------
    forward : float64, shape (n_iterations, n_replicates, K)
        u_{k+1}(v_k) - u_k(v_k), for samples v_k of rung k.
    reverse : float64, shape (n_iterations, n_replicates, K)
        u_k(v_{k+1}) - u_{k+1}(v_{k+1}), for samples of rung k + 1.
    energies : float64, shape (n_iterations, n_replicates, K + 1)
        -d u_β / dβ of every rung's sample at its own β, whose mean is d log Z / dβ.
    """

    forward: Float
    reverse: Float
    energies: Float

    @property
    def exchange_rates(self) -> Float:
        """Mean acceptance of an exchange, min(1, exp(-w_f - w_r)), of every pair, shape (K,)."""
        acceptance: Float = np.exp(np.minimum(0, -self.forward - self.reverse)).mean((0, 1))
        return acceptance

    def after(self, start: int) -> Works:
        """Return what came at and after iteration `start`."""
        return Works(self.forward[start:], self.reverse[start:], self.energies[start:])


class Replicas(ABC):
    """Replicas of a Boltzmann machine on a schedule, in independent replicates.

    Attributes
    ----------
    engine : {"numba", "torch"}
        What runs them.
    schedule : Schedule
        Shared by all replicates.
    n_iterations : int
        Iterations so far.
    """

    engine: ClassVar[Literal["numba", "torch"]]
    schedule: Schedule
    n_iterations: int

    @property
    @abstractmethod
    def v(self) -> Bits:
        """States of the kept units, rung by rung, shape (n_replicates, n_rungs, n_kept)."""

    @property
    @abstractmethod
    def round_trips(self) -> NDArray[np.int64]:
        """How often a replica came from the cold end to the hot one, shape (n_replicates,)."""

    @property
    @abstractmethod
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """Which end the replica on a rung saw last: +1 cold, -1 hot, 0 neither; shape (n_replicates, n_rungs)."""

    @abstractmethod
    def sweep(self, betas: Float, n: int) -> None:
        """Sweep every chain n times at `betas` (n_rungs,), without works or exchanges."""

    @abstractmethod
    def run(self, n: int) -> Works:
        """Run n iterations, and return the works of each; a long run comes in chunks, and memory stays flat."""

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return everything that an exact continuation needs, as plain arrays."""

    @abstractmethod
    def _load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state whose shapes are right."""

    def anneal(self, n_sweeps: int) -> None:
        """Bring every chain from β = 0 to its own temperature, `n_sweeps` sweeps on each rung on its way."""
        for beta in self.schedule.betas:
            self.sweep(np.minimum(self.schedule.betas, beta), n_sweeps)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue exactly from what `state_dict` returned for the same arguments.

        Raises
        ------
        ConfigError
            If the state was saved with other arguments, or where numba could be imported and here it cannot.
        """
        own = self.state_dict()
        if {k: a.shape for k, a in own.items()} != {k: np.shape(a) for k, a in state.items()}:
            raise ConfigError("the saved state of tempering is another run's; start afresh")
        self._load(state)


def make_replicas(
    machine: Machine,
    schedule: Schedule,
    n_replicates: int,
    seed: int,
    round: int,
    device: str = "cpu",
    *,
    reference: Reference | None = None,
    v: Bits | None = None,
    exchange: Literal["even-odd", "random"] = "even-odd",
    energies: Literal["reduced", "joint"] = "reduced",
    threads: int = 1,
) -> Replicas:
    """Return replicas of a machine, run by compiled kernels or by torch.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The smaller side is kept, the larger one is summed out; of a general machine, a class of its colouring.
    schedule : Schedule
        Shared by all replicates.
    n_replicates : int
        Independent copies, each with its own random numbers.
    seed, round : int
        Fix all random numbers; every round of an estimate has its own.
    device : str
        "cpu" runs compiled kernels, or torch where numba cannot be imported; any other is torch's.
    reference : Reference, optional
        The distribution at β = 0; uniform by default.
    v : uint8, shape (n_replicates, n_rungs, n_kept), optional
        First states of the kept units; by default drawn from the reference.
    exchange : {"even-odd", "random"}
        Even and odd pairs in turn, or as a coin says, each replicate its own.
    energies : {"reduced", "joint"}
        Whether works and energies are those of v alone, or of (v, h), with h what v was drawn from.
    threads : int
        How many threads share the replicates on a CPU; results do not depend on it.

    Raises
    ------
    ConfigError
        If `v` has another shape.
    """
    reduced, reference = machine.reduced(), reference or Reference.uniform(machine)
    shape = (n_replicates, len(schedule.betas), len(reduced.b))
    if v is None:
        v = _drawn(reference, shape, seed, round)
    if v.shape != shape:
        raise ConfigError(f"first states have shape {v.shape}; give (n_replicates, n_rungs, n_kept) = {shape}")
    model = (reduced, reference, schedule, v, seed, round, exchange, energies == "joint")
    if torch.device(device).type == "cpu" and has_numba():
        from .replicas_numba import CompiledReplicas

        return CompiledReplicas(*model, threads)
    from .replicas_torch import TorchReplicas

    return TorchReplicas(*model, device)


def has_numba() -> bool:
    """Return whether the compiled kernels can be had; if not, say so once."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"parallel tempering runs in torch, several times as slow as compiled: {error}; install numba",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def _drawn(reference: Reference, shape: tuple[int, int, int], seed: int, round: int) -> NDArray[np.uint8]:
    """Return kept units drawn from the reference, every replicate with its own random numbers."""
    p = np.exp(-np.logaddexp(0, -reference.b))
    draws = [numpy_generator(seed, "tempering", round, k, 0).random(shape[1:]) < p for k in range(shape[0])]
    return np.array(draws, np.uint8)
