"""Known states of a machine: data, codes of images, samples from elsewhere.

Until replicates have forgotten their starts, log Z from random states comes out too low, and from states in the
machine's own basins too high.  Known states also reveal basins that a search from noise misses.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dvae_core.errors import DataError
from dvae_core.rng import numpy_generator

from .couplings import n_entries, used
from .machine import BipartiteMachine, Machine, real_array

Bits = NDArray[np.uint8]
# Least cosine between the couplings of two machines of one training; unrelated couplings are nearly orthogonal.
LEAST_COSINE = 0.5
# Largest number of states, evenly spaced, of values in all of them, and of products of a coupling and a unit to
# draw the other side.
MOST, MOST_VALUES, MOST_PRODUCTS = 4096, 1 << 22, 1 << 33


@dataclass(frozen=True, slots=True)
class Starts:
    """States from which an estimate starts, in addition to those that it finds itself.

    Attributes
    ----------
    states : array, shape (n, n_units), (n, n_left) or (n, n_right)
        Values 0 and 1, or -1 and +1; see `coupled_kept_states` for the order of the units.
    source : dict
        Description of their origin for a result: plain JSON values.
    """

    states: Any
    source: dict[str, Any] = field(default_factory=dict)

    def description(self) -> dict[str, Any]:
        """Return origin, number and digest of the states, for a result."""
        states = binary_states(self.states)
        digest = hashlib.sha256(f"{states.shape}".encode() + np.packbits(states).tobytes()).hexdigest()
        return {**self.source, "n_states": len(states), "states_sha256": digest}


def binary_states(values: Any) -> Bits:
    """Return states as 0 and 1, uint8 (n, n_values), from an array or tensor of 0 and 1, or of -1 and +1.

    Raises
    ------
    DataError
        If it does not have two axes, is empty, or has other values.
    """
    array = values if isinstance(values, np.ndarray) and values.dtype.kind in "buif" else real_array("it", values)
    if array.ndim != 2 or not array.size:
        raise DataError(f"has shape {array.shape}; give at least one state, as (n_states, n_units)")
    is_on = array == 1
    if not ((is_on | (array == 0)).all() or (is_on | (array == -1)).all()):
        raise DataError("has values that are not states of units; give 0 and 1, or -1 and +1")
    return np.ascontiguousarray(is_on).view(np.uint8)


def spread(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most `most` of the rows, evenly spaced."""
    return rows if most >= len(rows) else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def check_units(machine: Machine, n: int) -> None:
    """Raise DataError unless n is the number of units of a machine, or of one of its sides."""
    counts = {machine.n_units: "all units"}
    if isinstance(machine, BipartiteMachine) and machine.order is None:
        counts |= {machine.n_right: "the right side", machine.n_left: "the left side"}
    if n not in counts:
        wanted = " or ".join(f"{count} ({which})" for count, which in counts.items())
        raise DataError(f"has states of {n} units; give states of {wanted} of the machine")


def are_of_one_training(one: Machine, other: Machine) -> bool:
    """Return whether two machines have equal shapes, and couplings of similar direction (cosine > 1/2)."""
    if type(one) is not type(other) or one.n_units != other.n_units:
        return False
    a, b = (m.W if isinstance(m, BipartiteMachine) else m.J for m in (one, other))
    if a.shape != b.shape:
        return False
    products = [float((x * y).sum()) for x, y in ((a, b), (a, a), (b, b))]
    return products[0] > LEAST_COSINE * math.sqrt(products[1]) * math.sqrt(products[2])


