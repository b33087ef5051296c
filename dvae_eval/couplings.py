"""Tables of couplings: arrays if they are small or full, SciPy compressed rows if few entries are nonzero.

A graph of 5000 units with 40 000 bonds has a table of 200 MB, all but 0.3 % of it zeros.  Both kinds multiply
vectors with `@`, have `shape` and `T`, and support `abs`; the functions here cover what they do not share.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float

Table = Any  # a float64 array or a scipy.sparse.csr_array, which lacks type annotations

# A table of at most SMALL entries is always an array; a larger one only if at least this share is nonzero.
SMALL, SPARSE_FILL = 1 << 20, 0.05
# A machine with a smaller share of all possible couplings is swept neighbour by neighbour.
DENSE_FILL = 0.1
DIGEST_ENTRIES = 1 << 20  # entries added to a digest at a time


def needs_rows(n_rows: int, n_columns: int, n_values: int) -> bool:
    """Return whether a table with `n_values` nonzero values is stored as compressed rows."""
    return n_rows * n_columns > SMALL and n_values < SPARSE_FILL * n_rows * n_columns


def table_of(
    shape: tuple[int, int], row: NDArray[np.integer[Any]], column: NDArray[np.integer[Any]], value: Float
) -> Table:
    """Return the table of these entries, each place at most once, with zeros elsewhere."""
    if needs_rows(*shape, len(value)):
        from scipy.sparse import csr_array  # imported here so that commands start fast

        rows = csr_array((value, (row, column)), shape)
        rows.sort_indices()
        return rows
    table = np.zeros(shape)
    table[row, column] = value
    return table


def compact(table: Float) -> Table:
    """Return an array unchanged, or as compressed rows if these need less memory."""
    n_rows, n_columns = table.shape
    if table.size <= SMALL or not needs_rows(n_rows, n_columns, int(np.count_nonzero(table))):
        return table
    row, column = np.nonzero(table)
    return table_of((n_rows, n_columns), row, column, table[row, column])


def is_full(table: Table) -> TypeGuard[Float]:
    """Return whether a table is an array."""
    return isinstance(table, np.ndarray)


def as_array(table: Table) -> Float:
    """Return a table as an array, however much memory it needs."""
    array: Float = table if is_full(table) else table.toarray()
    return array


def entries(table: Table) -> tuple[NDArray[np.intp], Float]:
    """Return places (n, 2) and values of the nonzero entries, row by row."""
    if is_full(table):
        places = np.argwhere(table)
        return places, table[places[:, 0], places[:, 1]]
    rows = table.tocsr().sorted_indices().tocoo()
    kept = rows.data != 0
    return np.column_stack([axis[kept].astype(np.intp) for axis in rows.coords]), rows.data[kept]


def n_entries(table: Table) -> int:
    """Return the number of nonzero entries."""
    return int(np.count_nonzero(table)) if is_full(table) else int(table.count_nonzero())


def is_dense(table: Table) -> bool:
    """Return whether a machine is swept faster by whole tables than neighbour by neighbour."""
    return bool(n_entries(table) > DENSE_FILL * math.prod(table.shape))


def n_bytes(table: Table) -> int:
    """Return the bytes of memory that a table takes."""
    arrays = (table,) if is_full(table) else (table.data, table.indices, table.indptr)
    return sum(array.nbytes for array in arrays)


def part_of(table: Table, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Table:
    """Return the part of a table with these rows and columns."""
    return table[np.ix_(rows, columns)]


def transposed(table: Table) -> Table:
    """Return the transposed table."""
    return np.ascontiguousarray(table.T) if is_full(table) else table.T.tocsr().sorted_indices()


def used(table: Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows and which columns have a nonzero entry."""
    if is_full(table):
        return np.asarray(table.any(1)), np.asarray(table.any(0))
    places, marks = entries(table)[0], [np.zeros(n, bool) for n in table.shape]
    for mark, ends in zip(marks, places.T, strict=True):
        mark[ends] = True
    return marks[0], marks[1]


def add_to_digest(digest: hashlib._Hash, table: Table) -> None:
    """Add the float64 bytes of all entries, zeros included, some rows at a time."""
    step = max(1, DIGEST_ENTRIES // max(1, table.shape[1]))
    for start in range(0, table.shape[0], step):
        rows = as_array(table[start : start + step])
        digest.update(np.ascontiguousarray(rows, dtype="<f8").tobytes())
