"""A strict reader of MATLAB files of version 4: named matrices of numbers, full or sparse, and texts.

A file is a sequence of matrices, each with a header of five integers, a name, and the numbers column by column
(MathWorks, *MAT-File Format*, appendix).  The header has MOPT (byte order, 0, type of number, type of matrix),
rows, columns, whether there is an imaginary part, and the length of the name with its terminating zero.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.io import containers

from .arrays import Array
from .names import role
from .options import ReadConfig, Reading
from .sparse import Coordinates, added, whole_numbers
from .tree import MAX_NAMES, read_tree

HEADER, LONGEST_NAME = 20, 64
STORED = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
FULL, TEXT, SPARSE = 0, 1, 2
NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\0")


def is_mat(start: bytes) -> bool:
    """Return whether a file that begins with these bytes is of version 4: a header and a valid name."""
    for order in "<>":
        if len(start) > HEADER:
            mopt, _, _, imaginary, length = struct.unpack_from(f"{order}5I", start)
            sound = mopt < 5000 and mopt // 100 % 10 == 0 and mopt % 10 <= SPARSE and mopt // 10 % 10 in STORED
            is_name = 1 < length <= LONGEST_NAME and NAME.fullmatch(start[HEADER : HEADER + length])
            if sound and (mopt >= 1000) == (order == ">") and imaginary <= 1 and is_name:
                return True
    return False


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a MATLAB file of version 4."""
    with containers.hint("save W, b_left and b_right, or J and b, with -v7"):
        variables = read_variables(path)
    return read_tree(variables, config, "MATLAB 4")


def read_variables(path: Path) -> dict[str, Array | str]:
    """Return the matrices and texts of a file; DataError if it is damaged, or has a name twice."""
    with containers.reading(path, "MATLAB"):
        containers.check_size(path.stat().st_size, str(path))
        found: dict[str, Array | str] = {}
        for name, value in _matrices(path.read_bytes()):
            if name in found or len(found) >= MAX_NAMES:
                raise ValueError(f'array "{name}" is there twice')
            found[name] = value
        return found


def _matrices(content: bytes) -> Iterator[tuple[str, Array | str]]:
    """Yield the matrices of a file with their names, in order."""
    place = 0
    while place < len(content):
        if not is_mat(content[place : place + HEADER + LONGEST_NAME + 1]):
            raise ValueError("a matrix does not begin with a header and a name of MATLAB 4")
        order = "<" if struct.unpack_from("<I", content, place)[0] < 5000 else ">"
        mopt, rows, columns, imaginary, length = struct.unpack_from(f"{order}5I", content, place)
        name = content[place + HEADER : place + HEADER + length - 1].decode("ascii")
        dtype = np.dtype(order + STORED[mopt // 10 % 10])
        n_bytes = rows * columns * dtype.itemsize * (1 + imaginary)
        start = place + HEADER + length
        if n_bytes > len(content) - start:
            raise ValueError(f'array "{name}" claims {n_bytes} bytes, but {len(content) - start} are left')
        values = np.frombuffer(content, dtype, rows * columns, start).reshape((rows, columns), order="F")
        values = np.ascontiguousarray(values.astype(dtype.newbyteorder("=")))
        place = start + n_bytes
        if mopt % 10 != TEXT or role(name) == "kind":  # other texts do not determine the machine
            yield name, _meant(name, values, mopt % 10, bool(imaginary))


def _meant(name: str, values: NDArray[Any], kind: int, imaginary: bool) -> Array | str:
    """Return a matrix as the kind that its header declares."""
    if imaginary:  # a placeholder; complex arrays are refused where they are used
        return np.broadcast_to(np.complex128(0), values.shape)
    if kind == TEXT:
        return "".join(chr(int(letter)) for letter in values.ravel()[:1000] if 0 < letter < 0xD800)
    if kind == FULL:
        return values
    # Rows of a sparse matrix are row, column (from 1) and value; the last of them is its shape.
    if values.ndim != 2 or values.shape[1] != 3 or len(values) == 0 or not (np.mod(values[:, :2], 1) == 0).all():
        raise ValueError(f'array "{name}" is not a valid sparse matrix')
    places = whole_numbers(name, values[:, :2].astype(np.int64).ravel()).reshape(-1, 2)
    (n_rows, n_columns), places = places[-1].tolist(), places[:-1] - 1
    if not (0 <= n_rows <= 2**31 and 0 <= n_columns <= 2**31):
        raise ValueError(f'array "{name}" has the shape {n_rows} x {n_columns}')
    if len(places) and not (places.min() >= 0 and (places < (n_rows, n_columns)).all()):
        raise ValueError(f'array "{name}" has an entry outside its shape')
    return added(name, Coordinates((n_rows, n_columns), places[:, 0], places[:, 1], values[:-1, 2]))
