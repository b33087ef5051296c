"""Independent states of a machine by its exact plan, each part by its own route."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dvae_core.io.memory import available_memory
from dvae_core.progress import Report, ignore
from dvae_core.rng import numpy_generator
from dvae_core.types import Float

from ..machine import Machine
from .elimination import Elimination
from .elimination_draws import best_eliminated, draw_eliminated, elimination_draw_bytes
from .enumeration import Enumeration
from .enumeration_draws import best_enumerated, draw_enumerated, enumeration_draw_bytes
from .plan import ExactPlan, Part

Bits = NDArray[np.uint8]
MEMORY_SHARE = 0.5  # of the free memory, for tables


def draw_bytes(plan: ExactPlan) -> int:
    """Return the approximate bytes of a draw by this plan, apart from the states."""
    return max((_bytes(part) for part in plan.parts), default=0)


def _bytes(part: Part) -> int:
    if isinstance(part.way, Elimination):
        return elimination_draw_bytes(part.way, _most())
    return enumeration_draw_bytes(part.way) if isinstance(part.way, Enumeration) else 0


def _most() -> int:
    """Return the bytes that tables may take."""
    return int(MEMORY_SHARE * available_memory())


def draw_exactly(
    machine: Machine,
    plan: ExactPlan,
    n: int,
    seed: int,
    report: Report = ignore,
    threads: int | None = None,
) -> tuple[Bits, float]:
    """Return n independent states of a machine, and its log Z, nats.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    plan : ExactPlan
        The machine's own plan, with all parts feasible.
    n, seed : int
    report : callable
        Called with (work done, total work).
    threads : int, optional
        The states do not depend on it.

    Returns
    -------
    uint8, shape (n, n_units)
        In the order of the units of the arrays or file that the machine was made from.
    float
        log Z, nats.
    """
    x = np.empty((n, machine.n_units), np.uint8)
    units, biases = machine.reduced_units(), machine.reduced().biases
    log_zs = []
    for number, part in enumerate(plan.parts):
        rng = numpy_generator(seed, "samples", 1, number)
        states, log_z = _draw(part, biases[part.units], n, rng, report, threads)
        x[:, units[part.units]] = states
        log_zs.append(log_z)
    return x, math.fsum(log_zs)


def _draw(
    part: Part, biases: Float, n: int, rng: np.random.Generator, report: Report, threads: int | None
) -> tuple[Bits, float]:
    """Return states of a part, its units in the order of `part.units`, and its log Z."""
    if isinstance(part.way, Enumeration):
        return draw_enumerated(part.way, n, rng, report, threads)
    if isinstance(part.way, Elimination):
        return draw_eliminated(part.way, n, rng, _most(), report, threads)
    p = 1 / (1 + np.exp(-np.clip(biases, -700, 700)))
    return (rng.random((n, len(biases))) < p).astype(np.uint8), math.fsum(np.logaddexp(0, biases))


def best_exactly(
    machine: Machine, plan: ExactPlan, report: Report = ignore, threads: int | None = None
) -> Bits | None:
    """Return the most probable state, (n_units,), ordered as in `draw_exactly`; None if it is infeasible."""
    best = np.empty(machine.n_units, np.uint8)
    units, biases = machine.reduced_units(), machine.reduced().biases
    for part in plan.parts:
        if isinstance(part.way, Enumeration):
            found = best_enumerated(part.way, report)
        elif isinstance(part.way, Elimination):
            found = best_eliminated(part.way, _most(), report, threads)
        else:
            found = (biases[part.units] > 0).astype(np.uint8)
        if found is None:
            return None
        best[units[part.units]] = found
    return best
