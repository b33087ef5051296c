"""Optional libraries that only some formats need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvae_core.errors import ConfigError


@contextmanager
def needs(library: str, path: Path) -> Iterator[None]:
    """Turn a failed import within the block into a ConfigError that says how to install the library."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{path}: reading it needs {library}; install it with: pip install {library}") from error
