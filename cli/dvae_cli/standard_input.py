"""`-` in place of a file: standard input, copied to a private file that is removed when the command ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import click

from dvae_core.errors import ConfigError, DvaeError

DASH = "-"
NAME = "standard input"
LIMIT_BYTES = 2**32  # more than the unpacked size of any file that the readers accept
PIECE = 2**20


def spool(context: click.Context) -> Path:
    """Copy standard input to a file, which is removed when the context closes; return its path.

    The name ends in .jsonl if the content is one JSON object per line, since readers recognise such files by name.

    Raises
    ------
    ConfigError
        If standard input was read before, is a terminal, closed, empty, or longer than `LIMIT_BYTES`.
    """
    if __name__ in context.meta:
        raise ConfigError("-: standard input can be read only once; give the other input as a file")
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise ConfigError("-: nothing is piped into standard input; give a file, or pipe one into this command")
    directory = context.with_resource(TemporaryDirectory(prefix="dvae-", ignore_cleanup_errors=True))
    path = Path(directory) / NAME
    context.meta[__name__] = path
    with path.open("xb") as file:
        _copy(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise ConfigError("-: standard input is empty; check whether the command before the pipe failed")
    return _by_content(path, context)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy a stream, up to `LIMIT_BYTES`."""
    copied = 0
    while piece := source.read(PIECE):
        copied += len(piece)
        if copied > LIMIT_BYTES:
            raise ConfigError(f"-: standard input has more than {LIMIT_BYTES} bytes; give a file")
        target.write(piece)


def _by_content(path: Path, context: click.Context) -> Path:
    """Return the file, renamed to end in .jsonl if it holds one JSON object per line."""
    with path.open("rb") as file:
        first, second = file.readline(PIECE), file.read(1)
    if not (first.startswith(b"{") and first.rstrip().endswith(b"}") and second == b"{"):
        return path
    context.meta[__name__] = path.rename(path.with_suffix(".jsonl"))
    return Path(context.meta[__name__])


def is_spooled(path: Path) -> bool:
    """Return whether a file is the copy of standard input, so that no file may be written beside it."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(__name__) == path


def beside(path: Path, name: str) -> Path:
    """Return the path of `name` in the directory of `path`; ConfigError if `path` is standard input."""
    if is_spooled(path):
        raise ConfigError(
            "--output: standard input has no directory for the default file; give the name of a file"
        )
    return path.with_name(name)


def as_named(text: str) -> str:
    """Return a text with the temporary file of standard input, if any, replaced by "standard input"."""
    context = click.get_current_context(silent=True)
    path = context.meta.get(__name__) if context else None
    return text.replace(str(path), NAME) if path else text


def named(value: Any) -> Any:
    """Return a JSON value with `as_named` applied to every text in it."""
    if isinstance(value, dict):
        return {key: named(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner) for inner in value]
    return as_named(value) if isinstance(value, str) else value


@contextmanager
def named_errors() -> Iterator[None]:
    """Apply `as_named` to the messages of errors within the block."""
    try:
        yield
    except DvaeError as error:
        error.args = tuple(as_named(part) if isinstance(part, str) else part for part in error.args)
        raise
