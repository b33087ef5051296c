"""A machine from named arrays of any file format: W with two biases, or J with one.

Every other array is used (offsets, masks), refused because it belongs to another kind of model, or listed as
ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.files import to_utf8
from dvae_core.types import Float

from ..machine import MAX_COUPLINGS, check_units, pairs_once, real_array
from .names import PAIRS, Role, plain, role
from .options import ASSUMED_UNITS, ReadConfig, Reading, from_bonds, from_sides
from .sparse import Coordinates
from .units import Units

Array = NDArray[Any] | Coordinates
# Values may be loaded on access, so that unused ones are never read.
Arrays = Mapping[str, Array | str]

# Names that determine which side the rows of W belong to: those of this project, of rbms, of scikit-learn, of
# Hinton and Salakhutdinov's MATLAB code, and of D-Wave's plugin.
ROWS = {
    ("W", "b_left"): "left",
    ("W", "b_visible"): "left",
    ("weight_matrix", "vbias"): "left",
    ("components_", "intercept_visible_"): "right",
    ("vishid", "visbiases"): "left",
    ("_weights", "_visible_biases"): "left",
}
SINGLES = (("b", "c"), ("a", "b"))
ADVICE = "give W with b_left and b_right, or J with b"
MOST_NAMES = 12  # ignored arrays that a description lists


class _Names:
    """The names in a file, by role."""

    def __init__(self, arrays: Arrays) -> None:
        self.by_role: dict[Role, list[str]] = {}
        for name in sorted(arrays):
            self.by_role.setdefault(role(name), []).append(name)
        self._drop_momentum_of_biases()
        self._pair_centres()

    def of(self, *roles: Role) -> list[str]:
        """Return the names with one of these roles."""
        return [name for wanted in roles for name in self.by_role.get(wanted, [])]

    def one(self, wanted: Role) -> str | None:
        """Return the single name with a role; None if there is none, DataError if there are more."""
        found = self.of(wanted)
        if len(found) > 1:
            raise DataError(f"has both {found[0]} and {found[1]}; keep one of them")
        return found[0] if found else None

    def _drop_momentum_of_biases(self) -> None:
        """Drop vb in files of DeepLearnToolbox, where vW, vb and vc are the momenta of W, b and c."""
        for name in self.of("left"):
            if plain(name) == "vb" and {"vw", "vc"} <= {plain(other) for other in self.of("unknown")}:
                self.by_role["left"].remove(name)

    def _pair_centres(self) -> None:
        """Set the roles of mu and lambda: together both sides' centres (Melchior et al.), else Gaussian means."""
        by_name = {plain(name): name for name in self.of("unknown")}
        for name, side in (("mu", "left"), ("lambda", "right")):
            if name in by_name:
                goes_to = f"offset {side}" if {"mu", "lambda"} <= by_name.keys() else "other: Gaussian units"
                self.by_role.setdefault(goes_to, []).append(by_name[name])
                self.by_role["unknown"].remove(by_name[name])


def is_machine(names: set[str]) -> bool:
    """Return whether arrays of these names describe a machine: weights and biases, or J with b."""
    roles = {role(name) for name in names}
    biases = sum(role(name) in ("left", "right", "a", "b", "c", "bias") for name in names)
    return ("weights" in roles and biases > 1) or {"J", "b"} <= roles


def left_aside(names: list[str], description: dict[str, Any]) -> None:
    """Add the names of ignored values to a description."""
    if names:
        found = [*description.get("left_aside", []), *map(to_utf8, sorted(names))]
        more = [f"and {len(found) - MOST_NAMES} more"] if len(found) > MOST_NAMES else []
        description["left_aside"] = [name[:60] for name in found[:MOST_NAMES]] + more


