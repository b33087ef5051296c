"""Sparse matrices as their entries, from the compressed rows or columns that files hold them in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.types import Index

LIMIT_ENTRIES = 1 << 26  # of a sparse matrix; they are sorted, and take more room than they have in the file


class Coordinates(NamedTuple):
    """A sparse matrix: its shape, and the places and values of the entries that are kept."""

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
        The matrix, for error messages.
    shape : (int, int)
    indptr : int, shape (n_lines + 1,)
        Where each column, or row, begins in `indices`; the last one ends with the entries.
    indices : int, shape (n_entries,)
        Place of each entry within its column, or row.
    value : shape (n_entries,)
    by_row : bool

    Raises
    ------
    DataError
        If the parts do not fit together, an entry lies outside the shape, or there are too many.
    """
    from scipy.sparse import csc_array, csr_array

    indptr, indices = whole_numbers(f"indptr of {name}", indptr), whole_numbers(f"indices of {name}", indices)
    check_entries(max(len(indptr), len(indices)))
    try:
        # The places alone: SciPy would convert some types of values.
        places = (np.zeros(value.shape, np.int8), indices, indptr)
        matrix = (csr_array if by_row else csc_array)(places, shape=shape)
        matrix.check_format()
        if matrix.nnz != len(indices):
            raise ValueError(f"{matrix.nnz} of {len(indices)} entries are in a line")
    except ValueError as error:
        problem = f"{name} has lines that do not fit its entries, or an entry outside its shape ({error})"
        raise DataError(f"{problem}; save it again") from error
    found = matrix.tocoo(copy=False)
    return Coordinates(shape, found.row.astype(np.int64), found.col.astype(np.int64), value)


def whole_numbers(name: str, array: NDArray[Any]) -> Index:
    """Return a vector of whole numbers; DataError if it is none."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(f"{name} is {array.dtype} of shape {array.shape}, no list of whole numbers; save it again")
    return array.astype(np.int64)


def check_entries(n_entries: int) -> None:
    """Raise DataError if a sparse matrix has more entries than a model plausibly does."""
    if n_entries > LIMIT_ENTRIES:
        raise DataError(f"a sparse matrix of more than {LIMIT_ENTRIES} entries or columns")


def each_once(name: str, matrix: Coordinates) -> Coordinates:
    """Return a matrix whose entries have a place each; DataError if two share one."""
    if len(np.unique(_places(matrix))) != len(matrix.row):
        raise DataError(f"{name} has one place twice; save it again")
    return matrix


def added(name: str, matrix: Coordinates) -> Coordinates:
    """Return a matrix with the entries of one place added, as SciPy does."""
    place, inverse = np.unique(_places(matrix), return_inverse=True)
    if len(place) == len(matrix.row):
        return matrix
    if matrix.value.dtype.kind == "c":
        raise DataError(f"{name} is of type {matrix.value.dtype}; give real numbers")
    row, column = np.divmod(place, matrix.shape[1])
    return Coordinates(matrix.shape, row, column, np.bincount(inverse, matrix.value, len(place)))


def _places(matrix: Coordinates) -> Index:
    """Return the number of every entry's place, row by row."""
    return matrix.row * matrix.shape[1] + matrix.column
