"""The pilot of an estimate: it chooses number and places of the rungs until neighbours exchange at equal rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import OverlapError
from dvae_core.progress import Progress, Report, ignore
from dvae_core.types import Float

from ..sampling.replicas import Replicas, Works
from ..sampling.schedule import Schedule
from .with_pymbar import bar

MakeReplicas = Callable[[Schedule, int, NDArray[np.uint8] | None], Replicas]

FIRST_RUNGS = 12
# Iterations of the rounds: short while the schedule changes, longer if it does not settle.
ROUNDS = (20, 20, 40, 40, 80, 80, 160, 160, 320)
LONGER_ROUNDS = (80, 80, 160, 160, 320)  # for adapting the schedule again during a run
ANNEALING_SWEEPS = 5
# Iterations of the last round when the time is up: enough to estimate C.
SHORT_ROUND = 8
# The pilot ends when every exchange rate is this near to their mean.
TOLERANCE = 0.1
# Works per pair of neighbours for pymbar's BAR: enough to estimate C to some hundredths of a nat.
WORKS_FOR_BAR = 2000


@dataclass(frozen=True, slots=True)
class Pilot:
    """The end of a pilot, from which a run starts.

    Attributes
    ----------
    schedule : Schedule
    v : uint8, shape (n_replicates, n_rungs, n_kept)
        States of the kept units.
    shift : float64, shape (K,)
        Δf = -log Z_{k+1}/Z_k between neighbours by BAR, nats.
    works : Works
        Works of the last round, after its burn-in.
    settled : bool
        Whether the exchange rates became equal.
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
    report: Report = ignore,
) -> Pilot:
    """Adapt the schedule.

    Parameters
    ----------
    make : callable
        Makes the replicas of a round from (schedule, round number, states or None).
    exchange_rate : float
        Target for the exchange rate of neighbours.
    ordered : uint8, shape (n, steps + 1, n_kept), optional
        Start states of the last n replicates; all others are annealed from β = 0.
    start : Schedule and states, optional
        Schedule and states to start from, instead of annealed and ordered states.
    steps : int
        Number of steps of the first schedule, which is uniform.
    rounds : sequence of int
        Iterations of each round.
    key : int
        Distinguishes this pilot's random numbers from those of others with the same seed.
    is_over : callable
        Returns whether the pilot's time is up: the current round then ends, and a short round on the schedule that
        follows from it is the last.
    run : callable
        Runs a number of iterations of replicas.
    slice_of : callable
        Returns the number of iterations after which the time is checked again.
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
        report(Progress("pilot", round, len(rounds)))
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
    """Run n iterations, or fewer if the time is up, but at least `SHORT_ROUND`."""
    parts: list[Works] = []
    done = 0
    while done < n and not (done >= SHORT_ROUND and is_over()):
        size = min(slice_of(replicas), n - done)
        parts.append(run(replicas, size))
        done += size
    return Works.joined(parts)


def states_on(replicas: Replicas, schedule: Schedule) -> NDArray[np.uint8]:
    """Return states to start another schedule with: those of the nearest rungs."""
    return np.ascontiguousarray(replicas.v[:, _nearest(replicas.schedule, schedule)])


def _first_states(
    replicas: Replicas, ordered: NDArray[np.uint8] | None, is_over: Callable[[], bool]
) -> NDArray[np.uint8]:
    """Return annealed states of all replicates except the last ones, which are `ordered`."""
    replicas.anneal(ANNEALING_SWEEPS, is_over)
    states = replicas.v
    if ordered is not None:
        states[len(states) - len(ordered) :] = ordered
    return states


def _nearest(old: Schedule, new: Schedule) -> NDArray[np.intp]:
    """Return, for every rung of the new schedule, the index of the nearest rung of the old one."""
    nearest: NDArray[np.intp] = np.abs(new.betas[:, None] - old.betas).argmin(1)
    return nearest


def _shift(works: Works) -> Float:
    """Return Δf between neighbours by BAR from a subset of the works, or midway where they share no mass."""
    every = max(1, works.forward[..., 0].size // WORKS_FOR_BAR) | 1  # odd, so that all replicates contribute
    flat = [w.reshape(-1, w.shape[-1])[::every] for w in (works.forward, works.reverse)]
    return np.array([_delta_f(w_f, w_r) for w_f, w_r in zip(flat[0].T, flat[1].T, strict=True)])


def _delta_f(w_f: Float, w_r: Float) -> float:
    """Return Δf by BAR, or midway between the mean works if the samples share no mass."""
    try:
        return bar(w_f, w_r)
    except OverlapError:
        return float(w_f.mean() - w_r.mean()) / 2
