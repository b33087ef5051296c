"""The pilot of an estimate: it places and counts the rungs in rounds, until neighbours exchange at equal rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import OverlapError

from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from .with_pymbar import bar

__all__ = ["MakeReplicas", "Pilot", "run_pilot"]

Float = NDArray[np.float64]
MakeReplicas = Callable[[Schedule, int, NDArray[np.uint8] | None], Replicas]

FIRST_RUNGS = 12
# Iterations of the rounds: short ones while the schedule moves, longer ones where it will not settle.
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
    schedule : Schedule
    v : uint8, shape (n_replicates, n_rungs, n_kept)
        States of the kept units.
    shift : float64, shape (K,)
        Δf = -log Z_{k+1}/Z_k between neighbours by BAR, nats.
    n_iterations : int
        What it took, of every chain on every schedule that was tried.
    settled : bool
        Whether the exchange rates came out equal.
    """

    schedule: Schedule
    v: NDArray[np.uint8]
    shift: Float
    n_iterations: int
    settled: bool


def run_pilot(
    make: MakeReplicas,
    exchange_rate: float,
    *,
    ordered: NDArray[np.uint8] | None,
    steps: int = FIRST_RUNGS,
    rounds: Sequence[int] = ROUNDS,
    key: int = 0,
    deadline: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> Pilot:
    """Adapt the schedule.

    Parameters
    ----------
    make : callable
        Makes the replicas of a round from (schedule, number of the round, states or None).
    exchange_rate : float
        What neighbours shall exchange at.
    ordered : uint8, shape (n, steps + 1, n_kept), optional
        States in which the last n replicates start; all others are annealed from β = 0.
    steps : int
        Of the first schedule, which are equal.
    rounds : sequence of int
        Iterations of every round.
    key : int
        Tells this pilot's random numbers from those of another with the same seed.
    deadline : float
        On the clock of `time.monotonic`: no round begins after it.
    """
    first, schedule = 100 * (key + 1), Schedule.uniform(steps)
    v = _first_states(make(schedule, first, None), ordered)
    for round, n_iterations in enumerate(rounds, 1):
        replicas = make(schedule, first + round, v)
        works = replicas.run(n_iterations).after(n_iterations // 5)
        rates = works.exchange_rates
        if progress:
            progress(round, len(rounds))
        following = schedule.equalised(1 - rates, exchange_rate)
        settled = following.n_steps == schedule.n_steps and bool(np.abs(rates - rates.mean()).max() < TOLERANCE)
        if settled or round == len(rounds) or time.monotonic() > deadline:
            break
        v = np.ascontiguousarray(replicas.v[:, _nearest(schedule, following)])
        schedule = following
    return Pilot(schedule, replicas.v, _shift(works), sum(rounds[:round]), settled)


def _first_states(replicas: Replicas, ordered: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return annealed states of all replicates but the last ones, which are `ordered`."""
    replicas.anneal(ANNEALING_SWEEPS)
    states = replicas.v
    if ordered is not None:
        states[len(states) - len(ordered) :] = ordered
    return states


def _nearest(old: Schedule, new: Schedule) -> NDArray[np.intp]:
    """Return, for every rung of the new schedule, the rung of the old one that is nearest to it."""
    nearest: NDArray[np.intp] = np.abs(new.betas[:, None] - old.betas).argmin(1)
    return nearest


def _shift(works: Works) -> Float:
    """Return Δf between neighbours by BAR from a part of the works; where they share nothing, midway."""
    every = max(1, works.forward[..., 0].size // WORKS_FOR_BAR) | 1  # odd: all replicates have their share
    flat = [w.reshape(-1, w.shape[-1])[::every] for w in (works.forward, works.reverse)]
    return np.array([_delta_f(w_f, w_r) for w_f, w_r in zip(flat[0].T, flat[1].T, strict=True)])


def _delta_f(w_f: Float, w_r: Float) -> float:
    """Return Δf by BAR, or midway between the two mean works where the samples share nothing."""
    try:
        return bar(w_f, w_r)
    except OverlapError:
        return float(w_f.mean() - w_r.mean()) / 2
