"""Strict readers of the files that images come in: NPY and NPZ, IDX, text of zeros and ones, MATLAB.

Each returns arrays or raises a DataError of one line that names the file; none executes what a file holds,
and none allocates more than `LIMIT_BYTES` for an array, whatever a header claims.
"""

from __future__ import annotations

import gzip
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

__all__ = ["LIMIT_BYTES", "advice", "npz_names", "read_amat", "read_idx", "read_mat", "read_npy", "read_npz"]

LIMIT_BYTES = 2**31  # one array, uncompressed; MNIST in float64 is a quarter of it

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What the standard library, NumPy and SciPy raise on damaged files (RuntimeError: an encrypted archive;
# SyntaxError and TokenError: an NPY header, which is a Python literal).
_DAMAGE = (
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def advice(what_to_do: str) -> Iterator[None]:
    """Append what to do to the message of a DataError that the block raises."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; {what_to_do}") from error


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in an NPZ file."""
    with _reading(path, "NPZ"), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of an NPZ file, numbers or booleans of any shape."""
    arrays = {}
    with _reading(path, "NPZ"), zipfile.ZipFile(path) as archive:
        for name in names:
            if f"{name}.npy" not in archive.namelist():
                raise DataError(f'{path}: holds no array "{name}"')
            with archive.open(f"{name}.npy") as stream:
                size = archive.getinfo(f"{name}.npy").file_size
                arrays[name] = _read_array(stream, size, f'{path}, array "{name}"')
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an NPY file, numbers or booleans of any shape."""
    with _reading(path, "NPY"), path.open("rb") as stream:
        return _read_array(stream, path.stat().st_size, str(path))


def read_idx(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """Return the array of bytes with `n_axes` axes that an IDX file, plain or gzipped, holds."""
    with _reading(path, "IDX"), _open(path) as stream:
        if stream.read(4) != bytes([0, 0, 8, n_axes]):
            raise DataError(f"{path}: not an IDX file of bytes with {n_axes} axes")
        shape = struct.unpack(f">{n_axes}I", stream.read(4 * n_axes))
        size = math.prod(shape)
        _check_size(size, str(path))
        content = stream.read(size + 1)
    if len(content) != size:
        raise DataError(f"{path}: not exactly the {size} values that its header promises; it may be truncated")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_amat(path: Path, n_columns: int) -> NDArray[np.uint8]:
    """Return the (n, n_columns) array of a text file, plain or gzipped, of zeros and ones between blanks."""
    with _reading(path, "text"), _open(path) as stream:
        content = np.frombuffer(stream.read(LIMIT_BYTES + 1), np.uint8)
    _check_size(content.size, str(path))
    if content.size % (2 * n_columns) == 0:
        cells = content.reshape(-1, n_columns, 2)
        values = cells[:, :, 0] - np.uint8(ord("0"))
        blank, newline = cells[:, :-1, 1] == ord(" "), cells[:, -1, 1] == ord("\n")
        if values.max(initial=0) <= 1 and blank.all() and newline.all():
            return values
    raise DataError(f"{path}: not lines of {n_columns} values 0 or 1 with single blanks between them")


def read_mat(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a MATLAB file. SciPy's parser trusts its input: check a digest first."""
    from scipy.io import loadmat

    names = list(names)
    with _reading(path, "MATLAB"):
        content = loadmat(path, variable_names=names)
    for name in names:
        if name not in content:
            raise DataError(f'{path}: holds no array "{name}"')
    return {name: content[name] for name in names}


def _read_array(stream: IO[bytes], size: int, where: str) -> NDArray[Any]:
    """Return the array of an NPY stream of `size` bytes, whose header is checked before anything is read."""
    _check_size(size, where)
    read_header = _HEADER_READERS.get(np.lib.format.read_magic(stream))
    if read_header is None:
        raise DataError(f"{where}: an NPY format for structured values; give an array of numbers")
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "buif":
        raise DataError(f"{where}: holds values of type {dtype}; give an array of numbers")
    promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if promised != held or min(shape, default=0) < 0:
        raise DataError(f"{where}: holds {held} bytes where shape {shape} of {dtype} takes {promised}")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _check_size(n_bytes: int, where: str) -> None:
    """Refuse an array that would take more memory than an image set plausibly does."""
    if n_bytes > LIMIT_BYTES:
        raise DataError(f"{where}: more than {LIMIT_BYTES} bytes; give fewer images, or store them as uint8")


def _open(path: Path) -> IO[bytes]:
    """Open a file to read bytes, through gzip if its name ends with .gz."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a damaged file provokes into a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: damaged, or no {kind} file ({reason})") from error
