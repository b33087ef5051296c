"""Output files: a worse result never replaces a better one, and a pipe is never replaced by a file.

Without --output, a result goes to the default file of its run, which tables and reports read.  It replaces an
existing file only if it is at least as good, see `Result.supersedes`, or with --force; otherwise it goes to
another file beside it, such as logz-2.json.  An existing file that cannot be read, or belongs to a model that
the run no longer has, is renamed in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import click

from dvae_core.errors import ConfigError
from dvae_core.io.files import lock_file, name_os_errors, write_bytes

from .console import say

STANDARD_OUTPUT = Path("-")
# Names for streams of this process.
OWN_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STREAMS = ("/dev/fd/", "/dev/std", "/proc/")


@dataclass(frozen=True, slots=True)
class Found:
    """The decision about an existing file that a new one would replace.

    Attributes
    ----------
    fate : str
        `replaced`, `kept` (the new one gets another name) or `moved` (the old one is renamed).
    why : str
        The reason; the file is the subject of the sentence.
    is_repeat : bool
        Whether the existing file holds the same measurement.
    """

    fate: Literal["replaced", "kept", "moved"]
    why: str = ""
    is_repeat: bool = False


Judge = Callable[[Path], Found]


@dataclass(frozen=True, slots=True)
class Output:
    """The destination of one result.

    Attributes
    ----------
    path : Path or None
        A regular file, which may exist; None if the result is not saved, or goes to a stream.
    stream : Path or None
        `-` for standard output, or a pipe or device to write to.
    is_default : bool
        Whether the user neither named nor forced the file, so that only a result at least as good replaces it.
    """

    path: Path | None = None
    stream: Path | None = None
    is_default: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is written."""
        return self.path is not None or self.stream is not None

    def hold(self) -> None:
        """Lock the file against other processes until the command ends.

        Raises
        ------
        ConfigError
            If another process has locked it.
        """
        if self.path is None:
            return
        try:
            lock = lock_file(self.path.with_name(f".{self.path.name}.lock"))
            click.get_current_context().with_resource(lock)
        except BlockingIOError as error:
            raise ConfigError(
                f"--output: another process is working on {self.path}; wait until it ends, or give another "
                "--output"
            ) from error

    def settle(self, judge: Judge, satellites: tuple[str, ...] = ()) -> Output:
        """Return the destination of a finished result, given the files that exist now; rename files if needed.

        Parameters
        ----------
        judge : callable
            Returns the decision about an existing file.
        satellites : tuple of str
            Suffixes of files that belong to a result, such as `.images.npz`, and are renamed with it.
        """
        if self.path is None or not self.is_default or not self.path.exists():
            return self
        found = judge(self.path)
        if found.fate == "replaced":
            if found.why:
                say(f"{self.path} {found.why}")
            return self
        other = _another_name(self.path, judge)
        if found.fate == "kept":
            say(f"{self.path} {found.why} and is kept; this result goes to {other} (--force replaces it)")
            return replace(self, path=other)
        os.replace(self.path, other)
        for satellite in satellites:
            if (beside := self.path.with_suffix(satellite)).exists():
                os.replace(beside, other.with_suffix(satellite))
        say(f"{self.path} {found.why}; renamed to {other}")
        return self

    def write(self, content: str | bytes) -> None:
        """Write the result: a file completely or not at all, a stream directly."""
        data = content.encode() if isinstance(content, str) else content
        if self.stream == STANDARD_OUTPUT:
            click.echo(data, nl=False)
        elif self.stream is not None:
            with name_os_errors(self.stream), self.stream.open("wb") as file:
                file.write(data)
        elif self.path is not None:
            write_bytes(self.path, data)

    def __str__(self) -> str:
        """Return the name for messages."""
        return "standard output" if self.stream == STANDARD_OUTPUT else str(self.stream or self.path)


def find_output(
    output: Path | None, force: bool, default: Path | None = None, *, option: str = "--output", text: bool = True
) -> Output:
    """Return the destination of a result, after checking that it can be written and that nothing is lost.

    Parameters
    ----------
    output : Path or None
        From the user: a file, `-` for standard output, a pipe or a device.  Symbolic links are followed.
    force : bool
        Replace an existing file.
    default : Path, optional
        The file if `output` is None.
    option : str
        The name of the option, for messages.
    text : bool
        Whether the result is text, which may go to a stream.

    Raises
    ------
    ConfigError
        If the file exists and --force was not given, its directory is missing or cannot be written to, or it is a
        stream and the result is not text.
    """
    if output is not None and (stream := _stream(output)):
        if not text:
            raise ConfigError(f"{option}: binary data cannot be written to {output}; give the name of a file")
        return Output(stream=stream)
    path = output or default
    if path is None:
        return Output()
    target = _followed(path, option)
    if output and target.exists() and not force:
        raise ConfigError(f"{option}: {output} exists; give --force to overwrite it, or another name")
    if not target.parent.is_dir():
        raise ConfigError(f"{option}: {target.parent} is not a directory; create it first, or give another name")
    if not os.access(target.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(f"{option}: {target.parent} cannot be written to; give another directory")
    return Output(target, is_default=output is None and not force)


def judge_by_model(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], why: str) -> Found:
    """Return the decision about `path`, which the new result may not replace for the reason `why`.

    A result for another model than the run's model.pt is renamed in favour of one for that model; `old` and `new`
    describe the models of the two results.
    """
    from dvae_core.io.files import sha256_file

    model = path.with_name("model.pt")
    own = sha256_file(model) if model.is_file() else None
    if own is not None and own == new.get("sha256") != old.get("sha256"):
        return Found("moved", f"belongs to another model than {model}")
    return Found("kept", why)


def _another_name(path: Path, judge: Judge) -> Path:
    """Return the first of name-2, name-3, ... that does not exist, or holds the same measurement."""
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in count(2))
    return next(name for name in names if not name.exists() or judge(name).is_repeat)


def _stream(path: Path) -> Path | None:
    """Return the stream that a path names; None if it is a regular file or does not exist."""
    if str(path) in OWN_OUTPUT:
        return STANDARD_OUTPUT
    if str(path).startswith(STREAMS) or (path.exists() and not path.is_file() and not path.is_dir()):
        return path
    return None


def _followed(path: Path, option: str) -> Path:
    """Return the target of a symbolic link, which may not exist yet; any other path unchanged."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise ConfigError(f"{option}: {path} is a symbolic link, but not to a file; give another name")
    return target
