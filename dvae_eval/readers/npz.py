"""NPZ files of NumPy: named arrays, and sparse matrices as `scipy.sparse.save_npz` writes them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import hint, npz_names, read_npz

from .arrays import Array
from .options import ReadConfig, Reading
from .sparse import Coordinates, added, check_entries, from_compressed, whole_numbers
from .tree import Lazy, read_tree

ADVICE = "save W, b_left and b_right, or J and b, with numpy.savez"
PARTS = ("format", "shape", "data", "indices", "indptr", "row", "col", "_is_array")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of an NPZ file.

    The parts of a sparse matrix have the names that `scipy.sparse.save_npz` uses (`data`, `indices`, `indptr`,
    `shape`, `format`; or `row` and `col`), alone for J, or after the matrix's name and an underscore (`J_data`).
    Biases may be in the same file.
    """
    with hint(ADVICE):
        names = {name: name for name in npz_names(path)}
    for prefix in [name.removesuffix("data") for name in names if name.endswith("data")]:
        if {f"{prefix}shape", f"{prefix}format"} <= names.keys():
            name = prefix.rstrip("_.") or "J"
            if name in names:
                raise DataError(f"has both {name} and a sparse matrix; keep one of them")
            names = {n: n for n in names if n.removeprefix(prefix) not in PARTS or not n.startswith(prefix)}
            names[name] = f"\0{prefix}"
    return read_tree(Lazy(names, partial(_load, path)), config, "NumPy npz")


@hint(ADVICE)
def _load(path: Path, name: str) -> Array | str:
    """Return an array, a text, or the sparse matrix whose parts have a prefix."""
    if name.startswith("\0"):
        prefix = name[1:]
        parts = [prefix + part for part in PARTS if prefix + part in npz_names(path)]
        found = read_npz(path, parts, kinds="buifcS")
        return _sparse(
            {part.removeprefix(prefix): array for part, array in found.items()}, prefix.rstrip("_.") or "J"
        )
    array = read_npz(path, [name], kinds="buifcSU")[name]
    if array.dtype.kind in "SU" and array.size == 1:
        text = array.reshape(-1)[:1].astype("U")
        # NumPy does not check characters from a damaged file, and Python fails on some of them later.
        if text.itemsize and (text.view(np.uint32) > sys.maxunicode).any():
            raise DataError("contains an invalid text; save the file again")
        return str(text[0])
    return array


def _sparse(parts: Mapping[str, Any], name: str) -> Coordinates:
    """Return the sparse matrix with these parts; entries for the same place are added, as in SciPy."""
    kind = bytes(parts["format"].reshape(-1)[:1].astype("S8").tobytes()).rstrip(b"\0").decode("ascii", "replace")
    needed = ("row", "col") if kind == "coo" else ("indptr", "indices") if kind in ("csr", "csc") else None
    if needed is None:
        raise DataError(f"{name} is a sparse matrix of format {kind!r}; convert it with .tocsr() first")
    if missing := [part for part in needed if part not in parts]:
        raise DataError(f"{name} is a sparse matrix without {missing[0]}; save it with scipy.sparse.save_npz")
    sizes, value = tuple(whole_numbers(f"shape of the sparse {name}", parts["shape"]).tolist()), parts["data"]
    if len(sizes) != 2 or min(sizes) < 0 or max(sizes) > 2**31:
        raise DataError(f"{name} has shape {sizes}; give shape (n_units, n_units) with n_units at least 1")
    shape = sizes[0], sizes[1]
    if kind != "coo":
        found = from_compressed(name, shape, parts["indptr"], parts["indices"], value, by_row=kind == "csr")
    else:
        found = _coordinates(name, shape, parts["row"], parts["col"], value)
    return added(name, found)


def _coordinates(
    name: str, shape: tuple[int, int], row: NDArray[Any], column: NDArray[Any], value: NDArray[Any]
) -> Coordinates:
    """Return a matrix that is stored as a list of entries."""
    row, column = (
        whole_numbers(f"row of the sparse {name}", row),
        whole_numbers(f"col of the sparse {name}", column),
    )
    check_entries(row.size)
    if not value.shape == row.shape == column.shape:
        raise DataError(
            f"{name} has {value.size} entries in {row.size} rows and {column.size} columns; save it again"
        )
    if len(row) and not (0 <= row.min() <= row.max() < shape[0] and 0 <= column.min() <= column.max() < shape[1]):
        raise DataError(f"{name} has an entry outside its shape {shape}; save it again")
    return Coordinates(shape, row, column, value)
