"""Where results go: nothing that was made before is lost to something lesser, and no pipe becomes a file.

A result that nobody named a file for goes to the default one of its run, which tables and reports read.  It takes
the place of what is there only if it is at least as good, see `Result.supersedes`, or with --force; otherwise it
goes to a file of its own beside it, such as logz-2.json.  What is of a model that the run no longer has, or cannot
be read, makes way: it is kept under such a name.
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
# Names of streams of this process, whatever they lead to.
OWN_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STREAMS = ("/dev/fd/", "/dev/std", "/proc/")


@dataclass(frozen=True, slots=True)
class Found:
    """What is to happen to the file that a new one would take the place of, and why.

    Attributes
    ----------
    fate : str
        `replaced`, `kept` (the new one goes elsewhere) or `moved` (it makes way, under another name).
    why : str
        In words that go on from the file's name.
    is_repeat : bool
        Whether it is the very same measurement, made before.
    """

    fate: Literal["replaced", "kept", "moved"]
    why: str = ""
    is_repeat: bool = False


Judge = Callable[[Path], Found]


@dataclass(frozen=True, slots=True)
class Output:
    """Where one result goes.

    Attributes
    ----------
    path : Path or None
        A regular file, there or not; None where the result is not kept, or goes to a stream.
    stream : Path or None
        `-` for standard output, or a pipe or device, which is written into.
    is_default : bool
        Whether nobody named or forced the file, so that it is replaced by what is at least as good only.
    """

    path: Path | None = None
    stream: Path | None = None
    is_default: bool = False

    def __bool__(self) -> bool:
        """Say whether anything is written."""
        return self.path is not None or self.stream is not None

    def hold(self) -> None:
        """Hold the file to be, if there is one, against other processes until the command ends.

        Raises
        ------
        ConfigError
            If another process is at work on it.
        """
        if self.path is None:
            return
        try:
            lock = lock_file(self.path.with_name(f".{self.path.name}.lock"))
            click.get_current_context().with_resource(lock)
        except BlockingIOError as error:
            raise ConfigError(
                f"--output: another process is at work on {self.path}; wait for it, or give another --output"
            ) from error

    def settle(self, judge: Judge, quiet: bool, satellites: tuple[str, ...] = ()) -> Output:
        """Return where a finished result goes, in view of what is there by now.

        Parameters
        ----------
        judge : callable
            From a file that is there to what is to happen to it.
        quiet : bool
            Say nothing of it.
        satellites : tuple of str
            The endings of files that belong to the result's, such as `.images.npz`, and go where it goes.
        """
        if self.path is None or not self.is_default or not self.path.exists():
            return self
        found = judge(self.path)
        if found.fate == "replaced":
            if found.why:
                say(f"{self.path} {found.why}", quiet)
            return self
        other = _another_name(self.path, judge)
        if found.fate == "kept":
            say(f"{self.path} {found.why} and stays; this goes to {other} (--force replaces it)", quiet)
            return replace(self, path=other)
        os.replace(self.path, other)
        for satellite in satellites:
            if (beside := self.path.with_suffix(satellite)).exists():
                os.replace(beside, other.with_suffix(satellite))
        say(f"{self.path} {found.why}, and is now {other}", quiet)
        return self

    def write(self, content: str | bytes) -> None:
        """Write the result: a file whole or not at all, into a stream as it comes."""
        data = content.encode() if isinstance(content, str) else content
        if self.stream == STANDARD_OUTPUT:
            click.echo(data, nl=False)
        elif self.stream is not None:
            with name_os_errors(self.stream), self.stream.open("wb") as file:
                file.write(data)
        elif self.path is not None:
            write_bytes(self.path, data)

    def __str__(self) -> str:
        """Return the name, for people."""
        return "standard output" if self.stream == STANDARD_OUTPUT else str(self.stream or self.path)


def find_output(
    output: Path | None, force: bool, default: Path | None = None, *, option: str = "--output", text: bool = True
) -> Output:
    """Return where to write a result, after making sure that it can be written and that nothing is lost.

    Parameters
    ----------
    output : Path or None
        What the user named: a file, `-` for standard output, a pipe or a device.  A link is written through.
    force : bool
        Replace what is there.
    default : Path, optional
        The file where `output` is None.
    option : str
        What `output` is called.
    text : bool
        Whether the result is text, which may go to a stream.

    Raises
    ------
    ConfigError
        If the file exists and was named without --force, its directory cannot be written, or it is a stream and
        the result is no text.
    """
    if output is not None and (stream := _stream(output)):
        if not text:
            raise ConfigError(f"{option}: {output} is no file, and this is no text; give the name of a file")
        return Output(stream=stream)
    path = output or default
    if path is None:
        return Output()
    target = _followed(path, option)
    if output and target.exists() and not force:
        raise ConfigError(f"{option}: {output} exists; give --force to overwrite it, or another name")
    if not target.parent.is_dir():
        raise ConfigError(f"{option}: {target.parent} is no directory; make it first, or give another name")
    if not os.access(target.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(f"{option}: {target.parent} cannot be written to; give another place")
    return Output(target, is_default=output is None and not force)


def judge_by_model(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], why: str) -> Found:
    """Return what is to happen to `path`, which the new one may not replace since it `why`.

    What is of another model than the run's own makes way for what is of that one; `old` and `new` are what the two
    say of their models.
    """
    from dvae_core.io.files import sha256_file

    model = path.with_name("model.pt")
    own = sha256_file(model) if model.is_file() else None
    if own is not None and own == new.get("sha256") != old.get("sha256"):
        return Found("moved", f"is of another model than {model}")
    return Found("kept", why)


def _another_name(path: Path, judge: Judge) -> Path:
    """Return the first of name-2, name-3, ... that is not there, or holds the very same measurement."""
    names = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in count(2))
    return next(name for name in names if not name.exists() or judge(name).is_repeat)


def _stream(path: Path) -> Path | None:
    """Return what to write into where a path is no regular file, nor to become one; None else."""
    if str(path) in OWN_OUTPUT:
        return STANDARD_OUTPUT
    if str(path).startswith(STREAMS) or (path.exists() and not path.is_file() and not path.is_dir()):
        return path
    return None


def _followed(path: Path, option: str) -> Path:
    """Return the file that a link leads to, there or not; the path itself if it is none."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise ConfigError(f"{option}: {path} is a link that leads to no file; give another name")
    return target
