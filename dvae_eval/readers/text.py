"""Text files: ASCII, of reasonable size."""

from __future__ import annotations

from pathlib import Path

from dvae_core.errors import DataError

__all__ = ["LIMIT_BYTES", "read_text"]

LIMIT_BYTES = 1 << 25  # a million factors of four numbers


def read_text(path: Path) -> str:
    """Return a text; DataError if it is too long, UnicodeDecodeError if it is none."""
    if path.stat().st_size > LIMIT_BYTES:
        raise DataError(f"more than {LIMIT_BYTES} bytes of text; save a model of this size in a binary format")
    return path.read_bytes().decode("ascii")
