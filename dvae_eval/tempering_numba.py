"""Replicas in arrays that the compiled kernels work on: tables of a dense RBM, or neighbours of any machine."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvae_core.rng import numpy_generator

from . import kernels
from .machine import Reduced

__all__ = ["CompiledReplicas"]

Float = NDArray[np.float64]
Bits = NDArray[np.uint8]

# An RBM with fewer couplings than this share of all pairs is swept neighbour by neighbour.
DENSE_FILL = 0.2
# Chains in one task: enough to use a table while it is in cache, few enough for their fields to be there too.
CHAINS_PER_TASK = 128
# Units in one block of a table.
BLOCK_UNITS = 128
# A field that no state has: units that only fill up a row are never on.
NEVER = -1e4


class Replicas(Protocol):
    """The chains of some ladders in the layout of one kernel."""

    random: NDArray[np.uint32]

    def temper(self, *arguments: Any) -> tuple[Float, Float, Float]:
        """Run the kernel, see `kernels.temper_dense`."""

    @property
    def v(self) -> Bits:
        """States of the kept units, replica by replica, shape (n_ladders, n_rungs, n_kept)."""

    @v.setter
    def v(self, v: Bits) -> None: ...


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


class DenseModel:
    """Tables of partial sums of an RBM's fields, both ways."""

    def __init__(self, reduced: Reduced, b: Float, c: Float) -> None:
        n, m = reduced.W.shape
        self.n_kept, (self.width_v, self.width) = n, (_units(n)[1], _units(m)[1])
        self.tables = _tables(reduced.W, reduced.c - c)
        self.tables_v = _tables(reduced.W.T, reduced.b - b)
        self.base, self.base_v = _padded(c, self.width), _padded(b, self.width_v)
        self.weights = np.zeros(self.width_v)
        self.weights[:n] = reduced.b - b
        self.n_streams = max(self.width, self.width_v)

    def replicas(self, v: Bits, generators: list[np.random.Generator]) -> Replicas:
        """Return replicas at states v (n_ladders, n_rungs, n_kept)."""
        return DenseReplicas(self, v, generators)