def coupled_kept_states(machine: Machine, states: Any, seed: int) -> Bits:
    """Return states of the coupled units that `Machine.reduced` keeps, uint8 (n, n_kept).

    At most `MOST` states are returned, evenly spaced.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        The whole machine, isolated units included.
    states : array, shape (n, n_units), or (n, n_left) or (n, n_right) for a machine with two sides
        0 and 1, or -1 and +1.  All units are in the order of J and b, or of the graph; for W and two biases, left
        units come first.  If both sides have equal sizes, states of one side are those of the left.
    seed : int
        Determines the units of the other side, which are drawn given those of one side.

    Raises
    ------
    DataError
        If they are not states of this machine.
    """
    found = binary_states(states)
    check_units(machine, found.shape[1])
    found = spread(found, max(1, min(MOST, MOST_VALUES // machine.n_units)))
    kept = kept_units(machine)
    if not isinstance(machine, BipartiteMachine) or found.shape[1] == machine.n_units:
        return np.ascontiguousarray(found[:, kept])
    is_left, keeps_left = found.shape[1] == machine.n_left, bool(kept[0] < machine.n_left)
    side = kept if keeps_left else kept - machine.n_left
    if is_left == keeps_left:
        return np.ascontiguousarray(found[:, side])
    return _other_side(machine, found, is_left, seed)[:, side]


def all_units(machine: Machine, v: Bits, rng: np.random.Generator) -> Bits:
    """Return states of all units, uint8 (n, n_units), in the order that the machine was made from.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
        At least two of its units are coupled.
    v : uint8, shape (n, n_kept)
        States of the coupled units that `Machine.reduced` keeps.
    rng : numpy.random.Generator
        Draws the other units: summed-out ones given the kept ones, and those without couplings.
    """
    coupled, _ = machine.without_isolated_units()
    assert coupled is not None
    numbers, is_coupled = _numbers(machine)
    reduced, units = coupled.reduced(), _coupled_units(machine)
    x = np.empty((len(v), machine.n_units), np.uint8)
    x[:, units] = np.concatenate((v, _bernoulli(v @ reduced.W + reduced.c, rng)), 1)
    biases = _biases(machine)[~is_coupled]
    x[:, numbers[~is_coupled]] = _bernoulli(np.broadcast_to(biases, (len(x), len(biases))), rng)
    return x


def kept_units(machine: Machine) -> NDArray[np.intp]:
    """Return the indices of the kept units of `all_units` among those that the machine was made from."""
    coupled, _ = machine.without_isolated_units()
    assert coupled is not None
    return _coupled_units(machine)[: len(coupled.reduced().b)]


def _coupled_units(machine: Machine) -> NDArray[np.intp]:
    """Return the indices of the coupled units, the kept ones first."""
    coupled, _ = machine.without_isolated_units()
    assert coupled is not None
    numbers, is_coupled = _numbers(machine)
    return coupled.reduced_units() if coupled is machine else numbers[is_coupled][coupled.reduced_units()]


def _other_side(machine: BipartiteMachine, states: Bits, is_left: bool, seed: int) -> Bits:
    """Return the units of the other side, drawn given those of this side, for fewer states if there are too many.

    The units are independent, each on with probability σ(field).
    """
    states = spread(states, max(1, MOST_PRODUCTS // max(1, n_entries(machine.W))))
    W, biases = (machine.W, machine.b_right) if is_left else (machine.W.T, machine.b_left)
    return _bernoulli(biases + states.astype(np.float64) @ W, numpy_generator(seed, "log_z", 8))


def _numbers(machine: Machine) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return each stored unit's index among those the machine was made from, and whether it has a coupling."""
    if isinstance(machine, BipartiteMachine):
        numbers = np.arange(machine.n_units) if machine.order is None else machine.order
        return numbers, np.concatenate(used(machine.W))
    return np.arange(machine.n_units), np.logical_or(*used(machine.J))


def _biases(machine: Machine) -> NDArray[np.float64]:
    """Return the biases of all units, in the order in which the machine stores them."""
    if isinstance(machine, BipartiteMachine):
        return np.concatenate((machine.b_left, machine.b_right))
    return machine.b


def _bernoulli(fields: NDArray[np.float64], rng: np.random.Generator) -> Bits:
    """Return one draw per unit, on with probability σ(field)."""
    return np.asarray(rng.random(fields.shape) < expit(fields), np.uint8)