def read_arrays(
    arrays: Arrays,
    config: ReadConfig,
    format: str,
    *,
    declared: str | None = None,
    rows: str | None = None,
    dtype: Callable[[str], str] | None = None,
) -> Reading:
    """Return the machine that named arrays describe.

    Parameters
    ----------
    arrays : dict of arrays
        `W` (or `weights`, `weight_matrix`, `components_`) with one of the pairs of biases in `PAIRS`, for
        p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h); or `J`, full or sparse, strictly upper triangular or symmetric,
        and `b`, for p(z) ∝ exp(Σ_{i<j} J_ij z_i z_j + b'z).  `constant`, a number, is added to log Z.  Offsets of
        a centred machine replace v and h by v - o_v and h - o_h.  A mask multiplies the couplings or biases.
    config : ReadConfig
        `units`, and `rows` for a square W if the names do not determine the side of its rows.
    format : str
        Name of the format, for the description.
    declared, rows : str, optional
        The units, and the side of W's rows, if the format determines them.
    dtype : callable, optional
        Returns the dtype of an array in the file, if it differs from the loaded array's.

    Raises
    ------
    DataError
        If the arrays describe no machine, several, or a model of another kind.
    """
    config.reject_unused(format, *(("rows",) if declared else ("units", "rows")))
    names = _Names(arrays)
    _refuse_other_models(names, arrays)
    units = Units(declared, config.units)
    kinds, unread = units.see({name: arrays[name] for name in names.of("kind")})
    description: dict[str, Any] = {"format": format, "units": units.found}
    if units.is_assumed:
        description["assumed"] = [ASSUMED_UNITS]
    found = names.one("constant")
    constant = _number(found, arrays[found]) if found else 0.0
    if J := names.one("J"):
        reading, used = _general(J, names, arrays, constant, description)
        weights = J
    else:
        reading, used, weights = _bipartite(names, arrays, config.rows, rows, constant, description)
    reading.description["dtype"] = dtype(weights) if dtype else _type(arrays[weights])
    left_aside([name for name in arrays if _is_to_be_named(name, {*used, *kinds})], description)
    left_aside(unread, description)
    return reading


def _is_to_be_named(name: str, used: set[str]) -> bool:
    """Return whether an array that was not used is to be listed as ignored."""
    # An array of another kind of model that was not refused is a switch that is off, or a factor of one.
    silent = ("harmless", "constant", "temperature", "energy", "kind")
    return name not in used and role(name) not in silent and not role(name).startswith("other")


def _refuse_other_models(names: _Names, arrays: Arrays) -> None:
    """Raise DataError if an array belongs to a model that is no Boltzmann machine of two-state units."""
    for found, held in names.by_role.items():
        if found.startswith("other: ") and (named := [name for name in held if _matters(found, arrays[name])]):
            what = found.removeprefix("other: ")
            advice = (
                "multiply them in"
                if what == "quantised numbers"
                else f"if the name means something else, leave {named[0]} out"
            )
            raise DataError(
                f"has {to_utf8(' and '.join(named[:3]))}: {what}, an unsupported kind of model; {advice}"
            )
    for name in names.of("temperature", "energy"):
        is_factor = role(name) == "temperature"
        if isinstance(value := arrays[name], str | Coordinates) or value.size != 1:
            continue
        if (number := _number(name, value)) != (1.0 if is_factor else 0.0):
            advice = (
                "multiply them by it" if is_factor else "save it as constant, with the sign that it has in log p"
            )
            raise DataError(
                f"has {to_utf8(name)} = {number:.6g}, but does not say whether the parameters include it; "
                f"{advice}, and leave it out"
            )


def _matters(found: Role, value: Array | str) -> bool:
    """Return whether an array of another kind of model has an effect: no switch that is off, no factor of one."""
    if isinstance(value, str):
        return not found.endswith("Gaussian units") or value.lower() not in ("false", "no", "none", "")
    if isinstance(value, Coordinates) or value.dtype.kind not in "biuf" or value.size == 0:
        return True
    if found.endswith("quantised numbers"):
        return not ((value == 1).all() or (value == 0).all())
    if found.endswith("two states"):
        return value.size != 1 or bool((value != 2).any())
    return value.dtype.kind != "b" or bool(value.any())


# --- general machines -----------------------------------------------------------------------------------------


