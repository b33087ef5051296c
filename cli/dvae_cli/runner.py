"""Run a command; report any error in one line and an exit status."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from dvae_core.errors import DvaeError, NumericalError, OverlapError, WorkerError

from .console import say
from .encoding import adapt_streams

FAILED, BAD_INPUT, NOT_TRUSTWORTHY, INTERRUPTED = 1, 2, 3, 130
# From Ctrl-C; from a scheduler, before it kills; and from a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

CONTINUE = "run the same command again to continue"
FULL = "free some space and run the same command again; existing files are unchanged"
FORBIDDEN = "give a path that you may access, or change its permissions"
ADVICE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL.replace("free some space", "raise the limit (ulimit -f)"),
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENOENT: "the file or its directory no longer exists; restore it and run the same command again",
    errno.ENOTDIR: "give another name",
    errno.EISDIR: "give another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOLCK: "give a path on a file system that supports locks",
    errno.EOPNOTSUPP: "give a path on a file system that supports locks",
}
MEMORY = "saved work is safe; give fewer samples, chains or workers, or use a computer with more memory"
# Messages of PyTorch's allocators in a RuntimeError.
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
WORKER_DIED = ("TerminatedWorkerError", "BrokenProcessPool")


class CleanInterrupt(Exception):
    """The user stopped the command and saved work is safe; the message says how to continue."""


def after_interrupt(unfinished: Path | None) -> str:
    """Return what to do after an interrupt; `unfinished` is the file of saved work, None without --output."""
    if unfinished is None:
        return "nothing was saved; give --output FILE to be able to continue"
    return CONTINUE if unfinished.exists() else "nothing was saved yet; run the same command again"


@contextmanager
def ending_cleanly(message: Callable[[], str]) -> Iterator[None]:
    """Within the block, Ctrl-C ends the command with `message`, which is made when that happens."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise CleanInterrupt(message()) from error


def run(command: click.Command, name: str, args: list[str] | None = None) -> NoReturn:
    """Run `command` with `args` (default: those of the process), and exit."""
    # Threads that spin while they wait made a busy machine 12 times slower (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if args is None else args
    adapt_streams()
    # It warns about a home directory that cannot be written to, which does not matter for a few figures.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with _signals_as_ctrl_c():
        status, message = _guarded(command, name, arguments)
    # Of several processes (torchrun), only the first prints; torchrun itself reports which one failed.
    if message and os.environ.get("RANK", "0") == "0":
        say(f"{name}: {message}", always=True)
    sys.exit(status)


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Handle all `SIGNALS` within the block as Ctrl-C, except those that are ignored, as under nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guarded(command: click.Command, name: str, args: list[str]) -> tuple[int, str]:
    """Return (exit status, message or empty) of a command."""
    try:
        status = command.main(args, prog_name=name, standalone_mode=False)
        return (status if isinstance(status, int) else 0), ""
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT, ""
    except click.ClickException as error:
        return BAD_INPUT, _explain_usage(error)
    except (CleanInterrupt, KeyboardInterrupt, click.Abort) as error:
        return INTERRUPTED, str(error) or "interrupted"
    except BrokenPipeError:
        # The reader of our output has gone.
        sys.stdout = open(os.devnull, "w")
        return FAILED, ""
    except Exception as error:
        if "--debug" in args:
            raise
        return _explain(error)


def _explain_usage(error: click.ClickException) -> str:
    """Return one line for an error of click's: the option or argument, what is wrong, and what to do."""
    text = " ".join(error.format_message().split())
    if isinstance(error, click.BadParameter) and error.param and not isinstance(error, click.MissingParameter):
        is_option = isinstance(error.param, click.Option)
        name = (
            max(error.param.opts, key=len)
            if is_option
            else error.param.human_readable_name.strip("[].").replace("...|", " or ")
        )
        text = f"{name}: {' '.join(error.message.split())}"
    # Some messages say themselves what to do: `...; give a file` or `Did you mean --seed?`
    if not isinstance(error, click.UsageError) or error.ctx is None or "; " in text or text.endswith(("?", "?)")):
        return text
    return f"{text.removesuffix('.')}; see {error.ctx.command_path} --help"


def status_of(error: DvaeError) -> int:
    """Return the exit status for an error of this project."""
    return FAILED if isinstance(error, NumericalError | OverlapError | WorkerError) else BAD_INPUT


def _explain(error: Exception) -> tuple[int, str]:
    """Return (exit status, one line) for an error that is not click's."""
    text = " ".join(str(error).split())
    if isinstance(error, DvaeError):
        return status_of(error), text
    if isinstance(error, OSError) and (found := _explain_system(error)):
        return BAD_INPUT, found
    if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
        return FAILED, f"out of memory; {MEMORY}"
    if type(error).__name__ in WORKER_DIED:
        return FAILED, f"a worker process was killed, perhaps because memory ran out; {MEMORY}"
    return FAILED, f"unexpected {type(error).__name__}: {text}; run again with --debug and report it"


def _explain_system(error: OSError) -> str:
    """Return one line for an error of the operating system; an empty string if no file is known."""
    # Errors on any other file carry its name.
    where = error.filename or ("standard output" if error.errno in (errno.ENOSPC, errno.EFBIG) else None)
    if where is None:
        return ""
    advice = ADVICE.get(error.errno or 0)
    return f"{os.fsdecode(where)}: {error.strerror}" + (f"; {advice}" if advice else "")