def _units(n: int) -> tuple[int, int]:
    """Return the number of blocks of a row of n units, and the row's length: whole blocks of whole vectors."""
    n_blocks = -(-n // BLOCK_UNITS)
    return n_blocks, n_blocks * _round_up(-(-n // n_blocks), 16)


def _padded(base: Float, width: int) -> NDArray[np.float32]:
    row = np.full(width, NEVER, np.float32)
    row[: len(base)] = base
    return row


def _tables(W: Float, biases: Float) -> NDArray[np.float32]:
    """Return the sums of every four rows of W, (n_blocks, n_groups, 16, block), the first of them with biases."""
    n_from, n_to = W.shape
    n_blocks, width = _units(n_to)
    rows = np.zeros((_units(n_from)[1], width))
    rows[:n_from, :n_to] = W
    tables = np.zeros((len(rows) // 4, 16, width))
    tables[0, :, :n_to] = biases
    for bit in range(4):
        tables[:, np.arange(16) >> bit & 1 == 1] += rows[bit::4, None]
    blocks = tables.reshape(len(tables), 16, n_blocks, -1).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(blocks, np.float32)


class DenseReplicas:
    """Chains with contiguous units."""

    def __init__(self, model: DenseModel, v: Bits, generators: list[np.random.Generator]) -> None:
        self.model, self.shape = model, v.shape[:2]
        self.words_v = np.zeros((self.shape[0] * self.shape[1], model.width_v // 4), np.uint32)
        self.bits_v = self.words_v.view(np.uint8)
        self.v = v
        self.random = _streams(generators, model.n_streams)

    @property
    def v(self) -> Bits:
        """States of the kept units, replica by replica."""
        return self.bits_v[:, : self.model.n_kept].reshape(*self.shape, -1)

    @v.setter
    def v(self, v: Bits) -> None:
        self.bits_v[:, : self.model.n_kept] = v.reshape(len(self.bits_v), -1)

    def temper(self, n: int, mode: int, joint: bool, start: int, betas: Any, *ladders: Any) -> Any:
        """Run the kernel."""
        m = self.model
        fixed = (m.tables, m.base, m.weights, m.tables_v, m.base_v)
        states = (self.bits_v, self.words_v, self.random)
        return kernels.temper_dense(n, mode, joint, start, betas, *fixed, *states, *ladders)


class SparseModel:
    """Neighbours of every unit of any machine; the summed-out units come first."""

    def __init__(self, reduced: Reduced, b: Float, c: Float) -> None:
        n, m = reduced.W.shape
        self.n_kept, self.n_summed = n, m
        self.own = np.concatenate((reduced.c - c, reduced.b - b)).astype(np.float32)
        self.base = np.concatenate((c, b)).astype(np.float32)
        J = np.zeros((n, n)) if reduced.J is None else reduced.J
        # Kept units come first among a kept unit's neighbours, the earlier ones before the later ones.
        rows = [(row, np.flatnonzero(row) + m) for row in reduced.W.T]
        rows = [(row[index - m], index) for row, index in rows]
        middles = [len(index) for _, index in rows]
        for i in range(n):
            order = (np.flatnonzero(J[i, :i]), np.flatnonzero(J[i, i:]) + i, np.flatnonzero(reduced.W[i]))
            middles.append(len(order[0]))
            values = np.concatenate((J[i, order[0]], J[i, order[1]], reduced.W[i, order[2]]))
            rows.append((values, np.concatenate((order[0] + m, order[1] + m, order[2]))))
        self.starts = np.cumsum([0, *(len(index) for _, index in rows)]).astype(np.int64)
        self.middles = self.starts[:-1] + np.array(middles, np.int64)
        self.indices = np.concatenate([index for _, index in rows]).astype(np.int64)
        self.couplings = np.concatenate([values for values, _ in rows]).astype(np.float32)

    def replicas(self, v: Bits, generators: list[np.random.Generator]) -> Replicas:
        """Return replicas at states v (n_ladders, n_rungs, n_kept)."""
        return SparseReplicas(self, v, generators)


class SparseReplicas:
    """Units with contiguous chains."""

    def __init__(self, model: SparseModel, v: Bits, generators: list[np.random.Generator]) -> None:
        self.model, self.shape = model, v.shape[:2]
        self.n_chains = v.shape[0] * v.shape[1]
        n_lanes = _round_up(self.n_chains, 16)
        self.states = np.zeros((model.n_summed + model.n_kept, n_lanes), np.float32)
        self.lanes = np.zeros((4, n_lanes), np.uint32)
        self.v = v
        self.random = _streams(generators, v.shape[1])

    @property
    def v(self) -> Bits:
        """States of the kept units, replica by replica."""
        kept = self.states[self.model.n_summed :, : self.n_chains]
        return np.ascontiguousarray(kept.T, np.uint8).reshape(*self.shape, -1)

    @v.setter
    def v(self, v: Bits) -> None:
        self.states[self.model.n_summed :, : self.n_chains] = v.reshape(self.n_chains, -1).T

    @property
    def random(self) -> NDArray[np.uint32]:
        """Generators, shape (n_ladders, 4, n_rungs)."""
        streams = self.lanes[:, : self.n_chains].reshape(4, *self.shape)
        return np.ascontiguousarray(streams.transpose(1, 0, 2))

    @random.setter
    def random(self, random: NDArray[np.uint32]) -> None:
        self.lanes[:, : self.n_chains] = random.transpose(1, 0, 2).reshape(4, -1)

    def temper(self, n: int, mode: int, joint: bool, start: int, betas: Any, *ladders: Any) -> Any:
        """Run the kernel."""
        m = self.model
        graph = (m.n_summed, m.own, m.base, m.starts, m.middles, m.indices, m.couplings)
        states = (self.states, self.lanes)
        return kernels.temper_sparse(n, mode, joint, start, betas, *graph, *states, *ladders)


def _streams(generators: list[np.random.Generator], n: int) -> NDArray[np.uint32]:
    """Return states of n xoshiro128++ for every ladder, shape (n_ladders, 4, n)."""
    return np.stack([g.integers(0, 2**32, (4, n), np.uint32) for g in generators])


class CompiledReplicas:
    """All ladders' replicas, a few ladders in a task, each ladder with its own random numbers.

    Parameters
    ----------
    reduced : Reduced
    b, c : float64
        Biases of the base, of kept and of summed-out units.
    betas : float64, shape (n_rungs,)
    v : uint8, shape (n_ladders, n_rungs, n_kept)
    seed, round : int
    exchange : {"even-odd", "random"}
    joint : bool
    threads : int
    """

    def __init__(
        self, reduced: Reduced, b: Float, c: Float, betas: Float, v: Bits, seed: int, round: int, exchange: str,
        joint: bool, threads: int,
    ) -> None:  # fmt: skip
        self.betas, self.joint, self.threads = betas.astype(np.float32), joint, threads
        self.mode = {"even-odd": kernels.EVEN_ODD, "random": kernels.RANDOM}[exchange]
        n_ladders, n_rungs, _ = v.shape
        self.rungs = np.tile(np.arange(n_rungs), (n_ladders, 1))
        self.last_end = np.zeros((n_ladders, n_rungs), np.int64)
        self.round_trips = np.zeros(n_ladders, np.int64)
        generators = [numpy_generator(seed, "tempering", round, ladder) for ladder in range(n_ladders)]
        self.coins = np.array([g.integers(0, 2**64, dtype=np.uint64) for g in generators])
        self.n_iterations = 0
        self.tasks = _slices(n_ladders, max(1, min(CHAINS_PER_TASK // n_rungs, -(-n_ladders // threads))))
        coupled = reduced.J is not None and reduced.J.any()
        dense = not coupled and np.count_nonzero(reduced.W) > DENSE_FILL * reduced.W.size
        model = (DenseModel if dense else SparseModel)(reduced, b, c)
        self.replicas = [model.replicas(v[task], generators[task]) for task in self.tasks]

    @property
    def v(self) -> Bits:
        """States of the kept units, rung by rung."""
        v = np.concatenate([replicas.v for replicas in self.replicas])
        return np.take_along_axis(v, np.argsort(self.rungs)[..., None], 1)

    def sweep(self, betas: Float, n: int) -> None:
        """Sweep every chain n times at `betas` (n_rungs,), without works or exchanges."""
        self._temper(n, kernels.GIBBS_ONLY, betas.astype(np.float32))

    def run(self, n: int) -> tuple[Float, Float, Float]:
        """Run n iterations and return forward and reverse works and energies."""
        parts = self._temper(n, self.mode, self.betas)
        self.n_iterations += n
        forward, reverse, energies = (np.concatenate(part, 1) for part in zip(*parts, strict=True))
        return forward, reverse, energies

    def _temper(self, n: int, mode: int, betas: NDArray[np.float32]) -> list[tuple[Float, Float, Float]]:
        """Run the kernel on all tasks."""

        def temper(replicas: Replicas, task: slice) -> tuple[Float, Float, Float]:
            ladders = (self.coins[task], self.rungs[task], self.last_end[task], self.round_trips[task])
            return replicas.temper(n, mode, self.joint, self.n_iterations, betas, *ladders)

        if self.threads == 1 or len(self.tasks) == 1:
            return [temper(*pair) for pair in zip(self.replicas, self.tasks, strict=True)]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(temper, self.replicas, self.tasks))

    @property
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """Which end the replica on a rung saw last, +1 cold, -1 hot, 0 neither, shape (n_ladders, n_rungs)."""
        ends = np.empty_like(self.last_end)
        np.put_along_axis(ends, self.rungs, self.last_end, axis=1)
        return ends

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return everything that a continuation needs."""
        return {
            "replica_v": np.concatenate([replicas.v for replicas in self.replicas]),
            "random": np.concatenate([replicas.random for replicas in self.replicas]),
            "coins": self.coins.copy(),
            "rungs": self.rungs.copy(),
            "last_end": self.last_end.copy(),
            "round_trips": self.round_trips.copy(),
            "n_iterations": np.array(self.n_iterations),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state."""
        for replicas, task in zip(self.replicas, self.tasks, strict=True):
            replicas.v, replicas.random = state["replica_v"][task], state["random"][task].copy()
        for name in ("coins", "rungs", "last_end", "round_trips"):
            getattr(self, name)[...] = state[name]
        self.n_iterations = int(state["n_iterations"])


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
