"""Parallel tempering of a Boltzmann machine: many independent ladders at once, an independent set summed out.

On the way from a base of independent units (β = 0) to the machine (β = 1),

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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import ConfigError
from dvae_core.rng import numpy_generator

from ..machine import Machine
from .reference import Base
from .schedule import Ladder

if TYPE_CHECKING:
    from .replicas_numba import CompiledReplicas
    from .replicas_torch import TorchReplicas

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
    energies : float64, shape (n_iterations, n_ladders, K + 1)
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


class Tempering:
    """Replicas of a Boltzmann machine on a ladder, in `n_ladders` independent copies.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The smaller side is kept, the larger one is summed out; of a general machine, a class of its colouring.
    ladder : Ladder
        Shared by all copies.
    n_ladders : int
        Independent copies, each with its own random numbers.
    seed, round : int
        Fix all random numbers; every round of an estimate has its own.
    device : str
        "cpu" runs compiled kernels, or torch where numba cannot be imported; any other is torch's.
    base : Base, optional
        What the ladder starts from; by default the uniform distribution.
    v : uint8, shape (n_ladders, n_rungs, n_kept), optional
        First states of the kept units; by default drawn from the base.
    exchange : {"even-odd", "random"}
        Even and odd pairs in turn, or as a coin says, each ladder its own.
    energies : {"reduced", "joint"}
        Whether works and energies are those of v alone, or of (v, h), with h what v was drawn from.
    threads : int
        How many threads share the ladders on a CPU; results do not depend on it.

    Attributes
    ----------
    engine : {"numba", "torch"}
        What runs it.
    v : uint8, shape (n_ladders, n_rungs, n_kept)
        States of the kept units, rung by rung.
    round_trips : int64, shape (n_ladders,)
        How often a replica came from the cold end to the hot one.
    n_iterations : int
        Iterations so far.
    """

    def __init__(
        self,
        machine: Machine,
        ladder: Ladder,
        n_ladders: int,
        seed: int,
        round: int,
        device: str = "cpu",
        *,
        base: Base | None = None,
        v: NDArray[np.uint8] | None = None,
        exchange: Literal["even-odd", "random"] = "even-odd",
        energies: Literal["reduced", "joint"] = "reduced",
        threads: int = 1,
    ) -> None:
        self.ladder, self.n_ladders, reduced = ladder, n_ladders, machine.reduced()
        base = base or Base.uniform(machine)
        shape = (n_ladders, len(ladder.betas), len(reduced.b))
        if v is None:
            v = _drawn(base, shape, seed, round)
        if v.shape != shape:
            raise ConfigError(f"first states have shape {v.shape}; give (n_ladders, n_rungs, n_kept) = {shape}")
        model = (reduced, base, ladder.betas, v, seed, round, exchange, energies == "joint")
        self.replicas: CompiledReplicas | TorchReplicas
        if torch.device(device).type == "cpu" and has_numba():
            from .replicas_numba import CompiledReplicas

            self.engine, self.replicas = "numba", CompiledReplicas(*model, threads)
        else:
            from .replicas_torch import TorchReplicas

            self.engine, self.replicas = "torch", TorchReplicas(*model, device)

    @property
    def v(self) -> NDArray[np.uint8]:
        """States of the kept units, rung by rung, shape (n_ladders, n_rungs, n_kept)."""
        return self.replicas.v

    @property
    def round_trips(self) -> NDArray[np.int64]:
        """How often a replica came from the cold end to the hot one, shape (n_ladders,)."""
        return self.replicas.round_trips

    @property
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """Which end the replica on a rung saw last: +1 cold, -1 hot, 0 neither; shape (n_ladders, n_rungs)."""
        return self.replicas.last_end_of_rung

    @property
    def n_iterations(self) -> int:
        """Iterations so far."""
        return self.replicas.n_iterations

    def anneal(self, n_sweeps: int) -> None:
        """Bring every chain from β = 0 to its own temperature, `n_sweeps` sweeps on each rung on its way."""
        for beta in self.ladder.betas:
            self.replicas.sweep(np.minimum(self.ladder.betas, beta), n_sweeps)

    def run(self, n_iterations: int) -> Works:
        """Run, and return the works of every iteration; a long run comes in pieces, and memory stays flat."""
        return Works(*self.replicas.run(n_iterations))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return everything that an exact continuation needs, as plain arrays."""
        return self.replicas.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on exactly from what `state_dict` returned for the same arguments.

        Raises
        ------
        ConfigError
            If the state was saved with other arguments, or where numba could be imported and here it cannot.
        """
        own = self.replicas.state_dict()
        if {k: a.shape for k, a in own.items()} != {k: np.shape(a) for k, a in state.items()}:
            raise ConfigError("the saved state of tempering is another run's; start afresh")
        self.replicas.load_state_dict(state)


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


def _drawn(base: Base, shape: tuple[int, int, int], seed: int, round: int) -> NDArray[np.uint8]:
    """Return kept units drawn from the base, every ladder with its own random numbers."""
    p = np.exp(-np.logaddexp(0, -base.b))
    draws = [numpy_generator(seed, "tempering", round, k, 0).random(shape[1:]) < p for k in range(shape[0])]
    return np.array(draws, np.uint8)