def _general(
    J_name: str, names: _Names, arrays: Arrays, constant: float, description: dict[str, Any]
) -> tuple[Reading, list[str]]:
    """Return the machine of J and b, and the names of the arrays that were used."""
    biases = names.of("left", "right", "a", "c", "bias")
    if others := [*names.of("weights"), *biases, *names.of("field", "offset left", "offset right")]:
        raise DataError(f"has both J and {to_utf8(others[0])}; keep J and b alone, or W with its biases")
    held = arrays[J_name]
    is_sparse = isinstance(held, Coordinates)
    J = held
    if not isinstance(J, Coordinates):
        full = real_array("J", _values("J", J))
        mask = names.one("mask weights")
        if mask is not None:
            full = full * _mask(mask, arrays[mask], full.shape, "J")
            description["masks"] = [to_utf8(mask)]
        J = _entries(full) if full.ndim == 2 else full
    elif names.of("mask weights"):
        raise DataError("has a mask for a sparse J; remove the masked entries and the mask")
    if not isinstance(J, Coordinates) or J.shape[0] != J.shape[1] or J.shape[0] == 0:
        raise DataError(f"J has shape {J.shape}; give shape (n_units, n_units) with n_units at least 1")
    check_units(J.shape[0])
    if b_name := names.one("b"):
        b = _vector("b", arrays[b_name])
    elif is_sparse:  # scipy.sparse.save_npz cannot store any
        b, description["biases"] = np.zeros(J.shape[0]), "none in the file: zero"
        description["assumed"] = [*description.get("assumed", []), "no biases"]
    else:
        raise DataError("has no b; save J and b")
    if b.shape != J.shape[:1]:
        raise DataError(f"b has shape {b.shape}, J has shape {J.shape}; give b with shape (n_units,)")
    bonds, couplings = pairs_once(J.row, J.column, real_array("J", J.value))
    used = [J_name, *names.of("b", "mask weights")]
    return from_bonds(bonds, couplings, b, constant, description), used


# --- machines of two sides ------------------------------------------------------------------------------------


def _bipartite(
    names: _Names, arrays: Arrays, wanted: str, known: str | None, constant: float, description: dict[str, Any]
) -> tuple[Reading, list[str], str]:
    """Return the machine of W and a pair of biases, the names of the arrays that were used, and the name of W."""
    name, pair = _weights(names, arrays), _pair(names)
    left, right = (_vector(bias, arrays[bias]) for bias in pair)
    W = _values(name, arrays[name])
    rows = _rows(W, len(left), len(right), name, pair, wanted, known)
    description["rows"] = rows
    (W, left, right), masks = _masked(names, arrays, {name: W, pair[0]: left, pair[1]: right})
    if masks:
        description["masks"] = [to_utf8(mask) for mask in masks]
    W = W if rows == "left" else W.T
    offsets = [names.one(f"offset {side}") for side in ("left", "right")]
    if any(offsets):
        centres = [
            real_array(offset, _vector(offset, arrays[offset])) if offset else np.zeros(len(biases))
            for offset, biases in zip(offsets, (left, right), strict=True)
        ]
        W, left, right, constant = _centred(W, left, right, centres, constant)
        description["offsets"] = (
            f"{', '.join(o for o in offsets if o)}: energies in v - o_v and h - o_h, biases too"
        )
    used = [name, *pair, *masks, *(offset for offset in offsets if offset)]
    return from_sides(W, left, right, constant, description), used, name


def _rows(
    W: NDArray[Any], n_left: int, n_right: int, name: str, pair: tuple[str, str], wanted: str, known: str | None
) -> str:
    """Return the side that the rows of W belong to; DataError if the file does not determine it."""
    if wanted != "auto":
        return wanted
    fits = {"left": W.shape == (n_left, n_right), "right": W.shape == (n_right, n_left)}
    certain = known or ROWS.get((name, pair[0]))
    if all(fits.values()) and W.shape != (1, 1) and certain is None:
        raise DataError(
            f"{name} is square, and the names {' and '.join(pair)} do not determine which units its rows are; "
            "give --rows left or right"
        )
    return certain if certain and fits[certain] else "right" if fits["right"] and not fits["left"] else "left"


def _masked(names: _Names, arrays: Arrays, parts: dict[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], list[str]]:
    """Return W and both biases with their masks applied, and the names of these masks."""
    if names.of("mask"):
        raise DataError(f"has {names.of('mask')[0]}, but does not say what it masks; apply it, and leave it out")
    found, used = [], []
    for kind, (name, values) in zip(("weights", "left", "right"), parts.items(), strict=True):
        if mask := names.one(f"mask {kind}"):
            values = real_array(name, values) * _mask(mask, arrays[mask], values.shape, name)
            used.append(mask)
        found.append(values)
    return found, used


def _centred(
    W: NDArray[Any], left: NDArray[Any], right: NDArray[Any], centres: list[Float], constant: float
) -> tuple[Float, Float, Float, float]:
    """Return W, biases and constant after expanding v'Wh + ... with v - o_v for v and h - o_h for h."""
    W, b, c = real_array("W", W), real_array("biases", left), real_array("biases", right)
    of_left, of_right = centres
    for side, offsets, biases in (("visible", of_left, b), ("hidden", of_right, c)):
        if offsets.shape != biases.shape:
            raise DataError(
                f"{side} offsets have shape {offsets.shape}, their biases {biases.shape}; give both the same shape"
            )
    if W.shape != (len(b), len(c)):
        return W, b, c, constant  # the caller refuses this shape
    constant += float(of_left @ W @ of_right - b @ of_left - c @ of_right)
    return W, b - W @ of_right, c - of_left @ W, constant


