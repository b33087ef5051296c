"""Whole files or none: atomic writing, reading of text that has an end, and digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

__all__ = ["atomic_write", "json_object", "read_text", "sha256_file", "shown", "write_bytes", "write_text"]

LIMIT_BYTES = 1 << 26  # of text that a program reads; results of 60 000 images take a tenth of it


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an error, and vanishes otherwise.

    The data are on the disk before the rename, so that a crash leaves the old file or the new one.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with cast(BinaryIO, os.fdopen(descriptor, "wb")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def read_text(path: Path, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the text of a regular file, UTF-8: a pipe would keep one waiting, and a device may have no end.

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
    return path.read_text(encoding="utf-8")


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


def shown(text: object) -> str:
    """Return a text as Unicode: the name of a file need be none, and what is not is shown as backslashes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _check_regular(path: Path) -> None:
    """Raise OSError if a path is there and no regular file."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file", str(path))


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
