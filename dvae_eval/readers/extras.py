"""Libraries that only some formats need, and what to say where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvae_core.errors import ConfigError


@contextmanager
def needs(library: str, path: Path) -> Iterator[None]:
    """Turn the failing import of an optional library into one line that says how to have it."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{path}: reading it needs {library}; install it with: pip install {library}") from error
