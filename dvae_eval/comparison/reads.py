"""Reads (samples made elsewhere) of all units with their weights: averages, standard errors, fields of units.

Reads are independent.  Integer weights are counts: a read of weight w stands for w equal reads.  Otherwise each
row is a single read of that weight, and errors are those of a weighted mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.memory import require_memory
from dvae_core.types import Float

from ..machine import Machine, real_array
from ..readers import Reading
from ..starts import binary_states

Bits = NDArray[np.uint8]
FEWEST = 20  # least number of reads for an error
ARRAYS = 5  # float64 arrays of all reads and units in memory


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of a machine's units.

    Attributes
    ----------
    x : uint8, shape (n_rows, n_units)
        0 and 1, in the order that the machine was made from.
    w, v : float64, shape (n_rows,)
        Weights, and their part in variances: Var(mean of f) = Σ v (f - mean)^2 / (Σ w)^2.
    a : float64, shape (n_rows,)
        A(x), minus the energy up to the constant, nats.
    """

    x: Bits
    w: Float
    v: Float
    a: Float

    @property
    def n(self) -> float:
        """Sum of the weights."""
        return float(self.w.sum())

    @property
    def n_effective(self) -> float:
        """Effective number of reads, as if of equal weight; for integer weights, their sum."""
        return self.n**2 / float(self.v.sum())

    def mean(self, f: NDArray[Any]) -> Float:
        """Return the mean of values (n_rows, ...)."""
        return np.asarray(self.w @ f / self.n)

    def std_err(self, f: Float) -> float:
        """Return the standard error of the mean of values (n_rows,)."""
        square = float(self.v @ (f - self.mean(f)) ** 2) / self.n**2
        return float(np.sqrt(square * self.n_effective / max(self.n_effective - 1, 1.0)))

    def part(self, rows: NDArray[np.bool_]) -> Reads:
        """Return a subset of the reads."""
        return Reads(self.x[rows], self.w[rows], self.v[rows], self.a[rows])

    def distinct(self) -> tuple[NDArray[np.intp], Float]:
        """Return the index of every row's state, and the weight of each distinct state."""
        packed = np.ascontiguousarray(np.packbits(self.x, axis=1))
        keys = packed.view(f"V{packed.shape[1]}").ravel()
        _, number = np.unique(keys, return_inverse=True)
        return number, np.bincount(number, self.w).astype(np.float64)

    def fields(self, machine: Machine) -> Float:
        """Return log p(x_i = 1 | others) - log p(x_i = 0 | others) for every read and unit, shape of x, nats."""
        return _fields(machine, self.x)


def reads_of(reading: Reading, states: object, weights: object = None, labels: Sequence[str] = ()) -> Reads:
    """Return the reads of a machine's free units, with columns in the machine's order.

    Raises
    ------
    DataError
        If they are not states of this machine, a clamped unit has another value, or there are too few.
    """
    x = _in_order(reading, binary_states(states), labels)
    w = np.ones(len(x)) if weights is None else real_array("weights", np.asarray(weights))
    if w.shape != (len(x),) or (w < 0).any() or not w.sum() > 0:
        raise DataError(f"weights have shape {w.shape}, or are negative; give one per read, for {len(x)} reads")
    x, w = x[w > 0], w[w > 0]
    v = w if bool((w == np.round(w)).all()) else w**2
    n = w.sum() ** 2 / v.sum()
    if n < FEWEST:
        raise DataError(f"contains {n:.3g} reads, too few for errors; give at least {FEWEST}")
    need = 8 * ARRAYS * x.size
    require_memory(need, "SAMPLES", f"{len(x)} reads of {x.shape[1]} units", "give fewer reads")
    return Reads(x, w, v, _log_weights(reading.machine, x))


def _in_order(reading: Reading, states: Bits, labels: Sequence[str]) -> Bits:
    """Return the states of the free units in the machine's order."""
    names = list(reading.labels) or [str(unit) for unit in range(reading.n_units)]
    n = states.shape[1]
    if labels:
        place = {label: k for k, label in enumerate(labels)}
        missing = [name for k, name in enumerate(names) if name not in place and k not in reading.held]
        if missing:
            raise DataError(
                f"has no column {missing[0][:40]!r}, which is a unit of the model; give reads of all units"
            )
        if len(place) < n or len(place) > len(names):
            unknown = next((label for label in labels if label not in names), labels[0])
            raise DataError(f"has a column {unknown[:40]!r} twice, or that is not a unit of the model; remove it")
        columns = np.array([place.get(name, -1) for name in names])
    elif n == reading.n_units:
        columns = np.arange(n)
    elif n == len(reading.free):
        columns = np.full(reading.n_units, -1)
        columns[reading.free] = np.arange(n)
    else:
        raise DataError(f"has states of {n} units, the model has {reading.n_units}; give reads of all units")
    for unit, value in reading.held.items():
        if columns[unit] >= 0 and (states[:, columns[unit]] != value).any():
            raise DataError(
                f"has reads in which the clamped unit {names[unit][:40]!r} has another value; remove them"
            )
    return np.ascontiguousarray(states[:, columns[reading.free]])


def _split(machine: Machine, x: Bits) -> tuple[Float, Float]:
    """Return the kept and the summed-out units."""
    reduced = machine.reduced()
    v, h = np.split(x[:, machine.reduced_units()].astype(np.float64), [len(reduced.b)], axis=1)
    return v, h


def _log_weights(machine: Machine, x: Bits) -> Float:
    """Return A(x) of every state."""
    m = machine.reduced()
    v, h = _split(machine, x)
    a: Float = v @ m.b + (h * (v @ m.W + m.c)).sum(1)
    return a if m.J is None else a + ((v @ m.J) * v).sum(1) / 2


def _fields(machine: Machine, x: Bits) -> Float:
    m = machine.reduced()
    v, h = _split(machine, x)
    kept = m.b + h @ m.W.T
    if m.J is not None:
        kept = kept + v @ m.J
    fields = np.empty(x.shape)
    fields[:, machine.reduced_units()] = np.concatenate((kept, v @ m.W + m.c), 1)
    return fields
