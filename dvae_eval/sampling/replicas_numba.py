"""Replicas in arrays for the compiled kernels: tables for a dense RBM, or neighbours for any machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..couplings import as_array, is_dense, n_entries
from ..machine import Reduced
from . import kernels
from .mixture import AnyReference, MixtureReference
from .reference import Reference
from .replicas import Replicas, Works
from .schedule import Schedule
from .trajectory import TrajectoryReference

Bits = NDArray[np.uint8]

# Chains per task: enough to share a table while it is in cache.  The states of a sparse machine must fit there,
# too, into this number of bytes.
MAX_CHAINS, MIN_CHAINS, MAX_VALUES = 256, 32, 2**20
MAX_CHAINS_ALONG = 1 << 16  # where every rung has its own tables: no limit in practice
# Rows of a matrix added in one pass.
ROWS = 4 * kernels.PASS
# A field so low that a unit is never on, for padding.
NEVER = -1e4


class Chains(Protocol):
    """Chains of some replicates in the memory layout of one kernel."""

    random: NDArray[np.uint32]

    def temper(self, *arguments: Any) -> None:
        """Run the kernel on n, mode, joint, start, betas, replicates and works, see `kernels.temper_dense`."""

    @property
    def v(self) -> Bits:
        """States of the kept units by replica, shape (n_replicates, n_rungs, n_kept)."""

    @v.setter
    def v(self, v: Bits) -> None: ...


def _round_up(n: Any, unit: int) -> Any:
    return -(-n // unit) * unit


class DenseModel:
    """Couplings of an RBM and their transpose, padded to whole tables."""

    kernel = staticmethod(kernels.temper_dense)

    def __init__(self, reduced: Reduced, reference: Reference) -> None:
        b, c = reference.b, reference.c
        (n, m), self.n_kept = reduced.W.shape, len(b)
        self.width_v, width = _round_up(n, ROWS), _round_up(m, ROWS)
        self.n_streams, self.chains_per_task = max(self.width_v, width), MAX_CHAINS
        self.arrays = kernels.DenseTables(
            *(_filled(as_array(reduced.W), self.width_v), _filled(reduced.c - c), _padded(c, width)),
            *(_filled(as_array(reduced.W).T, width), _filled(reduced.b - b), _padded(b, self.width_v)),
        )

    def chains(self, v: Bits, generators: list[np.random.Generator]) -> Chains:
        """Return replicas at states v (n_replicates, n_rungs, n_kept)."""
        return DenseChains(self, v, generators)

    def tables(self, betas: NDArray[np.float32]) -> kernels.DenseTables:
        """Return the tables for chains at `betas`, which are the same for all."""
        return self.arrays


def _filled(values: Float, *rows: int) -> NDArray[np.float32]:
    """Return a vector, or a matrix with this number of rows, padded with zeros to whole tables."""
    filled = np.zeros((*rows, _round_up(values.shape[-1], kernels.COLUMNS)), np.float32)
    filled[tuple(slice(n) for n in values.shape)] = values
    return filled


def _padded(biases: Float, width: int) -> NDArray[np.float32]:
    """Return biases of independent units, one set per row, padded with units that are never on."""
    rest = [(0, 0)] * (biases.ndim - 1) + [(0, width - biases.shape[-1])]
    return np.ascontiguousarray(np.pad(biases.astype(np.float32), rest, constant_values=NEVER))


class DenseChains:
    """Chains with contiguous units."""

    def __init__(
        self, model: DenseModel | MixtureModel | TrajectoryModel, v: Bits, generators: list[np.random.Generator]
    ) -> None:
        self.model: Any = model
        self.shape = v.shape[:2]
        self.words_v = np.zeros((self.shape[0] * self.shape[1], model.width_v // 4), np.uint32)
        self.bits_v = self.words_v.view(np.uint8)
        self.v = v
        self.random = _streams(generators, model.n_streams)

    @property
    def v(self) -> Bits:
        """States of the kept units by replica."""
        return self.bits_v[:, : self.model.n_kept].reshape(*self.shape, -1)

    @v.setter
    def v(self, v: Bits) -> None:
        self.bits_v[:, : self.model.n_kept] = v.reshape(len(self.bits_v), -1)

    def temper(self, n: int, mode: int, joint: bool, start: int, betas: Any, *rest: Any) -> None:
        """Run the kernel."""
        tables = self.model.tables(betas)
        self.model.kernel(n, mode, joint, start, betas, tables, self.words_v, self.random, *rest)


class MixtureModel:
    """An RBM and the mixture in which its path starts, padded to whole tables; couplings may be sparse."""

    kernel = staticmethod(kernels.temper_mixture)

    def __init__(self, reduced: Reduced, mixture: MixtureReference) -> None:
        (n, m), self.n_kept = reduced.W.shape, len(reduced.b)
        self.width_v, width = _round_up(n, ROWS), _round_up(m, ROWS)
        self.n_streams, self.chains_per_task = max(self.width_v, width), MAX_CHAINS
        # Units that distinguish components come first, so that most components leave a sum early.
        order = np.argsort(-mixture.c.var(0), kind="stable")
        W, c, base = as_array(reduced.W)[:, order], reduced.c[order], mixture.c[:, order]
        own, own_v = (_padded(biases, _round_up(len(biases), kernels.COLUMNS)) for biases in (c, reduced.b))
        d = np.abs(np.pad(base, ((0, 0), (0, width - m)), constant_values=NEVER))
        starts = np.arange(0, width, kernels.SHORT_PRODUCT)
        self.arrays = kernels.MixtureTables(
            *(_filled(W, self.width_v), own, _padded(base, width)),
            *(_filled(W.T, width), own_v, _padded(mixture.b, self.width_v)),
            np.log(mixture.weights) - np.logaddexp(0, mixture.b).sum(1),
            np.cumsum(mixture.weights),
            np.add.reduceat(np.log1p(np.exp(-d)), starts, 1),
            np.logaddexp(0, mixture.c).sum(1),
            _padded(base.mean(0), width),
        )

    def chains(self, v: Bits, generators: list[np.random.Generator]) -> Chains:
        """Return replicas at states v (n_replicates, n_rungs, n_kept)."""
        return DenseChains(self, v, generators)

    def tables(self, betas: NDArray[np.float32]) -> kernels.MixtureTables:
        """Return the tables for chains at `betas`, which are the same for all."""
        return self.arrays


class TrajectoryModel:
    """The RBMs on the rungs of a path along a training, padded to whole tables."""

    kernel = staticmethod(kernels.temper_trajectory)

    def __init__(self, reduced: Reduced, trajectory: TrajectoryReference, betas: NDArray[np.float32]) -> None:
        (n, m), self.n_kept = reduced.W.shape, len(reduced.b)
        self.trajectory = trajectory
        self.width_v, self.width = _round_up(n, ROWS), _round_up(m, ROWS)
        self.n_streams = max(self.width_v, self.width)
        # Tables are made for every rung, so the more chains share them the better.
        self.chains_per_task = MAX_CHAINS_ALONG
        self.bases = _padded(np.zeros(m), self.width), _padded(np.zeros(n), self.width_v)
        self._lock = Lock()
        self._known, self._tables = betas, self._made(betas)

    def chains(self, v: Bits, generators: list[np.random.Generator]) -> Chains:
        """Return replicas at states v (n_replicates, n_rungs, n_kept)."""
        return DenseChains(self, v, generators)

    def tables(self, t: NDArray[np.float32]) -> kernels.TrajectoryTables:
        """Return tables for rungs at t, and the index of each rung's table; the last tables made are reused."""
        with self._lock:
            if not np.isin(t, self._known).all():
                self._known = np.unique(t)
                self._tables = self._made(self._known)
            return self._tables._replace(of_rung=np.searchsorted(self._known, t))

    def _made(self, t: NDArray[np.float32]) -> kernels.TrajectoryTables:
        W, b, c = self.trajectory.at(t)
        return kernels.TrajectoryTables(
            *(_filled_each(W, self.width_v), _filled_rows(c), self.bases[0]),
            *(_filled_each(W.transpose(0, 2, 1), self.width), _filled_rows(b), self.bases[1]),
            _filled_each(np.diff(W, axis=0), self.width_v),
            _filled_rows(np.diff(c, axis=0)),
            _filled_rows(np.diff(b, axis=0)),
            sizes=np.diff(t),
            of_rung=np.arange(len(t)),
        )


