"""Atomic writing of files, reading of text with a size limit, locks, and digests."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import DataError

LIMIT_BYTES = 1 << 26  # per text file; results of 60 000 images take a tenth of this


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that is renamed to `path` if the block succeeds, and removed otherwise.

    The data are flushed to disk before the rename, so that a crash leaves either the old file or the new one.
    Unfinished files of killed processes are removed.

    Raises
    ------
    OSError
        If the file cannot be written; its `filename` is `path`.
    """
    name = ""
    try:
        _remove_leftovers(path)
        name, file = _new_part(path)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            # The lock is still held, so that no other process removes the file as a leftover.
            os.replace(name, path)
    except BaseException as error:
        if name:
            with suppress(OSError):
                os.unlink(name)
        if isinstance(error, OSError) and error.errno and _is_part(error.filename, path):
            error.filename, error.filename2 = str(path), None
        raise


def _new_part(path: Path) -> tuple[str, BinaryIO]:
    """Return name and file of a new, unfinished `path`, locked by this process until it is closed."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return name, cast(BinaryIO, os.fdopen(descriptor, "wb"))
        os.close(descriptor)  # another process removed it as a leftover before it was locked


def _remove_leftovers(path: Path) -> None:
    """Remove unfinished files of `path` that no process has locked."""
    for name in glob.glob(f".{glob.escape(path.name)}.*.part", root_dir=path.parent, include_hidden=True):
        part = path.parent / name
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _is_part(filename: Any, path: Path) -> bool:
    """Return whether the file name of an error is None, or that of an unfinished file of `path`."""
    return filename is None or (
        isinstance(filename, str) and os.path.basename(filename).startswith(f".{path.name}.")
    )


@contextmanager
def name_os_errors(path: Path) -> Iterator[None]:
    """Set the file name of an OSError in the block to `path` if it has none, as for errors of `write`."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def lock_file(path: Path, *, keep: bool = False) -> Iterator[None]:
    """Lock the file `path` within the block; the lock ends with the process.

    Parameters
    ----------
    path : Path
        The lock file, created if necessary.
    keep : bool
        Keep the file at the end; by default it is removed.

    Raises
    ------
    BlockingIOError
        If another process holds the lock.
    OSError
        If the file cannot be created, or the file system has no locks; `filename` is `path`.
    """
    while True:
        with path.open("a") as file:
            with name_os_errors(path):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_same(path, file.fileno()):
                continue  # its previous holder removed the file after it was opened
            try:
                yield
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
            return


def _is_same(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_file(path: Path) -> None:
    """Remove `path`, if it exists, and its unfinished files."""
    _remove_leftovers(path)
    path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` atomically."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_npz(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write named arrays to `path` as an NPZ file, atomically."""
    # Into memory first: on a full disk, zipfile replaces the error by its own.
    write_bytes(path, npz_bytes(arrays, compressed=compressed))


def npz_bytes(arrays: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """Return the bytes of an NPZ file of named arrays."""
    import numpy as np  # imported here, since --help imports this module

    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def read_text(path: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Other files are refused, since reading a pipe may block and a device may have no end.

    Raises
    ------
    OSError
        If the file is missing, not a regular file, or longer than `limit_bytes`.
    UnicodeDecodeError
        If the file is not text in UTF-8.
    """
    n_bytes = path.stat().st_size
    _check_regular(path)
    if n_bytes > limit_bytes:
        raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text; ValueError if it is another value, has NaN or Infinity, or is too deep."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _refuse(constant: str) -> Any:
    """Raise ValueError for NaN and Infinity, which Python accepts although JSON does not have them."""
    raise ValueError(f"holds {constant}")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal; OSError if it is not a regular file."""
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def check_unchanged(path: Path) -> Iterator[str]:
    """Yield the SHA-256 of `path`, empty if it does not exist, to a block that reads it, and check it at the end.

    Raises
    ------
    DataError
        If the file changed during the block, so that a mixture of two files may have been read.
    """
    before = sha256_file(path) if path.is_file() else ""
    yield before
    if sha256_file(path) != before:
        raise DataError(f"{path}: changed while it was read; run the same command again")


def to_utf8(text: object) -> str:
    """Return text that UTF-8 can encode: undecodable bytes of file names become backslash escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Yield a UTF-8 name of a file, for libraries that need one: its path, or else that of its descriptor."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def _check_regular(path: Path) -> None:
    """Raise OSError if a path exists and is not a regular file."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
