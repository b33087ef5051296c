"""NPZ files of NumPy: named arrays, and sparse matrices as `scipy.sparse.save_npz` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import hint, npz_names, read_npz

from .arrays import KNOWN, Array, read_arrays
from .options import ReadConfig, Reading
from .sparse import Coordinates, added, check_entries, from_compressed, whole_numbers

__all__ = ["read"]

PARTS = ("format", "shape", "data", "indices", "indptr", "row", "col")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of an NPZ file.

    A sparse J goes by the names that `scipy.sparse.save_npz` uses, bare (`data`, `indices`, `indptr`, `shape`,
    `format`; or `row` and `col`) or with J_ before them; biases may stand beside it.
    """
    with hint("save W, b_left and b_right, or J and b, with numpy.savez"):
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
    sizes, value = tuple(whole_numbers("shape of the sparse J", parts["shape"]).tolist()), parts["data"]
    if len(sizes) != 2 or min(sizes) < 0 or max(sizes) > 2**31:
        raise DataError(f"J has shape {sizes}; give (n_units, n_units), n_units at least 1")
    shape = sizes[0], sizes[1]
    if kind != "coo":
        found = from_compressed("J", shape, parts["indptr"], parts["indices"], value, by_row=kind == "csr")
    else:
        found = _coordinates(shape, parts["row"], parts["col"], value)
    return added("J", found)


def _coordinates(
    shape: tuple[int, int], row: NDArray[Any], column: NDArray[Any], value: NDArray[Any]
) -> Coordinates:
    """Return the entries of a matrix that is stored one by one."""
    row, column = whole_numbers("row of the sparse J", row), whole_numbers("col of the sparse J", column)
    check_entries(row.size)
    if not value.shape == row.shape == column.shape:
        raise DataError(f"J has {value.size} entries in {row.size} rows and {column.size} columns; save it again")
    if len(row) and not (0 <= row.min() <= row.max() < shape[0] and 0 <= column.min() <= column.max() < shape[1]):
        raise DataError(f"J has an entry outside its shape {shape}; save it again")
    return Coordinates(shape, row, column, value)