def _filled_each(W: Float, n_rows: int) -> NDArray[np.float32]:
    """Return matrices with this number of rows, padded with zeros to whole tables."""
    filled = np.zeros((len(W), n_rows, _round_up(W.shape[2], kernels.COLUMNS)), np.float32)
    filled[:, : W.shape[1], : W.shape[2]] = W
    return filled


def _filled_rows(values: Float) -> NDArray[np.float32]:
    """Return vectors padded with zeros to whole tables."""
    return _filled(values, len(values))


class SparseModel:
    """Neighbours of every unit of a machine; the summed-out units come first."""

    def __init__(self, reduced: Reduced, reference: Reference) -> None:
        b, c = reference.b, reference.c
        n, m = reduced.W.shape
        self.n_kept, self.n_summed = n, m
        self.chains_per_task = min(MAX_CHAINS, max(MIN_CHAINS, MAX_VALUES // (n + m)))
        own = np.concatenate((reduced.c - c, reduced.b - b)).astype(np.float32)
        base = np.concatenate((c, b)).astype(np.float32)
        # Two lists per unit: its kept neighbours with smaller index, and all other neighbours.
        unit, neighbour, coupling = _both_ways(reduced)
        is_other = (neighbour < m) | (neighbour > unit)
        place = 2 * unit + is_other
        order = np.lexsort((neighbour, place))
        lengths = np.bincount(place, minlength=2 * (n + m))
        ends = np.concatenate(([0], np.cumsum(_round_up(lengths, 4))))
        starts, middles = ends[::2].copy(), ends[1::2].copy()
        # Each list is padded to a multiple of 4 with couplings of 0 to unit 0.
        where = np.arange(len(order)) + np.repeat(ends[:-1] - np.cumsum(lengths) + lengths, lengths)
        indices, couplings = np.zeros(ends[-1], np.uint64), np.zeros(ends[-1], np.float32)
        indices[where], couplings[where] = neighbour[order], coupling[order]
        self.graph = kernels.Neighbours(m, own, base, starts, middles, indices, couplings)

    def chains(self, v: Bits, generators: list[np.random.Generator]) -> Chains:
        """Return replicas at states v (n_replicates, n_rungs, n_kept)."""
        return SparseChains(self, v, generators)


def _both_ways(reduced: Reduced) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return units, neighbours and couplings of all bonds, each from both ends; summed-out units come first."""
    bonds, values = reduced.bonds()
    couplings = values.astype(np.float32)
    bonds, couplings = bonds[couplings != 0], couplings[couplings != 0]
    n_kept, n_summed = reduced.W.shape
    number = np.concatenate((n_summed + np.arange(n_kept), np.arange(n_summed)))
    i, j = number[bonds].T
    return np.concatenate((i, j)), np.concatenate((j, i)), np.concatenate((couplings, couplings))


class SparseChains:
    """Chains of a sparse machine: a unit's chains are contiguous."""

    def __init__(self, model: SparseModel, v: Bits, generators: list[np.random.Generator]) -> None:
        self.model, self.shape = model, v.shape[:2]
        self.n_chains = v.shape[0] * v.shape[1]
        n_lanes = _round_up(self.n_chains, 16)
        self.states = np.zeros((model.n_summed + model.n_kept, n_lanes), np.uint8)
        self.lanes = np.zeros((4, n_lanes), np.uint32)
        self.v = v
        self.random = _streams(generators, v.shape[1])

    @property
    def v(self) -> Bits:
        """States of the kept units by replica."""
        kept = self.states[self.model.n_summed :, : self.n_chains]
        return np.ascontiguousarray(kept.T).reshape(*self.shape, -1)

    @v.setter
    def v(self, v: Bits) -> None:
        self.states[self.model.n_summed :, : self.n_chains] = v.reshape(self.n_chains, -1).T

    @property
    def random(self) -> NDArray[np.uint32]:
        """Generators, shape (n_replicates, 4, n_rungs)."""
        streams = self.lanes[:, : self.n_chains].reshape(4, *self.shape)
        return np.ascontiguousarray(streams.transpose(1, 0, 2))

    @random.setter
    def random(self, random: NDArray[np.uint32]) -> None:
        self.lanes[:, : self.n_chains] = random.transpose(1, 0, 2).reshape(4, -1)

    def temper(self, n: int, mode: int, joint: bool, start: int, betas: Any, *rest: Any) -> None:
        """Run the kernel."""
        kernels.temper_sparse(n, mode, joint, start, betas, self.model.graph, self.states, self.lanes, *rest)


def _streams(generators: list[np.random.Generator], n: int) -> NDArray[np.uint32]:
    """Return the states of n xoshiro128++ generators per replicate, shape (n_replicates, 4, n)."""
    return np.stack([g.integers(0, 2**32, (4, n), np.uint32) for g in generators])


class CompiledReplicas(Replicas):
    """Replicas run by compiled kernels, a few replicates per task, each with its own random numbers.

    Parameters
    ----------
    reduced : Reduced
    reference : Reference, MixtureReference or TrajectoryReference
        With the last two, the machine must have no couplings between kept units.
    schedule : Schedule
    v : uint8, shape (n_replicates, n_rungs, n_kept)
    seed, round : int
    exchange : {"even-odd", "random"}
    joint : bool
    threads : int
    """

    engine: ClassVar[Literal["numba", "torch"]] = "numba"

    def __init__(
        self,
        reduced: Reduced,
        reference: AnyReference,
        schedule: Schedule,
        v: Bits,
        seed: int,
        round: int,
        exchange: str,
        joint: bool,
        threads: int,
    ) -> None:
        self.schedule, self.betas = schedule, schedule.betas.astype(np.float32)
        self.joint, self.threads = joint, threads
        self.mode = {"even-odd": kernels.EVEN_ODD, "random": kernels.RANDOM}[exchange]
        n_replicates, n_rungs, _ = v.shape
        self.rungs = np.tile(np.arange(n_rungs), (n_replicates, 1))
        self.last_end = np.zeros((n_replicates, n_rungs), np.int64)
        self.trips = np.zeros(n_replicates, np.int64)
        generators = [numpy_generator(seed, "tempering", round, replicate) for replicate in range(n_replicates)]
        self.coins = np.array([g.integers(0, 2**64, dtype=np.uint64) for g in generators])
        self.n_iterations = 0
        model = _model(reduced, reference, self.betas)
        self.tasks = _tasks(n_replicates, n_replicates * n_rungs / model.chains_per_task, threads)
        self.chains = [model.chains(v[task], generators[task]) for task in self.tasks]

    @property
    def v(self) -> Bits:
        """States of the kept units by rung."""
        v = np.concatenate([chains.v for chains in self.chains])
        return np.take_along_axis(v, np.argsort(self.rungs)[..., None], 1)

    def sweep(self, betas: Float, n: int) -> None:
        """Sweep every chain n times at `betas` (n_rungs,), without works or exchanges."""
        self._temper(n, kernels.GIBBS_ONLY, betas.astype(np.float32))

    def run(self, n: int) -> Works:
        """Run n iterations, and return the works of each."""
        forward, reverse, energies = self._temper(n, self.mode, self.betas)
        self.n_iterations += n
        return Works(forward[..., :-1], reverse[..., :-1], energies)

    def _temper(self, n: int, mode: int, betas: NDArray[np.float32]) -> Float:
        """Run the kernel on all tasks, and return its works, shape (3, n, n_replicates, n_rungs)."""

        def temper(chains: Chains, task: slice) -> Float:
            n_found = 0 if mode == kernels.GIBBS_ONLY else n
            works = np.zeros((3, n_found, task.stop - task.start, len(betas)))
            state = (self.coins, self.rungs, self.last_end, self.trips)
            replicates = kernels.Replicates(*(part[task] for part in state))
            chains.temper(n, mode, self.joint, self.n_iterations, betas, replicates, works)
            return works

        if self.threads == 1 or len(self.tasks) == 1:
            return np.concatenate([temper(*pair) for pair in zip(self.chains, self.tasks, strict=True)], 2)
        with ThreadPoolExecutor(self.threads) as pool:
            return np.concatenate(list(pool.map(temper, self.chains, self.tasks)), 2)

    @property
    def round_trips(self) -> NDArray[np.int64]:
        """Number of trips of replicas from the cold end to the hot one, shape (n_replicates,)."""
        return self.trips

    @property
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """The end last visited by the replica on a rung: +1 cold, -1 hot, 0 neither; (n_replicates, n_rungs)."""
        ends = np.empty_like(self.last_end)
        np.put_along_axis(ends, self.rungs, self.last_end, axis=1)
        return ends

    @property
    def replica_of_rung(self) -> NDArray[np.int64]:
        """Index of the replica on each rung, shape (n_replicates, n_rungs)."""
        return np.argsort(self.rungs)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue."""
        return {
            "replica_v": np.concatenate([chains.v for chains in self.chains]),
            "random": np.concatenate([chains.random for chains in self.chains]),
            "coins": self.coins.copy(),
            "rungs": self.rungs.copy(),
            "last_end": self.last_end.copy(),
            "round_trips": self.trips.copy(),
            "n_iterations": np.array(self.n_iterations),
        }

    def _load(self, state: Mapping[str, NDArray[Any]]) -> None:
        for chains, task in zip(self.chains, self.tasks, strict=True):
            chains.v, chains.random = state["replica_v"][task], state["random"][task].copy()
        for own, name in ((self.coins, "coins"), (self.rungs, "rungs"), (self.last_end, "last_end")):
            own[...] = state[name]
        self.trips[...] = state["round_trips"]
        self.n_iterations = int(state["n_iterations"])


def _model(
    reduced: Reduced, reference: AnyReference, betas: NDArray[np.float32]
) -> DenseModel | MixtureModel | SparseModel | TrajectoryModel:
    """Return the couplings in the layout that suits them."""
    if isinstance(reference, TrajectoryReference):
        return TrajectoryModel(reduced, reference, betas)
    if isinstance(reference, MixtureReference):
        return MixtureModel(reduced, reference)
    coupled = reduced.J is not None and n_entries(reduced.J)
    dense = not coupled and is_dense(reduced.W)
    return (DenseModel if dense else SparseModel)(reduced, reference)


def _tasks(n_replicates: int, n_tasks: float, threads: int) -> list[slice]:
    """Return nearly equal shares of the replicates, a multiple of `threads` of them."""
    n = min(n_replicates, _round_up(math.ceil(n_tasks), threads))
    return [slice(n_replicates * i // n, n_replicates * (i + 1) // n) for i in range(n)]
