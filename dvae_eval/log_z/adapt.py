"""The pilot of an estimate: it places and counts the rungs in rounds, until neighbours exchange at equal rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import OverlapError

from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from .with_pymbar import bar

Float = NDArray[np.float64]
MakeReplicas = Callable[[Schedule, int, NDArray[np.uint8] | None], Replicas]

FIRST_RUNGS = 12
# Iterations of the rounds: short ones while the schedule moves, longer ones where it will not settle.
ROUNDS = (20, 20, 40, 40, 80, 80, 160, 160, 320)
LONGER_ROUNDS = (80, 80, 160, 160, 320)  # for the rungs of a run that has begun
ANNEALING_SWEEPS = 5
# Iterations of the last round where the time is over: what places C, and no more.
SHORT_ROUND = 8
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
    works : Works
        Those of the last round, after its burn-in.
    settled : bool
        Whether the exchange rates came out equal.
    """

    schedule: Schedule
    v: NDArray[np.uint8]
    shift: Float
    works: Works
    settled: bool


def run_pilot(
    make: MakeReplicas,
    exchange_rate: float,
    *,
    ordered: NDArray[np.uint8] | None = None,
    start: tuple[Schedule, NDArray[np.uint8]] | None = None,
    steps: int = FIRST_RUNGS,
    rounds: Sequence[int] = ROUNDS,
    key: int = 0,
    is_over: Callable[[], bool] = lambda: False,
    run: Callable[[Replicas, int], Works] = lambda replicas, n: replicas.run(n),
    slice_of: Callable[[Replicas], int] = lambda replicas: max(ROUNDS),
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
    start : Schedule and states, optional
        Where to begin, instead of annealed and ordered states.
    steps : int
        Of the first schedule, which are equal.
    rounds : sequence of int
        Iterations of every round.
    key : int
        Tells this pilot's random numbers from those of another with the same seed.
    is_over : callable
        Whether the time for the pilot is over: a round that is running ends then, and a short one on the schedule
        that follows from it is the last.
    run : callable
        Runs iterations of replicas.
    slice_of : callable
        Returns how many iterations of such replicas may pass before the time is looked at.
    """
    first = 100 * (key + 1)
    if start:
        schedule, v = start
    else:
        schedule = Schedule.uniform(steps)
        v = _first_states(make(schedule, first, None), ordered, is_over)
    for round, n_iterations in enumerate(rounds, 1):
        replicas, is_last = make(schedule, first + round, v), is_over()
        works = _round(replicas, SHORT_ROUND if is_last else n_iterations, is_over, run, slice_of)
        works = works.after(len(works.forward) // 5)
        rates = works.exchange_rates
        if progress:
            progress(round, len(rounds))
        following = schedule.equalised(1 - rates, exchange_rate)
        settled = following.n_steps == schedule.n_steps and bool(np.abs(rates - rates.mean()).max() < TOLERANCE)
        if settled or round == len(rounds) or is_last:
            break
        v = states_on(replicas, following)
        schedule = following
    return Pilot(schedule, replicas.v, _shift(works), works, settled)


def _round(
    replicas: Replicas,
    n: int,
    is_over: Callable[[], bool],
    run: Callable[[Replicas, int], Works],
    slice_of: Callable[[Replicas], int],
) -> Works:
    """Run n iterations, or as many as there is time for, but not fewer than `SHORT_ROUND`."""
    parts: list[Works] = []
    done = 0
    while done < n and not (done >= SHORT_ROUND and is_over()):
        size = min(slice_of(replicas), n - done)
        parts.append(run(replicas, size))
        done += size
    return Works.joined(parts)


def states_on(replicas: Replicas, schedule: Schedule) -> NDArray[np.uint8]:
    """Return the states with which replicas begin on another schedule: those of the nearest rungs."""
    return np.ascontiguousarray(replicas.v[:, _nearest(replicas.schedule, schedule)])


def _first_states(
    replicas: Replicas, ordered: NDArray[np.uint8] | None, is_over: Callable[[], bool]
) -> NDArray[np.uint8]:
    """Return annealed states of all replicates but the last ones, which are `ordered`."""
    replicas.anneal(ANNEALING_SWEEPS, is_over)
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
