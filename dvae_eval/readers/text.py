"""Text files: of reasonable size, in UTF-8, with or without a byte order mark, or with one of UTF-16."""

from __future__ import annotations

import codecs
from pathlib import Path

from dvae_core.errors import DataError

LIMIT_BYTES = 1 << 25  # a million factors of four numbers


def read_text(path: Path) -> str:
    """Return a text; DataError if it is too long."""
    if path.stat().st_size > LIMIT_BYTES:
        raise DataError(f"more than {LIMIT_BYTES} bytes of text; save a model of this size in a binary format")
    return decode(path.read_bytes())


def decode(content: bytes) -> str:
    """Return the text of bytes: what is no UTF-8 is of an older encoding, in which only remarks have accents."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
