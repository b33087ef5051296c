"""Whole files or none: atomic writing, reading of text that has an end, locks, and digests."""

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

LIMIT_BYTES = 1 << 26  # of text that a program reads; results of 60 000 images take a tenth of it


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an error, and vanishes otherwise.

    The data are on the disk before the rename, so that a crash leaves the old file or the new one.  What a killed
    process left unfinished beside it is removed.

    Raises
    ------
    OSError
        If the file cannot be written; its `filename` is `path`, whichever step it was.
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
            # Still held: no one takes it for the leftover of a dead process.
            os.replace(name, path)
    except BaseException as error:
        if name:
            with suppress(OSError):
                os.unlink(name)
        if isinstance(error, OSError) and error.errno and _is_part(error.filename, path):
            error.filename, error.filename2 = str(path), None
        raise


def _new_part(path: Path) -> tuple[str, BinaryIO]:
    """Return name and file of a new, unfinished `path`, which this process holds until the file is closed."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return name, cast(BinaryIO, os.fdopen(descriptor, "wb"))
        os.close(descriptor)  # another process took it for a leftover before it was held


def _remove_leftovers(path: Path) -> None:
    """Remove unfinished files of `path` whose process is dead: no lock holds them."""
    for name in glob.glob(f".{glob.escape(path.name)}.*.part", root_dir=path.parent, include_hidden=True):
        part = path.parent / name
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _is_part(filename: Any, path: Path) -> bool:
    """Say whether an error's file is none, or one that `atomic_write` made for `path`."""
    return filename is None or (
        isinstance(filename, str) and os.path.basename(filename).startswith(f".{path.name}.")
    )


@contextmanager
def name_os_errors(path: Path) -> Iterator[None]:
    """Let an error of the operating system within the block say which file it is about: `write` does not know."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def lock_file(path: Path, *, keep: bool = False) -> Iterator[None]:
    """Hold the lock file `path` against other processes; a process that dies lets go of it.

    Parameters
    ----------
    path : Path
        Made if need be.
    keep : bool
        Leave the file at the end; otherwise it is removed.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    OSError
        If it cannot be made, or the file system knows no locks; `filename` is `path`.
    """
    while True:
        with path.open("a") as file:
            with name_os_errors(path):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_same(path, file.fileno()):
                continue  # whoever held it has removed it since it was opened
            try:
                yield
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
            return


def _is_same(path: Path, descriptor: int) -> bool:
    """Say whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_file(path: Path) -> None:
    """Remove `path`, if it is there, and what a killed process left unfinished of it."""
    _remove_leftovers(path)
    path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_npz(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write named arrays to `path` as an NPZ file, whole or not at all."""
    import numpy as np  # here, since this module is imported for --help, too

    # Into memory first: on a full disk, zipfile hides the error behind others of its own.
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    write_bytes(path, buffer.getbuffer())


def read_text(path: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the text of a regular file, UTF-8, without the byte order mark that it may begin with.

    A pipe would keep one waiting, and a device may have no end.

    Raises
    ------
    OSError
        If it is missing, no regular file, or longer than `limit_bytes`.
    UnicodeDecodeError
        If it is no text.
    """
    n_bytes = path.stat().st_size
    _check_regular(path)
    if n_bytes > limit_bytes:
        raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")


def json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that a text is; ValueError if it is none, holds NaN or Infinity, or is too deep."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _refuse(constant: str) -> Any:
    """Refuse what Python reads and JSON does not have: NaN and Infinity."""
    raise ValueError(f"holds {constant}")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal; OSError if it is none."""
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def check_unchanged(path: Path) -> Iterator[str]:
    """Yield the SHA-256 of `path`, empty if there is none, to a block that reads it; it is taken again at the end.

    Raises
    ------
    DataError
        If the file is another one at the end: what was read is neither the old nor the new one.
    """
    before = sha256_file(path) if path.is_file() else ""
    yield before
    if sha256_file(path) != before:
        raise DataError(f"{path}: changed while it was read; give the same command again")


def to_utf8(text: object) -> str:
    """Return text that UTF-8 can encode: undecodable bytes of file names become backslash escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


@contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """Yield a name of a file that is UTF-8, for libraries that take no other: its own, or its descriptor's."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def _check_regular(path: Path) -> None:
    """Raise OSError if a path is there and no regular file."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