def _weights(names: _Names, arrays: Arrays) -> str:
    """Return the single name of weights; DataError if there is none, or several."""
    found = names.of("weights")
    if len(found) != 1:
        problem = f"has both {' and '.join(found[:2])}" if found else "has no W"
        raise DataError(f"{problem}; {ADVICE}")
    shape = getattr(arrays[found[0]], "shape", ())
    for name in names.of("layer"):
        if (other := getattr(arrays[name], "shape", ())) != shape:
            raise DataError(
                f"has {name} of shape {other} besides {found[0]} of shape {shape}: further layers, an unsupported "
                f"kind of model; if the name means something else, leave {name} out"
            )
    return found[0]


def _pair(names: _Names) -> tuple[str, str]:
    """Return the single pair of biases; DataError if it is missing, incomplete or not unique."""
    sides, single = (names.of("left"), names.of("right")), {n: names.of(n) for n in ("a", "b", "c")}
    there = sorted([*sides[0], *sides[1], *(name for held in single.values() for name in held)])
    pairs = [(left, right) for left in sides[0] for right in sides[1] or names.of("bias")]
    pairs += [(single[a][0], single[b][0]) for a, b in SINGLES if single[a] and single[b]]
    if len(pairs) == 1 and set(there) <= set(pairs[0]):
        return pairs[0]
    if there and not pairs:
        names_of_pairs = [pair for pair in PAIRS if {plain(n) for n in pair} & {plain(n) for n in there}]
        missing = next((n for n in (names_of_pairs or PAIRS)[0] if plain(n) not in map(plain, there)), "b_right")
        raise DataError(f"has {' and '.join(there)} but no {missing}; save both, as zeros if there are none")
    problem = f"has biases {', '.join(there)}" if there else "has no b_left"
    raise DataError(f"{problem}; keep one pair: {', '.join(' and '.join(pair) for pair in PAIRS)}")


# --- values ---------------------------------------------------------------------------------------------------


def _mask(name: str, mask: Array | str, shape: tuple[int, ...], of: str) -> Float:
    """Return a mask of zeros and ones; DataError if it has other values, or another shape."""
    values = real_array(name, _values(name, mask))
    if values.ndim == 2 and 1 in values.shape and len(shape) == 1:
        values = values.ravel()
    if values.shape != shape:
        raise DataError(
            f"{name} has shape {values.shape}, {of} has shape {shape}; give both the same shape, or leave it out"
        )
    if not ((values == 0) | (values == 1)).all():
        raise DataError(f"{name} has values other than 0 and 1; multiply it into {of}, and leave {name} out")
    return values


def _vector(name: str, array: Array | str) -> NDArray[Any]:
    """Return a bias as a vector; files may store it as a matrix of one row or column, or as a single number."""
    values = _values(name, array)
    return values.ravel() if values.ndim == 0 or (values.ndim == 2 and 1 in values.shape) else values


def _values(name: str, array: Array | str) -> NDArray[Any]:
    """Return a full array; DataError for a text, or a sparse matrix that is too large to expand."""
    if isinstance(array, str):
        raise DataError(f"{name} is a text; save an array of numbers")
    if not isinstance(array, Coordinates):
        return array
    if array.shape[0] * array.shape[1] > MAX_COUPLINGS:
        raise DataError(f"{name} has shape {array.shape}, which is too large; save the machine as J and b, sparse")
    values = np.zeros(array.shape, array.value.dtype)
    values[array.row, array.column] = array.value
    return values


def _entries(full: Float) -> Coordinates:
    """Return the non-zero entries of a full matrix."""
    row, column = np.nonzero(full)
    return Coordinates((full.shape[0], full.shape[1]), row, column, full[row, column])


def _number(name: str, array: Array | str) -> float:
    """Return the value of an array of one number; DataError if it has another size."""
    values = real_array(name, _values(name, array))
    if values.size != 1:
        raise DataError(f"{name} has shape {values.shape}; save a single number")
    return float(values.reshape(()))


def _type(array: Array | str) -> str:
    """Return the name of an array's dtype, for the description."""
    return (
        "text"
        if isinstance(array, str)
        else str(array.value.dtype if isinstance(array, Coordinates) else array.dtype)
    )
