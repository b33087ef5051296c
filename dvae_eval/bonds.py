"""Machines from bonds between units 0 and 1, or -1 and +1, converted to exp(z'Jz + b'z) over {0,1}."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.errors import DataError

from .machine import Machine, machine_from_bonds, real_array


def machine_of_bonds(
    ends: NDArray[np.integer[Any]], J: ArrayLike, b: ArrayLike, constant: float, units: str
) -> tuple[Machine, float]:
    """Return the machine of p(s) ∝ exp(Σ_(i,j) J_ij s_i s_j + b's + constant), and nats to add to its log Z.

    Parameters
    ----------
    ends : int, shape (n_bonds, 2)
        Pairs of different units from 0 to n_units - 1; couplings of repeated pairs are added.
    J : shape (n_bonds,)
    b : shape (n_units,)
    constant : float
    units : str
        `01`, or `pm1` for -1 and +1.

    Raises
    ------
    DataError
        If there are no units, a bond does not join two of them, or a number is not finite.
    """
    couplings, biases = real_array("J", J), real_array("b", b)
    i, j = np.sort(np.asarray(ends, np.int64).reshape(-1, 2), axis=1).T
    if len(biases) == 0:
        raise DataError("contains no unit; give at least one")
    if len(i) != len(couplings) or (len(i) and (i.min() < 0 or j.max() >= len(biases) or (i == j).any())):
        raise DataError(
            f"has a bond that does not join two of its {len(biases)} units; number units from 0, and give two "
            "per bond"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        if units == "pm1":
            constant += float(couplings.sum() - biases.sum())
            field = np.bincount(i, couplings, len(biases)) + np.bincount(j, couplings, len(biases))
            couplings, biases = 4 * couplings, 2 * (biases - field)
        pair, inverse = np.unique(i * len(biases) + j, return_inverse=True)
        summed = np.bincount(inverse, couplings, len(pair))
    ends = np.column_stack(np.divmod(pair, len(biases)))
    return machine_from_bonds(ends, summed, biases), finite(constant)


def finite(constant: float) -> float:
    """Return a finite constant; DataError if it is not finite."""
    if not math.isfinite(constant):
        raise DataError("its couplings or biases are so large that their sum is infinite; scale them down")
    return constant
