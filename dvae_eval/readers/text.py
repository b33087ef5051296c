"""Text files of limited size, in UTF-8 or UTF-16 with or without a byte order mark, or in Latin-1."""

from __future__ import annotations

import codecs
from pathlib import Path

from dvae_core.errors import DataError

LIMIT_BYTES = 1 << 25  # a million factors of four numbers


def read_text(path: Path) -> str:
    """Return the text of a file; DataError if it is too large."""
    if path.stat().st_size > LIMIT_BYTES:
        raise DataError(f"has more than {LIMIT_BYTES} bytes of text; save a model of this size in a binary format")
    return decode(path.read_bytes())


def decode(content: bytes) -> str:
    """Return decoded text: UTF-16 with a byte order mark, UTF-8, or else Latin-1, as in old files' comments."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
