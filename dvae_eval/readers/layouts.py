"""Machines that are not stored as W or J with biases: those of D-Wave, kaiwu and CaloQuVAE.

Signs and units are those of the public source code; each is tested against energies written from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.files import sha256_file, to_utf8
from dvae_core.types import Float

from ..machine import check_units, real_array
from .arrays import Array, Arrays, left_aside
from .graph_file import read_edges
from .names import role
from .options import ReadConfig, Reading, from_bonds, from_sides
from .sparse import Coordinates

TypeOf = Callable[[str], str] | None


@dataclass(frozen=True, slots=True)
class Layout:
    """A way of storing a machine.

    Attributes
    ----------
    fits : callable
        Returns whether values of these names have this layout.
    read : callable
        Returns the reading, given the values, the options, the format's name and a function for an array's dtype.
    """

    fits: Callable[[set[str]], bool]
    read: Callable[[Arrays, ReadConfig, str, TypeOf], Reading]


def _of(name: str, value: Array | str) -> NDArray[Any]:
    """Return a full array; DataError for a text or a sparse matrix."""
    if isinstance(value, str | Coordinates):
        raise DataError(f"{name} is not a full array of numbers; save the state dict again")
    return value


def _type(arrays: Arrays, name: str, dtype: TypeOf) -> str:
    """Return the dtype of an array in the file."""
    return dtype(name) if dtype else str(_of(name, arrays[name]).dtype)


def _name_the_rest(arrays: Arrays, used: set[str], reading: Reading) -> Reading:
    """List the ignored values in a reading's description; DataError if one would change the model."""
    for name in sorted(set(arrays) - used):
        if (found := role(name)).startswith(("mask", "offset", "other")):
            raise DataError(f"has {name} ({found}), which is not part of this format; apply it, and leave it out")
    left_aside([name for name in arrays if name not in used and role(name) != "harmless"], reading.description)
    return reading


# --- D-Wave: GraphRestrictedBoltzmannMachine ------------------------------------------------------------------

# Names since version 0.2 of the plugin, and in 0.1; the other stored arrays follow from these.
GRAPH_RESTRICTED = (
    ("_linear", "_quadratic", "_edge_idx_i", "_edge_idx_j"),
    ("h", "J", "edge_idx_i", "edge_idx_j"),
)
WITHOUT_EDGES = (("_linear", "_quadratic"), ("linear", "quadratic"))
DERIVED = {"visible_idx", "hidden_idx", "flat_adj", "flat_j_idx", "jidx", "bin_idx"}
DERIVED = DERIVED | {f"_{name}" for name in DERIVED}


def _fits_graph_restricted(names: set[str]) -> bool:
    return any(names.issuperset(needed) for needed in (*GRAPH_RESTRICTED, *WITHOUT_EDGES))


def _graph_restricted(arrays: Arrays, config: ReadConfig, format: str, dtype: TypeOf) -> Reading:
    """Return the machine of p(s) ∝ exp(-β (h's + Σ_(i,j) J_ij s_i s_j)), s in {-1,+1}.

    The sign is that of its training: `quasi_objective` descends mean E(data) - mean E(model), and the mean of a
    hidden spin is -tanh of its field.  β is 1 by default, because the plugin divides the parameters by a
    sampler's β before it samples, so that the samples have β = 1.
    """
    if not any(set(arrays) >= set(names) for names in GRAPH_RESTRICTED):
        return _graph_from_elsewhere(arrays, config, format, dtype)
    names = next(names for names in GRAPH_RESTRICTED if set(arrays) >= set(names))
    config.reject_unused("D-Wave's plugin", "beta")
    h, J, i, j = (_of(name, arrays[name]) for name in names)
    if i.dtype.kind not in "iu" or j.dtype.kind not in "iu" or i.ndim != 1 or i.shape != j.shape:
        raise DataError(f"{names[2]} and {names[3]} are not lists of nodes; save the state dict again")
    h, J = real_array(names[0], h), real_array(names[1], J)
    ranges = {"h_range", "j_range"} if {"h_range", "j_range"} <= set(arrays) else set()
    if ranges:  # version 0.1 clips before it evaluates
        h = np.clip(h, *_range(arrays["h_range"]))
        J = np.clip(J, *_range(arrays["j_range"]))
    description = {
        "format": f"D-Wave GraphRestrictedBoltzmannMachine ({format})",
        "units": "pm1",
        "dtype": _type(arrays, names[1], dtype),
        "beta": config.beta,
    }
    reading = from_bonds(np.column_stack((i, j)), -config.beta * J, -config.beta * h, 0.0, description)
    return _name_the_rest(arrays, {*names, *ranges, *DERIVED}, reading)


