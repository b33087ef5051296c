"""A machine of named arrays, whatever file they came in: W with two biases, or J with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.types import Float

from ..machine import MAX_COUPLINGS, check_units, pairs_once, real_array
from .options import ReadConfig, Reading, from_bonds, from_sides
from .sparse import Coordinates

__all__ = ["KNOWN", "Array", "read_arrays"]

Array = NDArray[Any] | Coordinates

WEIGHTS = ("W", "w", "weights", "weight", "weight_matrix", "components_", "vishid")
PAIRS = (
    ("b_left", "b_right"),
    ("b_visible", "c_hidden"),
    ("b_visible", "b_hidden"),
    ("visible_bias", "hidden_bias"),
    ("vbias", "hbias"),
    ("v_bias", "h_bias"),
    ("bv", "bh"),
    ("b_v", "b_h"),
    ("vb", "hb"),
    ("b_vis", "b_hid"),
    ("vis_bias", "hid_bias"),
    ("bias_v", "bias_h"),
    ("bias_visible", "bias_hidden"),
    ("visible_biases", "hidden_biases"),
    ("visbiases", "hidbiases"),
    ("b", "c"),
    ("a", "b"),
    ("intercept_visible_", "intercept_hidden_"),
)
BIASES = tuple(dict.fromkeys(name for pair in PAIRS for name in pair))
# Whose rows are which units is part of these names' meaning: ours, those of rbms, of scikit-learn, and of Hinton
# and Salakhutdinov in MATLAB.
ROWS = {
    ("W", "b_left"): "left",
    ("W", "b_visible"): "left",
    ("weight_matrix", "vbias"): "left",
    ("components_", "intercept_visible_"): "right",
    ("vishid", "visbiases"): "left",
}
CONSTANT = "constant"
KNOWN = frozenset((*WEIGHTS, *BIASES, "J", CONSTANT))


def read_arrays(arrays: Mapping[str, Array], config: ReadConfig, format: str, dtype: str | None = None) -> Reading:
    """Return the machine of arrays under the names that people use.

    Parameters
    ----------
    arrays : dict of arrays
        `W` (or `weights`, `weight_matrix`, `components_`) with one of the pairs of biases in `PAIRS`, for
        p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h); or `J`, full or sparse, strictly upper triangular or symmetric,
        and `b`, for p(z) ∝ exp(Σ_{i<j} J_ij z_i z_j + b'z).  `constant`, a number, is added to log Z.
    config : ReadConfig
        `units`, and `rows` for a square W whose names leave open whose units its rows are.
    format : str
        For the description.
    dtype : str, optional
        For the description, if the arrays are not in the type that the file has.

    Raises
    ------
    DataError
        If the arrays make no machine, or more than one.
    """
    config.reject_unused(format, "units", "rows")
    arrays = {name: array for name, array in arrays.items() if name in KNOWN}
    units = "01" if config.units == "auto" else config.units
    description: dict[str, Any] = {"format": format, "units": units}
    constant = _constant(arrays.pop(CONSTANT, np.zeros(())))
    if "J" in arrays:
        if others := sorted(set(arrays) - {"J", "b"}):
            raise DataError(f"has both J and {others[0]}; give J and b alone, or W with its biases")
        return _general(arrays, constant, description, dtype)
    return _bipartite(arrays, config.rows, constant, description, dtype)


def _general(
    arrays: Mapping[str, Array], constant: float, description: dict[str, Any], dtype: str | None
) -> Reading:
    """Return the machine of J and b."""
    J = arrays["J"]
    if not isinstance(J, Coordinates):
        full = real_array("J", J)
        J = _entries(full) if full.ndim == 2 else J
    if not isinstance(J, Coordinates) or J.shape[0] != J.shape[1] or J.shape[0] == 0:
        raise DataError(f"J has shape {J.shape}; give (n_units, n_units), n_units at least 1")
    check_units(J.shape[0])
    if "b" in arrays:
        b = _vector("b", arrays["b"])
    elif isinstance(arrays["J"], Coordinates):  # scipy.sparse.save_npz has no place for any
        b, description["biases"] = np.zeros(J.shape[0]), "none in the file: zero"
    else:
        raise DataError("has no b; give J and b")
    if b.shape != J.shape[:1]:
        raise DataError(f"b has shape {b.shape}, J has shape {J.shape}; give b of shape (n_units,)")
    description["dtype"] = dtype or _type(arrays["J"])
    bonds, couplings = pairs_once(J.row, J.column, real_array("J", J.value))
    return from_bonds(bonds, couplings, b, constant, description)


def _bipartite(
    arrays: Mapping[str, Array], rows: str, constant: float, description: dict[str, Any], dtype: str | None
) -> Reading:
    """Return the machine of W and a pair of biases."""
    name, pair = _one_of(arrays, WEIGHTS), _pair(arrays)
    left, right = (_vector(bias, arrays[bias]) for bias in pair)
    W = _full("W", arrays[name])
    fits = {"left": W.shape == (len(left), len(right)), "right": W.shape == (len(right), len(left))}
    certain = ROWS.get((name, pair[0]))
    if rows == "auto" and all(fits.values()) and W.shape != (1, 1) and certain is None:
        raise DataError(
            f"{name} is square, and {' and '.join(pair)} leave open whose units its rows are; "
            "give --rows left or right"
        )
    if rows == "auto":
        rows = certain if certain and fits[certain] else "right" if fits["right"] and not fits["left"] else "left"
    description |= {"rows": rows, "dtype": dtype or _type(arrays[name])}
    return from_sides(W if rows == "left" else W.T, left, right, constant, description)


def _one_of(arrays: Mapping[str, Array], names: tuple[str, ...]) -> str:
    """Return the one name that is there."""
    found = [name for name in names if name in arrays]
    if len(found) != 1:
        problem = f"has both {' and '.join(found)}" if found else f"has no {names[0]}"
        raise DataError(f"{problem}; give W with b_left and b_right, or J with b")
    return found[0]


def _pair(arrays: Mapping[str, Array]) -> tuple[str, str]:
    """Return the one pair of biases that is there."""
    there = {name for name in BIASES if name in arrays}
    found = [pair for pair in PAIRS if there.issuperset(pair)]
    if len(found) == 1 and len(there) == 2:
        return found[0]
    if there and not found:
        halves = [pair for pair in PAIRS if there.intersection(pair)]
        missing = next(name for name in halves[0] if name not in there)
        raise DataError(f"has {' and '.join(sorted(there))} but no {missing}; give both, zeros if need be")
    problem = f"has biases {', '.join(sorted(there))}" if there else "has no b_left"
    raise DataError(f"{problem}; give one pair: {', '.join(' and '.join(pair) for pair in PAIRS)}")


def _vector(name: str, array: Array) -> NDArray[Any]:
    """Return a bias with one axis; others give it two, one of them of length 1, or none if it is one number."""
    values = _full(name, array)
    return values.ravel() if values.ndim == 0 or (values.ndim == 2 and 1 in values.shape) else values


def _full(name: str, array: Array) -> NDArray[Any]:
    """Return a sparse matrix as a full one, if that is of reasonable size."""
    if not isinstance(array, Coordinates):
        return array
    if array.shape[0] * array.shape[1] > MAX_COUPLINGS:
        raise DataError(f"{name} has shape {array.shape}, which is too large")
    values = np.zeros(array.shape, array.value.dtype)
    values[array.row, array.column] = array.value
    return values


def _entries(full: Float) -> Coordinates:
    """Return a full matrix as its entries that are not zero."""
    row, column = np.nonzero(full)
    return Coordinates((full.shape[0], full.shape[1]), row, column, full[row, column])


def _constant(array: Array) -> float:
    """Return the number that is added to log Z."""
    values = real_array(CONSTANT, _full(CONSTANT, array))
    if values.size != 1:
        raise DataError(f"{CONSTANT} has shape {values.shape}; give one number")
    return float(values.reshape(()))


def _type(array: Array) -> str:
    """Return an array's type, as a result names it."""
    return str(array.value.dtype if isinstance(array, Coordinates) else array.dtype)
