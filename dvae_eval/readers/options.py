"""What a reader is asked and what it returns, and how other conventions become exp(z'Jz + b'z) over {0,1}."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.config import option, option_name, validate
from dvae_core.errors import ConfigError, DataError

from ..couplings import as_array
from ..machine import BipartiteMachine, Machine, machine_from_bonds, real_array

__all__ = ["ReadConfig", "Reading", "from_bonds", "from_sides"]


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """What a file leaves open about the machine that it holds."""

    units: str = option(
        "auto",
        "Values of the units, where the file does not say. [auto: 01]",
        choices=("auto", "01", "pm1"),
    )
    rows: str = option(
        "auto",
        "Side whose units are the rows of W. [auto: as the biases' lengths say]",
        choices=("auto", "left", "right"),
    )
    beta: float = option(
        1.0, "Inverse temperature of a file of energies E, p ∝ exp(-beta E): dimod, D-Wave.", min=1e-9, max=1e9
    )
    evidence: str = option(
        "", "File of the observed variables of a UAI model, which are held at their values (.evid)."
    )
    update: int = option(0, "Update to take from an archive of the rbms package. [0: the last]", min=0, max=10**12)

    def __post_init__(self) -> None:
        validate(self)
        if math.isnan(self.beta):
            raise ConfigError("--beta: nan is not allowed; give a positive number")

    def reject_unused(self, format: str, *names: str) -> None:
        """Raise ConfigError if any option but these was given: a file of this format answers it itself."""
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) != field.default:
                raise ConfigError(f"{option_name(field.name)}: a file of {format} leaves no choice; leave it out")


@dataclass(frozen=True, slots=True)
class Reading:
    """A machine that was read from a file.

    Attributes
    ----------
    machine : BipartiteMachine or GeneralMachine
        Over {0,1}, whatever the file's units.
    constant : float
        log Z in the file's convention = log Z of the machine + constant, nats.
    description : dict
        JSON values: `file`, `sha256`, `format`, `units`, `dtype`, and what else had to be decided.
    """

    machine: Machine
    constant: float
    description: dict[str, Any]


def from_sides(
    W: ArrayLike, b_left: ArrayLike, b_right: ArrayLike, constant: float, description: dict[str, Any]
) -> Reading:
    """Return the reading of p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h + constant), of the units described."""
    machine = BipartiteMachine.from_arrays(W, b_left, b_right)
    if description["units"] == "pm1":
        with np.errstate(over="ignore", invalid="ignore"):
            W, left, right = as_array(machine.W), machine.b_left, machine.b_right
            constant += float(W.sum() - left.sum() - right.sum())
            W, left, right = 4 * W, 2 * (left - W.sum(1)), 2 * (right - W.sum(0))
        machine = BipartiteMachine.from_arrays(W, left, right)
    return Reading(machine, _finite(constant), description)


def from_bonds(
    ends: NDArray[np.integer[Any]], J: ArrayLike, b: ArrayLike, constant: float, description: dict[str, Any]
) -> Reading:
    """Return the reading of p(s) ∝ exp(Σ_(i,j) J_ij s_i s_j + b's + constant), of the units described.

    Parameters
    ----------
    ends : int, shape (n_bonds, 2)
        Pairs of different units within 0 .. n_units - 1; couplings of a pair that is there twice are added.
    J : shape (n_bonds,)
    b : shape (n_units,)
    """
    couplings, biases = real_array("J", J), real_array("b", b)
    i, j = np.sort(np.asarray(ends, np.int64).reshape(-1, 2), axis=1).T
    if len(biases) == 0:
        raise DataError("holds no unit; give at least one")
    if len(i) != len(couplings) or (len(i) and (i.min() < 0 or j.max() >= len(biases) or (i == j).any())):
        raise DataError(f"has a bond that does not join two of its {len(biases)} units")
    with np.errstate(over="ignore", invalid="ignore"):
        if description["units"] == "pm1":
            constant += float(couplings.sum() - biases.sum())
            field = np.bincount(i, couplings, len(biases)) + np.bincount(j, couplings, len(biases))
            couplings, biases = 4 * couplings, 2 * (biases - field)
        pair, inverse = np.unique(i * len(biases) + j, return_inverse=True)
        summed = np.bincount(inverse, couplings, len(pair))
    ends = np.column_stack(np.divmod(pair, len(biases)))
    return Reading(machine_from_bonds(ends, summed, biases), _finite(constant), description)


def _finite(constant: float) -> float:
    """Return a constant that is a number."""
    if not math.isfinite(constant):
        raise DataError("its couplings or biases are so large that their sum is infinite; scale them down")
    return constant