def _graph_from_elsewhere(arrays: Arrays, config: ReadConfig, format: str, dtype: TypeOf) -> Reading:
    """Return the machine of a state dict without edges; the edges come from the file of `--graph`."""
    if not config.graph:
        raise DataError(
            "has the biases and couplings of a GraphRestrictedBoltzmannMachine without its edges; give the edges "
            "in the order of the couplings: --graph FILE, with a line 'i j' per edge"
        )
    config.reject_unused("D-Wave's plugin", "beta", "graph")
    names = next(names for names in WITHOUT_EDGES if set(arrays) >= set(names))
    h, J = (real_array(name, _of(name, arrays[name])) for name in names)
    if h.ndim != 1 or J.ndim != 1:
        raise DataError(f"{names[0]} has shape {h.shape}, {names[1]} {J.shape}; save the state dict again")
    path = Path(config.graph)
    try:
        edges = read_edges(path)
        ends, digest = edges.ends(len(h), len(J)), sha256_file(path)
    except DataError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise DataError(f"--graph {to_utf8(path)}: {text}") from error
    description = {
        "format": f"D-Wave GraphRestrictedBoltzmannMachine ({format})",
        "units": "pm1",
        "dtype": _type(arrays, names[1], dtype),
        "beta": config.beta,
        "graph": {"file": to_utf8(path), "sha256": digest, "edges": len(ends)},
    }
    reading = from_bonds(ends, -config.beta * J, -config.beta * h, 0.0, description, edges.labels)
    return _name_the_rest(arrays, {*names, *DERIVED}, reading)


def _range(value: Array | str) -> Float:
    """Return the smallest and the largest allowed value of a parameter, which may be infinite."""
    limits: Float = _of("range", value).astype(np.float64)
    if limits.shape != (2,) or not limits[0] <= limits[1]:
        raise DataError("has an invalid range of parameters; save the state dict again")
    return limits


# --- kaiwu-pytorch-plugin -------------------------------------------------------------------------------------


def _fits_kaiwu(names: set[str]) -> bool:
    return {"quadratic_coef", "linear_bias"} <= names


def _kaiwu(arrays: Arrays, config: ReadConfig, format: str, dtype: TypeOf) -> Reading:
    """Return the machine of p(x) ∝ exp(b'x + Σ Q_ij x_i x_j), x in {0,1}; the energy there is minus the exponent.

    If the number of biases is the sum of Q's rows and columns, it is an RBM, visible units first.  If it is the
    number of rows, it is a Boltzmann machine that uses the upper triangle of Q.
    """
    config.reject_unused("kaiwu's plugin")
    if gaussian := sorted({"mu", "log_var"} & set(arrays)):
        raise DataError(f"has {gaussian[0]}: Gaussian units, an unsupported kind of model; give a binary machine")
    Q, b = (real_array(name, _of(name, arrays[name])) for name in ("quadratic_coef", "linear_bias"))
    description: dict[str, Any] = {"units": "01", "dtype": _type(arrays, "quadratic_coef", dtype)}
    if Q.ndim == 2 and b.ndim == 1 and len(b) == sum(Q.shape):
        description["format"] = f"kaiwu RestrictedBoltzmannMachine ({format})"
        reading = from_sides(Q, b[: len(Q)], b[len(Q) :], 0.0, description)
    elif Q.ndim == 2 and Q.shape[0] == Q.shape[1] == b.size and b.ndim == 1:
        check_units(len(b))
        description["format"] = f"kaiwu BoltzmannMachine ({format})"
        i, j = np.nonzero(np.triu(Q, 1))
        reading = from_bonds(np.column_stack((i, j)), Q[i, j], b, 0.0, description)
        if np.tril(Q).any():
            left_aside(["quadratic_coef on and below the diagonal"], description)
    else:
        raise DataError(f"quadratic_coef has shape {Q.shape}, linear_bias {b.shape}; save the state dict again")
    return _name_the_rest(arrays, {"quadratic_coef", "linear_bias"}, reading)


