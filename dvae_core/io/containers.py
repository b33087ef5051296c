"""Strict readers of files with arrays: NPY, NPZ, IDX, and text of zeros and ones.

Each returns arrays or raises a one-line DataError that names the file.  None executes content of a file, and none
allocates more than `LIMIT_BYTES` for its arrays, whatever a header claims.
"""

from __future__ import annotations

import gzip
import json
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DvaeError
from ..text import byte_size
from .memory import available_memory

LIMIT_BYTES = 2**31  # uncompressed; MNIST in float64 takes a quarter of this
LIMIT_VALUES = 2**28  # per array, since values stored as bytes or bits may be converted to float64
BLOCK_BYTES = 1 << 20
REASON_CHARACTERS = 200  # quoted from another library's message, which may quote the file
HEADER_BYTES = 1 << 16  # length of an NPY header; NumPy writes 118

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Errors of the standard library, NumPy and others for damaged files (RuntimeError: an encrypted archive, or deep
# nesting; MemoryError, SyntaxError and TokenError: an NPY header, which is a Python literal).
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
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
def hint(what_to_do: str) -> Iterator[None]:
    """Append a remedy to the message of a DataError that the block raises."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; {what_to_do}") from error


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield a ZIP archive; DataError for unsafe or repeated names, or more than `LIMIT_BYTES` unpacked."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_size(sum(entry.file_size for entry in entries), str(path))
        for name in archive.namelist():
            # Nothing is unpacked to disk, but such an archive is not a file of arrays.
            if name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"{path}: has an entry {name[:60]!r} whose path leads outside the archive")
        if len(set(archive.namelist())) != len(entries):
            raise DataError(f"{path}: has two entries with the same name")
        yield archive


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in an NPZ file."""
    with reading(path, "NPZ"), open_archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in an NPZ file by name, from those headers that can be read."""
    shapes: dict[str, tuple[int, ...]] = {}
    with reading(path, "NPZ"), open_archive(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as stream, suppress(*_DAMAGE):
                    shapes[name.removesuffix(".npy")] = _read_header(stream, name)[0]
    return shapes


def packed(value: Any) -> NDArray[np.uint8]:
    """Return a JSON value as an array, such as a member of an NPZ file."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpacked(array: NDArray[Any]) -> Any:
    """Return the JSON value of an array that this package wrote."""
    return json.loads(array.tobytes().decode())


def read_npz(path: Path, names: Iterable[str], kinds: str = "buif") -> dict[str, NDArray[Any]]:
    """Return the named arrays of an NPZ file, of any shape; `kinds` are the allowed kinds of NumPy dtypes."""
    arrays = {}
    with reading(path, "NPZ"), open_archive(path) as archive:
        held = set(archive.namelist())
        for name in names:
            if f"{name}.npy" not in held:
                raise DataError(f'{path}: holds no array "{name}"')
            with archive.open(f"{name}.npy") as stream:
                size = archive.getinfo(f"{name}.npy").file_size
                arrays[name] = read_array(stream, size, f'{path}, array "{name}"', kinds)
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an NPY file, numbers or booleans of any shape."""
    with reading(path, "NPY"), path.open("rb") as stream:
        return read_array(stream, path.stat().st_size, str(path))


def read_idx(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """Return the uint8 array with `n_axes` axes of an IDX file, plain or gzipped."""
    with reading(path, "IDX"), open_binary(path) as stream:
        if stream.read(4) != bytes([0, 0, 8, n_axes]):
            raise DataError(f"{path}: not an IDX file of bytes with {n_axes} axes")
        shape = struct.unpack(f">{n_axes}I", stream.read(4 * n_axes))
        size = math.prod(shape)
        check_size(size, str(path))
        content = _read_at_most(stream, size + 1)
    if len(content) != size:
        raise DataError(f"{path}: not exactly the {size} values that its header promises; it may be truncated")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_amat(path: Path, n_columns: int) -> NDArray[np.uint8]:
    """Return the (n, n_columns) array of a text file, plain or gzipped, of zeros and ones separated by blanks."""
    with reading(path, "text"), open_binary(path) as stream:
        content = np.frombuffer(_read_at_most(stream, LIMIT_BYTES + 1), np.uint8)
    check_size(content.size, str(path))
    if content.size % (2 * n_columns) == 0:
        cells = content.reshape(-1, n_columns, 2)
        values = cells[:, :, 0] - np.uint8(ord("0"))
        blank, newline = cells[:, :-1, 1] == ord(" "), cells[:, -1, 1] == ord("\n")
        if values.max(initial=0) <= 1 and blank.all() and newline.all():
            return values
    raise DataError(f"{path}: not lines of {n_columns} values 0 or 1 separated by single blanks")


def read_array(stream: IO[bytes], size: int, where: str, kinds: str = "buif") -> NDArray[Any]:
    """Return the array of an NPY stream of `size` bytes, after a check of its header."""
    check_size(size, where)
    shape, dtype = _read_header(stream, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        if dtype.kind not in kinds or dtype.subdtype is not None:
            raise DataError(f"{where}: holds values of type {dtype}; give an array of numbers")
        promised, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
        if promised != held or min(shape, default=0) < 0:
            raise DataError(f"{where}: holds {held} bytes where shape {shape} of {dtype} takes {promised}")
        check_count(math.prod(shape), where)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the dtype in the header of an NPY stream."""
    version = np.lib.format.read_magic(stream)
    read_header = _HEADER_READERS.get(version)
    if read_header is None:
        raise DataError(f"{where}: an NPY format for structured values; give an array of numbers")
    length = stream.read(2 * version[0])
    if int.from_bytes(length, "little") > HEADER_BYTES:
        raise ValueError(f"its header claims to be longer than {HEADER_BYTES} bytes")
    stream.seek(-len(length), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, _, dtype = read_header(stream)
    return shape, dtype


def check_size(n_bytes: int, where: str) -> None:
    """Raise DataError if `n_bytes` exceeds free memory, or `LIMIT_BYTES`, which no images or model need."""
    if n_bytes > LIMIT_BYTES:
        raise DataError(f"{where}: more than {LIMIT_BYTES} bytes; give fewer images, or store them as uint8")
    # Small arrays are not checked, since the check would take longer than reading them.
    if n_bytes > BLOCK_BYTES and n_bytes > (free := available_memory()):
        raise DataError(f"{where}: takes {byte_size(n_bytes)}, and {byte_size(free)} of memory is free; give less")


def check_count(n_values: int, where: str) -> None:
    """Raise DataError for an array with more than `LIMIT_VALUES` values, which no images or model need."""
    if n_values > LIMIT_VALUES:
        raise DataError(f"{where}: more than {LIMIT_VALUES} values; give fewer")


def _read_at_most(stream: IO[bytes], n_bytes: int) -> bytearray:
    """Return the next `n_bytes` of a stream, or fewer at its end; memory grows with the bytes that were read."""
    content = bytearray()
    while block := stream.read(min(n_bytes - len(content), BLOCK_BYTES)):
        content += block
    return content


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressed if its name ends with .gz."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Convert the errors of a damaged file into a one-line DataError; raise DataError for a pipe or a device."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: no regular file; give one")
        yield
    except DvaeError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:REASON_CHARACTERS] or type(error).__name__
        raise DataError(f"{path}: damaged, or no {kind} file ({reason})") from error
