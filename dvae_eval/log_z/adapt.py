"""The pilot of an estimate: it places and counts the rungs in rounds, until neighbours exchange at equal rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import OverlapError

from ..config import LogZConfig
from ..machine import Machine
from ..sampling.reference import Base
from ..sampling.replicas import Tempering, Works
from ..sampling.schedule import Ladder
from .bar import bar

__all__ = ["Pilot", "run_pilot"]

Float = NDArray[np.float64]

FIRST_RUNGS = 12
# Iterations of the rounds: short ones while the ladder moves, longer ones where it will not settle.
ROUNDS = (20, 20, 40, 40, 80, 80, 160, 160, 320)
ANNEALING_SWEEPS = 5
# The pilot ends when every exchange rate is this near to what was asked for.
TOLERANCE = 0.1
# Works that pymbar's BAR sees for every pair of neighbours: enough to place C to some hundredths of a nat.
WORKS_FOR_BAR = 2000


@dataclass(frozen=True, slots=True)
class Pilot:
    """Where an estimate starts.

    Attributes
    ----------
    ladder : Ladder
    v : uint8, shape (n_ladders, n_rungs, n_kept)
        States of the kept units.
    shift : float64, shape (K,)
        Δf = -log Z_{k+1}/Z_k between neighbours by BAR, nats.
    n_iterations : int
        What it took, of every chain on every ladder that was tried.
    settled : bool
        Whether the exchange rates came out equal.
    """

    ladder: Ladder
    v: NDArray[np.uint8]
    shift: Float
    n_iterations: int
    settled: bool


def run_pilot(
    machine: Machine,
    config: LogZConfig,
    *,
    base: Base | None,
    ordered: NDArray[np.uint8] | None,
    device: str = "cpu",
    threads: int = 1,
    key: int = 0,
    deadline: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> Pilot:
    """Place the rungs.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    config : LogZConfig
        `n_ladders`, `exchange_rate`, `exchange`, `energies` and `seed` are looked at.
    base : Base or None
        The independent units at β = 0.
    ordered : uint8, shape (n, FIRST_RUNGS + 1, n_kept), optional
        States in which the last n ladders start; all others are annealed from β = 0.
    key : int
        Tells this pilot's random numbers from those of another with the same seed.
    deadline : float
        On the clock of `time.monotonic`: no round begins after it.
    """

    def replicas(ladder: Ladder, round: int, v: NDArray[np.uint8] | None) -> Tempering:
        return Tempering(
            machine,
            ladder,
            config.n_ladders,
            config.seed,
            100 * (key + 1) + round,
            device,
            base=base,
            v=v,
            exchange=config.exchange,
            energies=config.energies,
            threads=threads,
        )

    ladder = Ladder.uniform(FIRST_RUNGS)
    v = _first_states(replicas(ladder, 0, None), ordered)
    for round, n_iterations in enumerate(ROUNDS, 1):
        tempering = replicas(ladder, round, v)
        works = tempering.run(n_iterations).after(n_iterations // 5)
        rates = works.exchange_rates
        if progress:
            progress(round, len(ROUNDS))
        following = ladder.equalised(1 - rates, config.exchange_rate)
        settled = following.n_steps == ladder.n_steps and bool(np.abs(rates - rates.mean()).max() < TOLERANCE)
        if settled or round == len(ROUNDS) or time.monotonic() > deadline:
            break
        v = np.ascontiguousarray(tempering.v[:, _nearest(ladder, following)])
        ladder = following
    return Pilot(ladder, tempering.v, _shift(works), sum(ROUNDS[:round]), settled)


def _first_states(tempering: Tempering, ordered: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return annealed states of all ladders but the last ones, which are `ordered`."""
    tempering.anneal(ANNEALING_SWEEPS)
    states = tempering.v
    if ordered is not None:
        states[len(states) - len(ordered) :] = ordered
    return states


def _nearest(old: Ladder, new: Ladder) -> NDArray[np.intp]:
    """Return, for every rung of the new ladder, the rung of the old one that is nearest to it."""
    nearest: NDArray[np.intp] = np.abs(new.betas[:, None] - old.betas).argmin(1)
    return nearest


def _shift(works: Works) -> Float:
    """Return Δf between neighbours by BAR from a part of the works; where they share nothing, midway."""
    every = max(1, works.forward[..., 0].size // WORKS_FOR_BAR) | 1  # odd: all ladders have their share
    flat = [w.reshape(-1, w.shape[-1])[::every] for w in (works.forward, works.reverse)]
    return np.array([_delta_f(w_f, w_r) for w_f, w_r in zip(flat[0].T, flat[1].T, strict=True)])


def _delta_f(w_f: Float, w_r: Float) -> float:
    """Return Δf by BAR, or midway between the two mean works where the samples share nothing."""
    try:
        return bar(w_f, w_r)
    except OverlapError:
        return float(w_f.mean() - w_r.mean()) / 2
