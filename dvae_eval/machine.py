"""A Boltzmann machine as plain arrays: what the estimators take, whoever made it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.containers import advice, npz_names, read_npz
from dvae_core.errors import DataError

__all__ = ["BipartiteMachine", "load_machine"]

Float = NDArray[np.float64]
ALIASES = {"b_left": ("b_left", "b_visible", "vbias", "b"), "b_right": ("b_right", "c_hidden", "hbias", "c")}


@dataclass(frozen=True, slots=True)
class BipartiteMachine:
    """An RBM over {0,1}: p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h).

    Attributes
    ----------
    W : float64, shape (n_left, n_right)
    b_left, b_right : float64, shape (n_left,), (n_right,)
        In nats.
    """

    W: Float
    b_left: Float
    b_right: Float

    @classmethod
    def from_arrays(cls, W: ArrayLike, b_left: ArrayLike, b_right: ArrayLike) -> BipartiteMachine:
        """Return the machine of these arrays.

        Raises
        ------
        DataError
            If the shapes do not fit together, a side is empty, or a number is complex, nan or infinite.
        """
        w, left, right = (_real(name, a) for name, a in (("W", W), ("b_left", b_left), ("b_right", b_right)))
        if w.ndim != 2 or 0 in w.shape:
            raise DataError(f"W has shape {w.shape}; give (n_left, n_right), both at least 1")
        for name, bias, n in (("b_left", left, w.shape[0]), ("b_right", right, w.shape[1])):
            if bias.shape != (n,):
                raise DataError(
                    f"{name} has shape {bias.shape}, W has shape {w.shape}; give {name} of shape ({n},)"
                )
        return cls(w, left, right)

    @property
    def n_left(self) -> int:
        """Units on the left."""
        return int(self.W.shape[0])

    @property
    def n_right(self) -> int:
        """Units on the right."""
        return int(self.W.shape[1])

    @property
    def sha256(self) -> str:
        """Digest of the parameters' shapes and float64 bytes: the same model, whatever file it came from."""
        digest = hashlib.sha256(f"{self.n_left}x{self.n_right}".encode())
        for array in (self.W, self.b_left, self.b_right):
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def smaller_side_first(self) -> BipartiteMachine:
        """Return the same machine with the sides exchanged if the right one is the smaller."""
        if self.n_left <= self.n_right:
            return self
        return BipartiteMachine(np.ascontiguousarray(self.W.T), self.b_right, self.b_left)

    def description(self) -> dict[str, Any]:
        """Return sizes and digest, for a result's `model`."""
        return {"prior_sha256": self.sha256, "n_left": self.n_left, "n_right": self.n_right}


def load_machine(path: Path) -> BipartiteMachine:
    """Read the machine of an npz file with `W`, `b_left` and `b_right` (or `b_visible`, `c_hidden` and the like).

    Raises
    ------
    DataError
        If the file is missing, damaged, or does not hold such a machine.
    """
    with advice("save W, b_left and b_right with numpy.savez"):
        arrays = read_npz(path, _KNOWN.intersection(npz_names(path)))
    try:
        return BipartiteMachine.from_arrays(
            _pick(arrays, "W", ("W",)), *(_pick(arrays, name, names) for name, names in ALIASES.items())
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


_KNOWN = {"W", *(alias for names in ALIASES.values() for alias in names)}


def _pick(arrays: Mapping[str, NDArray[Any]], name: str, aliases: tuple[str, ...]) -> NDArray[Any]:
    """Return the one array that goes by one of the aliases."""
    found = [alias for alias in aliases if alias in arrays]
    if len(found) != 1:
        problem = f"has both {' and '.join(found)}" if found else f"has no {name}"
        raise DataError(f"{problem}; give exactly one of {', '.join(aliases)}")
    return arrays[found[0]]


def _real(name: str, values: ArrayLike) -> Float:
    """Return `values` as finite float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} is of type {array.dtype}; give real numbers")
    result = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(result).all():
        raise DataError(f"{name} holds nan or infinite values; give finite numbers")
    return result
