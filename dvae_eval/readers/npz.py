"""NPZ files of NumPy: named arrays, and sparse matrices as `scipy.sparse.save_npz` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import advice, npz_names, read_npz
from dvae_core.io.matlab import Coordinates, check_entries

from .arrays import KNOWN, Array, read_arrays
from .options import ReadConfig, Reading

__all__ = ["read"]

Whole = NDArray[np.int64]
PARTS = ("format", "shape", "data", "indices", "indptr", "row", "col")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of an NPZ file.

    A sparse J goes by the names that `scipy.sparse.save_npz` uses, bare (`data`, `indices`, `indptr`, `shape`,
    `format`; or `row` and `col`) or with J_ before them; biases may stand beside it.
    """
    with advice("save W, b_left and b_right, or J and b, with numpy.savez"):
        names = set(npz_names(path))
        prefix = next((p for p in ("", "J_") if {f"{p}data", f"{p}shape", f"{p}format"} <= names), None)
        parts = [] if prefix is None else [prefix + part for part in PARTS if prefix + part in names]
        arrays: dict[str, Array] = dict(read_npz(path, [*(KNOWN & names), *parts], kinds="buifcS"))
    if prefix is not None:
        if "J" in arrays:
            raise DataError("has both J and a sparse matrix; give one of them")
        arrays["J"] = _sparse({part.removeprefix(prefix): arrays.pop(part) for part in parts})
    return read_arrays(arrays, config, "NumPy npz")


def _sparse(parts: Mapping[str, Any]) -> Coordinates:
    """Return the matrix of a sparse matrix's parts; entries of one place are added, as SciPy does."""
    kind = bytes(parts["format"].reshape(-1)[:1].astype("S8").tobytes()).rstrip(b"\0").decode("ascii", "replace")
    needed = ("row", "col") if kind == "coo" else ("indptr", "indices") if kind in ("csr", "csc") else None
    if needed is None:
        raise DataError(f"J is a sparse matrix of format {kind!r}; convert it with .tocsr() first")
    if missing := [name for name in needed if name not in parts]:
        raise DataError(f"J is a sparse matrix without {missing[0]}; save it with scipy.sparse.save_npz")
    shape, value = tuple(_whole("shape", parts["shape"]).tolist()), parts["data"]
    if len(shape) != 2 or min(shape) < 0 or max(shape) > 2**31:
        raise DataError(f"J has shape {shape}; give (n_units, n_units), n_units at least 1")
    check_entries(max(parts[name].size for name in needed))
    first, second = (_whole(name, parts[name]) for name in needed)
    if kind != "coo":
        first = _expanded(first, len(second), shape[kind == "csc"])
    row, column = (second, first) if kind == "csc" else (first, second)
    if not value.shape == row.shape == column.shape:
        raise DataError(f"J has {value.size} entries in {row.size} rows and {column.size} columns; save it anew")
    if len(row) and not (0 <= row.min() <= row.max() < shape[0] and 0 <= column.min() <= column.max() < shape[1]):
        raise DataError(f"J has an entry outside its shape {shape}; save it anew")
    return _added(shape, row, column, value)


def _whole(name: str, array: NDArray[Any]) -> Whole:
    """Return a vector of whole numbers."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"{name} of the sparse J is {array.dtype} of shape {array.shape}; save it anew")
    return array.astype(np.int64)


def _expanded(indptr: Whole, n_entries: int, n_lines: int) -> Whole:
    """Return the line of every entry, given where the lines begin."""
    counts = indptr[1:] - indptr[:-1]
    if len(indptr) != n_lines + 1 or indptr[0] != 0 or indptr[-1] != n_entries or (counts < 0).any():
        raise DataError("J has lines that do not fit its entries; save it anew")
    return np.repeat(np.arange(n_lines), counts)


def _added(shape: tuple[int, int], row: Whole, column: Whole, value: NDArray[Any]) -> Coordinates:
    """Return entries with those of one place added."""
    place, inverse = np.unique(row * shape[1] + column, return_inverse=True)
    if len(place) == len(row):
        return Coordinates(shape, row, column, value)
    if value.dtype.kind == "c":
        raise DataError(f"J is of type {value.dtype}; give real numbers")
    return Coordinates(shape, *np.divmod(place, shape[1]), np.bincount(inverse, value, len(place)))
