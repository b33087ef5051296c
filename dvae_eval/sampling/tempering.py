"""Parallel tempering of a machine with the available library: compiled kernels on a CPU, else torch."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import ConfigError
from dvae_core.rng import numpy_generator

from ..machine import Machine
from .mixture import AnyReference, MixtureReference
from .reference import Reference
from .replicas import Replicas
from .replicas_torch import MixtureTorchReplicas, TorchReplicas, TrajectoryTorchReplicas
from .schedule import Schedule
from .trajectory import TrajectoryReference

Bits = NDArray[np.uint8]


def make_replicas(
    machine: Machine,
    schedule: Schedule,
    n_replicates: int,
    seed: int,
    round: int,
    device: str = "cpu",
    *,
    reference: AnyReference | None = None,
    v: Bits | None = None,
    exchange: Literal["even-odd", "random"] = "even-odd",
    energies: Literal["reduced", "joint"] = "reduced",
    threads: int = 1,
) -> Replicas:
    """Return replicas of a machine, run by compiled kernels or by torch.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The smaller side is kept and the larger one summed out; in a general machine, a class of its colouring.
    schedule : Schedule
        Shared by all replicates.
    n_replicates : int
        Independent copies, each with its own random numbers.
    seed, round : int
        Determine all random numbers; every round of an estimate has its own.
    device : str
        "cpu" uses compiled kernels, or torch if numba cannot be imported; other devices use torch.
    reference : Reference, MixtureReference or TrajectoryReference, optional
        The distribution at β = 0; uniform by default.  On a path from a mixture or along a training, works and
        energies are always those of v.
    v : uint8, shape (n_replicates, n_rungs, n_kept), optional
        First states of the kept units; by default drawn from the reference.
    exchange : {"even-odd", "random"}
        Even and odd pairs in turn, or even or odd pairs at random, independently in each replicate.
    energies : {"reduced", "joint"}
        Whether works and energies are those of v alone, or of (v, h) with the h from which v was drawn.
    threads : int
        Number of threads that share the replicates on a CPU; results do not depend on it.

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
        raise ConfigError(f"first states have shape {v.shape}; use (n_replicates, n_rungs, n_kept) = {shape}")
    settings = (schedule, v, seed, round, exchange, energies == "joint")
    has_pairs = isinstance(reference, MixtureReference) and reduced.J is not None
    if torch.device(device).type == "cpu" and not has_pairs and has_numba():
        from .replicas_numba import CompiledReplicas

        return CompiledReplicas(reduced, reference, *settings, threads)
    if isinstance(reference, TrajectoryReference):
        return TrajectoryTorchReplicas(reduced, reference, *settings, device)
    if isinstance(reference, MixtureReference):
        return MixtureTorchReplicas(reduced, reference, *settings, device)
    return TorchReplicas(reduced, reference, *settings, device)


def has_numba() -> bool:
    """Return whether the compiled kernels are available; if not, warn once."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"parallel tempering runs in torch, which is several times slower than numba: {error}; install numba",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def _drawn(reference: AnyReference, shape: tuple[int, int, int], seed: int, round: int) -> NDArray[np.uint8]:
    """Return kept units drawn from the reference, every replicate with its own random numbers."""
    generators = [numpy_generator(seed, "tempering", round, k, 0) for k in range(shape[0])]
    return np.array([reference.draw(rng, shape[1]) for rng in generators], np.uint8)
