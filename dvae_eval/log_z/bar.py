"""Bennett's acceptance ratio between all neighbours of a schedule, from sums over blocks of a run.

Bennett's identity holds for every shift C (Bennett, 1976, Eq. 7; Shirts & Chodera, 2008):

    Z_{k+1} / Z_k = exp(-C) E_k[σ(C - w_f)] / E_{k+1}[σ(-C - w_r)],

and at C = Δf it is BAR itself.  With C from a pilot, accurate to some hundredths, the loss is of second
order.  Two means per pair of neighbours therefore replace the list of all works, and memory does not grow with the
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import NumericalError, OverlapError
from dvae_core.types import Float

from ..numbers import std_err_of_mean
from ..sampling.replicas import Works

MAX_BLOCKS = 64
CROOKS_SHIFT = 2.0  # nats
# Averages per pair of neighbours: σ(C - w_f) and σ(-C - w_r) at C = shift, shift + CROOKS_SHIFT and
# shift - CROOKS_SHIFT; the acceptance of an exchange; exp(C - w_f) and exp(-C - w_r) of the stepping stones.
STATISTICS = (
    "forward",
    "reverse",
    "forward_high",
    "reverse_high",
    "forward_low",
    "reverse_low",
    "exchange",
    "stone_forward",
    "stone_reverse",
)
FACTOR = float(np.exp(CROOKS_SHIFT))


class WorkSums:
    """Means of STATISTICS over blocks of equal length, for every replicate and every pair of neighbours.

    Works are added in chunks of `chunk` iterations.  At MAX_BLOCKS blocks, neighbouring blocks are merged, so that
    a long run always has between MAX_BLOCKS / 2 and MAX_BLOCKS of them.

    Parameters
    ----------
    shift : float64, shape (K,)
        C, near Δf = -log Z_{k+1}/Z_k, nats.
    n_replicates : int
    chunk : int
        Iterations per call of `add`.

    Attributes
    ----------
    chunks_per_block : int
    """

    def __init__(self, shift: Float, n_replicates: int, chunk: int) -> None:
        self.shift, self.n_replicates, self.chunk = np.asarray(shift, dtype=np.float64), n_replicates, chunk
        self.chunks_per_block = 1
        n_steps = len(self.shift)
        self._works: list[Float] = []  # (n_statistics, n_replicates, K) each, means over a block
        self._energies: list[Float] = []  # (2, n_replicates, K + 1) each, means of the energy and its square
        self._pending: list[tuple[Float, Float]] = []
        self._empty = (
            np.empty((0, len(STATISTICS), n_replicates, n_steps)),
            np.empty((0, 2, n_replicates, n_steps + 1)),
        )

    @property
    def n_blocks(self) -> int:
        """Number of complete blocks so far."""
        return len(self._works)

    @property
    def block(self) -> int:
        """Iterations per block."""
        return self.chunks_per_block * self.chunk

    def add(self, works: Works) -> None:
        """Add the works of the next `chunk` iterations."""
        self._pending.append((self._reduce(works), _energy_moments(works.energies)))
        if len(self._pending) < self.chunks_per_block:
            return
        stones, energies = (np.mean([p[i] for p in self._pending], axis=0) for i in (0, 1))
        self._works.append(stones)
        self._energies.append(energies)
        self._pending = []
        if len(self._works) == MAX_BLOCKS:
            self._works, self._energies = _merge_pairs(self._works), _merge_pairs(self._energies)
            self.chunks_per_block *= 2

    def statistic(self, name: str, start: int = 0) -> Float:
        """Return the means of one of STATISTICS over the blocks from `start`, (n_blocks, n_replicates, K)."""
        i = STATISTICS.index(name)
        return np.array([w[i] for w in self._works[start:]]) if self._works[start:] else self._empty[0][:, i]

    def energies(self, start: int = 0) -> tuple[Float, Float]:
        """Return mean and variance of d log p̃_β / dβ on every rung, over all replicates, shape (K + 1,)."""
        mean, square = np.mean(self._energies[start:], axis=(0, 2))
        return mean, np.maximum(square - mean**2, 0)

    def energies_of_replicates(self, start: int = 0) -> Float:
        """Return means of d log p̃_β / dβ over the blocks from `start`, (n_blocks, n_replicates, K + 1)."""
        return np.array([moments[0] for moments in self._energies[start:]])

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue, as plain arrays."""
        pending = [np.array([p[i] for p in self._pending]) for i in (0, 1)] if self._pending else self._empty
        return {
            "shift": self.shift,
            "chunk": np.array(self.chunk),
            "chunks_per_block": np.array(self.chunks_per_block),
            "works": np.array(self._works) if self._works else self._empty[0],
            "energies": np.array(self._energies) if self._energies else self._empty[1],
            "pending_works": pending[0],
            "pending_energies": pending[1],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> WorkSums:
        """Return the sums that `state_dict` described."""
        sums = cls(state["shift"], state["works"].shape[2], int(state["chunk"]))
        sums.chunks_per_block = int(state["chunks_per_block"])
        sums._works, sums._energies = list(state["works"]), list(state["energies"])
        sums._pending = list(zip(state["pending_works"], state["pending_energies"], strict=True))
        return sums

    def _reduce(self, works: Works) -> Float:
        """Return the means of STATISTICS over the iterations of `works`, shape (n_statistics, n_replicates, K)."""
        with np.errstate(over="ignore", divide="ignore"):
            # Infinity is a valid value of e^(C - w): σ is 1 there.
            up, down = np.exp(self.shift - works.forward), np.exp(-self.shift - works.reverse)
            odds = (up, down, up * FACTOR, down / FACTOR, up / FACTOR, down * FACTOR)
            acceptance = np.exp(np.minimum(0, -works.forward - works.reverse))
            values = (*(1 / (1 + 1 / x) for x in odds), acceptance, up, down)
            return np.stack([value.mean(0) for value in values])


def _energy_moments(energies: Float) -> Float:
    """Return means of the energies and of their squares over iterations, shape (2, n_replicates, K + 1)."""
    return np.stack([energies.mean(0), (energies**2).mean(0)])


def _merge_pairs(values: list[Float]) -> list[Float]:
    """Return the means of consecutive pairs."""
    return [(a + b) / 2 for a, b in zip(values[::2], values[1::2], strict=True)]


@dataclass(frozen=True, slots=True)
class Bridge:
    """A chain of BAR estimates along a schedule, from samples of several independent replicates.

    Attributes
    ----------
    delta_f : float64, shape (K,)
        log Z_{k+1} - log Z_k (positive where Z grows), from all samples.
    overlaps : float64, shape (K,)
        1 where neighbours are equal distributions, 0 where they share no mass.
    influence : float64, shape (n_blocks, n_replicates)
        First-order effect of the samples of a block (at the finest, of an iteration) on Σ delta_f: an estimate
        from a subset of the samples is the full one plus the subset's mean influence.  Errors, halves, repeats and
        running estimates all follow from it.
    """

    delta_f: Float
    overlaps: Float
    influence: Float

    @property
    def total(self) -> float:
        """Σ_k log Z_{k+1}/Z_k = log Z_1 - log Z_0, nats."""
        return float(self.delta_f.sum())

    @property
    def repeats(self) -> Float:
        """The estimates of the single replicates, shape (n_replicates,)."""
        estimates: Float = self.total + self.influence.mean(0)
        return estimates

    @property
    def std_err(self) -> float:
        """Standard error of `total`, nats: the larger of two that are equal in a sound run.

        One comes from the spread between replicates, which correlation in time does not affect; the other from the
        spread between blocks, which has more degrees of freedom.  The larger is seldom too small by chance.
        """
        return max(std_err_of_mean(self.influence.mean(0)), std_err_of_mean(self.influence.ravel()))

    @property
    def independent_blocks(self) -> float:
        """Number of independent blocks per replicate: all of them if neighbouring blocks do not correlate."""
        between, within = std_err_of_mean(self.influence.mean(0)), std_err_of_mean(self.influence.ravel())
        return (
            len(self.influence) * min(1.0, (within / between) ** 2) if between > 0 else float(len(self.influence))
        )

    def part(self, start: int, stop: int) -> tuple[float, float]:
        """Return (estimate, standard error) from the iterations start..stop alone."""
        means = self.influence[start:stop].mean(0)
        return self.total + float(means.mean()), std_err_of_mean(means)


def bridge_of_sums(sums: WorkSums, start: int = 0) -> Bridge:
    """Return the estimates by Bennett's identity between all neighbours, from the blocks from `start` on.

    Raises
    ------
    NumericalError
        If a mean is nan.
    OverlapError
        If two neighbours share no mass at all; the message names the rungs.  Small overlaps are reported in
        `Bridge.overlaps` instead.
    """
    forward, reverse = sums.statistic("forward", start), sums.statistic("reverse", start)
    means = forward.mean((0, 1)), reverse.mean((0, 1))
    if not (np.isfinite(means[0]).all() and np.isfinite(means[1]).all()):
        raise NumericalError(
            "BAR needs finite works in both directions; some are nan; check the machine for extreme couplings"
        )
    if (alone := np.flatnonzero(np.minimum(*means) < np.finfo(float).tiny)).size:
        raise OverlapError(
            f"rungs {alone[0]} and {alone[0] + 1} of the schedule: two neighbouring distributions share no mass; "
            "use more rungs (a higher --exchange-rate)"
        )
    influence = influence_up_to(sums, len(sums.shift), start)
    # At C = Δf both means equal half the overlap, 2 ∫ p_k p_{k+1} / (p_k + p_{k+1}).
    return Bridge(np.log(means[0] / means[1]) - sums.shift, means[0] + means[1], influence)


def influence_up_to(sums: WorkSums, rung: int, start: int = 0) -> Float:
    """Return the influence of every block and replicate on log Z of a rung, see `Bridge.influence`."""
    forward, reverse = (sums.statistic(side, start)[..., :rung] for side in ("forward", "reverse"))
    influence: Float = (forward / forward.mean((0, 1)) - reverse / reverse.mean((0, 1))).sum(-1)
    return influence
