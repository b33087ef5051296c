"""Sparse matrices as lists of entries, from the compressed rows or columns in files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.types import Index

LIMIT_ENTRIES = 1 << 26  # per sparse matrix; sorting them takes more memory than they take in the file


class Coordinates(NamedTuple):
    """A sparse matrix: its shape, and the rows, columns and values of its entries."""

    shape: tuple[int, int]
    row: Index
    column: Index
    value: NDArray[Any]


def from_compressed(
    name: str,
    shape: tuple[int, int],
    indptr: NDArray[Any],
    indices: NDArray[Any],
    value: NDArray[Any],
    *,
    by_row: bool = False,
) -> Coordinates:
    """Return the entries of a matrix that is stored column by column, or row by row, in the order of the file.

    Parameters
    ----------
    name : str
        Name of the matrix, for error messages.
    shape : (int, int)
    indptr : int, shape (n_lines + 1,)
        Start of each column, or row, in `indices`, and the number of entries.
    indices : int, shape (n_entries,)
        Position of each entry within its column, or row.
    value : shape (n_entries,)
    by_row : bool
        Whether the matrix is stored row by row.

    Raises
    ------
    DataError
        If the parts do not fit together, an entry lies outside the shape, or there are too many.
    """
    from scipy.sparse import csc_array, csr_array

    indptr, indices = whole_numbers(f"indptr of {name}", indptr), whole_numbers(f"indices of {name}", indices)
    check_entries(max(len(indptr), len(indices)))
    try:
        # Without the values, because SciPy would convert some dtypes.
        places = (np.zeros(value.shape, np.int8), indices, indptr)
        matrix = (csr_array if by_row else csc_array)(places, shape=shape)
        matrix.check_format()
        if matrix.nnz != len(indices):
            raise ValueError(f"{matrix.nnz} of {len(indices)} entries are in a line")
    except ValueError as error:
        problem = f"{name} has an index that does not fit its entries, or an entry outside its shape ({error})"
        raise DataError(f"{problem}; save it again") from error
    found = matrix.tocoo(copy=False)
    return Coordinates(shape, found.row.astype(np.int64), found.col.astype(np.int64), value)


def whole_numbers(name: str, array: NDArray[Any]) -> Index:
    """Return a vector of integers as int64; DataError if the array is not one."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{name} has dtype {array.dtype} and shape {array.shape}, and is no vector of integers; save it again"
        )
    return array.astype(np.int64)


def check_entries(n_entries: int) -> None:
    """Raise DataError if a sparse matrix has more entries than the limit."""
    if n_entries > LIMIT_ENTRIES:
        raise DataError(f"has a sparse matrix of more than {LIMIT_ENTRIES} entries or columns; give a smaller one")


def each_once(name: str, matrix: Coordinates) -> Coordinates:
    """Return the matrix; DataError if two entries are for the same place."""
    if len(np.unique(_places(matrix))) != len(matrix.row):
        raise DataError(f"{name} has two entries for the same place; save it again")
    return matrix


def added(name: str, matrix: Coordinates) -> Coordinates:
    """Return a matrix with the entries for the same place added, as in SciPy."""
    place, inverse = np.unique(_places(matrix), return_inverse=True)
    if len(place) == len(matrix.row):
        return matrix
    if matrix.value.dtype.kind == "c":
        raise DataError(f"{name} has dtype {matrix.value.dtype}; save real numbers")
    row, column = np.divmod(place, matrix.shape[1])
    return Coordinates(matrix.shape, row, column, np.bincount(inverse, matrix.value, len(place)))


def _places(matrix: Coordinates) -> Index:
    """Return the row-major index of every entry."""
    return matrix.row * matrix.shape[1] + matrix.column
