"""A machine of named arrays, whatever file they came in: W with two biases, or J with one.

Every array beside them is used (offsets, masks), refused because it makes another model, or named as left aside.
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
# Values may be read when they are asked for: what plays no part is never loaded.
Arrays = Mapping[str, Array | str]

# Whose rows are which units is part of these names' meaning: ours, those of rbms, of scikit-learn, of Hinton and
# Salakhutdinov in MATLAB, and of D-Wave's plugin.
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
MOST_NAMES = 12  # of what is left aside, in a description


class _Names:
    """The names of a file by what they are."""

    def __init__(self, arrays: Arrays) -> None:
        self.by_role: dict[Role, list[str]] = {}
        for name in sorted(arrays):
            self.by_role.setdefault(role(name), []).append(name)
        self._drop_momentum_of_biases()
        self._pair_centres()

    def of(self, *roles: Role) -> list[str]:
        """Return the names that have one of these roles."""
        return [name for wanted in roles for name in self.by_role.get(wanted, [])]

    def one(self, wanted: Role) -> str | None:
        """Return the one name that has a role; None if there is none, DataError if there are more."""
        found = self.of(wanted)
        if len(found) > 1:
            raise DataError(f"has both {found[0]} and {found[1]}; keep one of them")
        return found[0] if found else None

    def _drop_momentum_of_biases(self) -> None:
        """DeepLearnToolbox has W, b and c, and with a v before them their momenta: vb is no visible bias there."""
        for name in self.of("left"):
            if plain(name) == "vb" and {"vw", "vc"} <= {plain(other) for other in self.of("unknown")}:
                self.by_role["left"].remove(name)

    def _pair_centres(self) -> None:
        """Melchior et al. call centres of visible and hidden units mu and lambda; mu alone is a Gaussian mean."""
        by_name = {plain(name): name for name in self.of("unknown")}
        for name, side in (("mu", "left"), ("lambda", "right")):
            if name in by_name:
                goes_to = f"offset {side}" if {"mu", "lambda"} <= by_name.keys() else "other: Gaussian units"
                self.by_role.setdefault(goes_to, []).append(by_name[name])
                self.by_role["unknown"].remove(by_name[name])


def is_machine(names: set[str]) -> bool:
    """Say whether arrays of these names are meant as a machine: weights and biases, or J with b."""
    roles = {role(name) for name in names}
    biases = sum(role(name) in ("left", "right", "a", "b", "c", "bias") for name in names)
    return ("weights" in roles and biases > 1) or {"J", "b"} <= roles


def left_aside(names: list[str], description: dict[str, Any]) -> None:
    """Add to a description the names of what has no part in the machine."""
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
    """Return the machine of arrays under the names that people use.

    Parameters
    ----------
    arrays : dict of arrays
        `W` (or `weights`, `weight_matrix`, `components_`) with one of the pairs of biases in `PAIRS`, for
        p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h); or `J`, full or sparse, strictly upper triangular or symmetric,
        and `b`, for p(z) ∝ exp(Σ_{i<j} J_ij z_i z_j + b'z).  `constant`, a number, is added to log Z.  Offsets of
        a centred machine replace v and h by v - o_v and h - o_h; a mask multiplies the couplings or biases.
    config : ReadConfig
        `units`, and `rows` for a square W whose names leave open whose units its rows are.
    format : str
        For the description.
    declared, rows : str, optional
        The units, and the side of W's rows, where the format itself says them.
    dtype : callable, optional
        Returns the type that an array has in the file, if that is not the array's own.

    Raises
    ------
    DataError
        If the arrays make no machine, more than one, or a model of another kind.
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
    """Say whether an array that was not used is worth a word."""
    # What would have made another model, and is there still, is a switch that is off or a factor of one.
    silent = ("harmless", "constant", "temperature", "energy", "kind")
    return name not in used and role(name) not in silent and not role(name).startswith("other")


def _refuse_other_models(names: _Names, arrays: Arrays) -> None:
    """Raise DataError if an array makes another model than a Boltzmann machine of units with two states."""
    for found, held in names.by_role.items():
        if found.startswith("other: ") and (named := [name for name in held if _matters(found, arrays[name])]):
            what = found.removeprefix("other: ")
            advice = (
                "multiply them in"
                if what == "quantised numbers"
                else f"if it is something else, leave {named[0]} out"
            )
            raise DataError(
                f"has {to_utf8(' and '.join(named[:3]))}: {what}, another model than this computes; {advice}"
            )
    for name in names.of("temperature", "energy"):
        is_factor = role(name) == "temperature"
        if isinstance(value := arrays[name], str | Coordinates) or value.size != 1:
            continue
        if (number := _number(name, value)) != (1.0 if is_factor else 0.0):
            advice = (
                "multiply them by it" if is_factor else "give it as constant, of the sign that it has in log p"
            )
            raise DataError(
                f"has {to_utf8(name)} = {number:.6g}, and does not say whether its numbers contain it; {advice}, "
                "and leave it out"
            )


def _matters(found: Role, value: Array | str) -> bool:
    """Say whether an array of another model is more than a switch that is off, or a factor of one."""
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
    """Return the machine of J and b, and the names of what it was made of."""
    biases = names.of("left", "right", "a", "c", "bias")
    if others := [*names.of("weights"), *biases, *names.of("field", "offset left", "offset right")]:
        raise DataError(f"has both J and {to_utf8(others[0])}; give J and b alone, or W with its biases")
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
        raise DataError("has a mask beside a sparse J; leave out the entries that are masked, and the mask")
    if not isinstance(J, Coordinates) or J.shape[0] != J.shape[1] or J.shape[0] == 0:
        raise DataError(f"J has shape {J.shape}; give (n_units, n_units), n_units at least 1")
    check_units(J.shape[0])
    if b_name := names.one("b"):
        b = _vector("b", arrays[b_name])
    elif is_sparse:  # scipy.sparse.save_npz has no place for any
        b, description["biases"] = np.zeros(J.shape[0]), "none in the file: zero"
        description["assumed"] = [*description.get("assumed", []), "no biases"]
    else:
        raise DataError("has no b; give J and b")
    if b.shape != J.shape[:1]:
        raise DataError(f"b has shape {b.shape}, J has shape {J.shape}; give b of shape (n_units,)")
    bonds, couplings = pairs_once(J.row, J.column, real_array("J", J.value))
    used = [J_name, *names.of("b", "mask weights")]
    return from_bonds(bonds, couplings, b, constant, description), used


# --- machines of two sides ------------------------------------------------------------------------------------


def _bipartite(
    names: _Names, arrays: Arrays, wanted: str, known: str | None, constant: float, description: dict[str, Any]
) -> tuple[Reading, list[str], str]:
    """Return the machine of W and a pair of biases, the names of what it was made of, and that of W."""
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
    """Return the side whose units the rows of W are; DataError if the file leaves that open."""
    if wanted != "auto":
        return wanted
    fits = {"left": W.shape == (n_left, n_right), "right": W.shape == (n_right, n_left)}
    certain = known or ROWS.get((name, pair[0]))
    if all(fits.values()) and W.shape != (1, 1) and certain is None:
        raise DataError(
            f"{name} is square, and {' and '.join(pair)} leave open whose units its rows are; "
            "give --rows left or right"
        )
    return certain if certain and fits[certain] else "right" if fits["right"] and not fits["left"] else "left"


def _masked(names: _Names, arrays: Arrays, parts: dict[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], list[str]]:
    """Return W and both biases with their masks applied, and the names of these masks."""
    if names.of("mask"):
        raise DataError(f"has {names.of('mask')[0]}, and does not say what it masks; apply it, and leave it out")
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
    """Return W, biases and constant of v'Wh + ... with v - o_v for v and h - o_h for h, multiplied out."""
    W, b, c = real_array("W", W), real_array("biases", left), real_array("biases", right)
    of_left, of_right = centres
    for side, offsets, biases in (("visible", of_left, b), ("hidden", of_right, c)):
        if offsets.shape != biases.shape:
            raise DataError(
                f"{side} offsets have shape {offsets.shape}, their biases {biases.shape}; give both the same shape"
            )
    if W.shape != (len(b), len(c)):
        return W, b, c, constant  # which is refused with its shape
    constant += float(of_left @ W @ of_right - b @ of_left - c @ of_right)
    return W, b - W @ of_right, c - of_left @ W, constant


def _weights(names: _Names, arrays: Arrays) -> str:
    """Return the one name of weights that is there."""
    found = names.of("weights")
    if len(found) != 1:
        problem = f"has both {' and '.join(found[:2])}" if found else "has no W"
        raise DataError(f"{problem}; {ADVICE}")
    shape = getattr(arrays[found[0]], "shape", ())
    for name in names.of("layer"):
        if (other := getattr(arrays[name], "shape", ())) != shape:
            raise DataError(
                f"has {name} of shape {other} beside {found[0]} of shape {shape}: further layers, another model "
                f"than this computes; if it is something else, leave {name} out"
            )
    return found[0]


def _pair(names: _Names) -> tuple[str, str]:
    """Return the one pair of biases that is there."""
    sides, single = (names.of("left"), names.of("right")), {n: names.of(n) for n in ("a", "b", "c")}
    there = sorted([*sides[0], *sides[1], *(name for held in single.values() for name in held)])
    pairs = [(left, right) for left in sides[0] for right in sides[1] or names.of("bias")]
    pairs += [(single[a][0], single[b][0]) for a, b in SINGLES if single[a] and single[b]]
    if len(pairs) == 1 and set(there) <= set(pairs[0]):
        return pairs[0]
    if there and not pairs:
        names_of_pairs = [pair for pair in PAIRS if {plain(n) for n in pair} & {plain(n) for n in there}]
        missing = next((n for n in (names_of_pairs or PAIRS)[0] if plain(n) not in map(plain, there)), "b_right")
        raise DataError(f"has {' and '.join(there)} but no {missing}; give both, zeros if need be")
    problem = f"has biases {', '.join(there)}" if there else "has no b_left"
    raise DataError(f"{problem}; give one pair: {', '.join(' and '.join(pair) for pair in PAIRS)}")


# --- values ---------------------------------------------------------------------------------------------------


def _mask(name: str, mask: Array | str, shape: tuple[int, ...], of: str) -> Float:
    """Return a mask of zeros and ones; DataError if it is none, or of another shape."""
    values = real_array(name, _values(name, mask))
    if values.ndim == 2 and 1 in values.shape and len(shape) == 1:
        values = values.ravel()
    if values.shape != shape:
        raise DataError(
            f"{name} has shape {values.shape}, {of} has shape {shape}; give both the same shape, or leave it out"
        )
    if not ((values == 0) | (values == 1)).all():
        raise DataError(f"{name} is no mask of zeros and ones; multiply it into {of}, and leave it out")
    return values


def _vector(name: str, array: Array | str) -> NDArray[Any]:
    """Return a bias with one axis; others give it two, one of them of length 1, or none if it is one number."""
    values = _values(name, array)
    return values.ravel() if values.ndim == 0 or (values.ndim == 2 and 1 in values.shape) else values


def _values(name: str, array: Array | str) -> NDArray[Any]:
    """Return an array, a sparse matrix as a full one if that is of reasonable size."""
    if isinstance(array, str):
        raise DataError(f"{name} is a text; give an array of numbers")
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


def _number(name: str, array: Array | str) -> float:
    """Return an array that is one number."""
    values = real_array(name, _values(name, array))
    if values.size != 1:
        raise DataError(f"{name} has shape {values.shape}; give one number")
    return float(values.reshape(()))


def _type(array: Array | str) -> str:
    """Return an array's type, as a result names it."""
    return (
        "text"
        if isinstance(array, str)
        else str(array.value.dtype if isinstance(array, Coordinates) else array.dtype)
    )