# --- CaloQuVAE: a prior of four partitions --------------------------------------------------------------------

_PAIR = re.compile(r"(_?weight_dict\.|weight_|_?weight_mask_dict\.|weight_mask_)([0-9])([0-9])")
_PARTITION = re.compile(r"(?:_?bias_dict\.|bias_)([0-9])")


def _fits_partite(names: set[str]) -> bool:
    weights = {found[2] + found[3] for name in names if (found := _PAIR.fullmatch(name)) and "mask" not in name}
    return len(weights) > 0 and sum(bool(_PARTITION.fullmatch(name)) for name in names) > 1


def _partite(arrays: Arrays, config: ReadConfig, format: str, dtype: TypeOf) -> Reading:
    """Return the machine of p(x) ∝ exp(Σ_a b_a'x_a + Σ_{a<b} x_a'(W_ab * M_ab)x_b), x in {0,1}, M_ab a mask."""
    config.reject_unused("CaloQuVAE")
    biases: dict[str, Float] = {}
    weights: dict[tuple[str, str], Float] = {}
    masks: dict[tuple[str, str], Float] = {}
    used: list[str] = []
    for name in arrays:
        if found := _PARTITION.fullmatch(name):
            biases[found[1]] = real_array(name, _of(name, arrays[name]))
            used.append(name)
        elif found := _PAIR.fullmatch(name):
            kept = masks if "mask" in found[1] else weights
            kept[found[2], found[3]] = real_array(name, _of(name, arrays[name]))
            used.append(name)
    order = sorted(biases)
    start = dict(zip(order, np.cumsum([0, *(biases[a].size for a in order)]).tolist(), strict=False))
    check_units(sum(bias.size for bias in biases.values()))
    ends, couplings = [], []
    for (a, b), W in sorted(weights.items()):
        if a == b or not {a, b} <= biases.keys() or W.shape != (biases[a].size, biases[b].size):
            raise DataError(
                f"the couplings of partitions {a} and {b} have shape {W.shape}, which does not fit their biases; "
                "save the state dict again"
            )
        mask = masks.get((a, b), np.ones(W.shape))
        if mask.shape != W.shape or not ((mask == 0) | (mask == 1)).all():
            raise DataError(
                f"the mask of partitions {a} and {b} has values other than 0 and 1, or not the shape {W.shape}; "
                "save the state dict again"
            )
        i, j = np.nonzero(W * mask)
        ends.append(np.column_stack((start[a] + i, start[b] + j)))
        couplings.append(W[i, j])
    if len(weights) > len(order) * (len(order) - 1) // 2 or not set(masks) <= set(weights):
        raise DataError("has the couplings or the mask of two partitions twice; save the state dict again")
    first = next(name for name in used if "weight" in name)
    description = {"format": f"CaloQuVAE prior of {len(order)} partitions ({format})", "units": "01"}
    description["dtype"] = _type(arrays, first, dtype)
    every = np.concatenate([biases[partition].ravel() for partition in order])
    reading = from_bonds(np.concatenate(ends), np.concatenate(couplings), every, 0.0, description)
    return _name_the_rest(arrays, set(used), reading)


LAYOUTS = (
    Layout(_fits_graph_restricted, _graph_restricted),
    Layout(_fits_kaiwu, _kaiwu),
    Layout(_fits_partite, _partite),
)
