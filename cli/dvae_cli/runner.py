"""Run a command, and turn whatever goes wrong into one line and an exit status."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from dvae_core.errors import DvaeError, NumericalError, OverlapError, WorkerError

from .console import say
from .encoding import adapt_streams

FAILED, BAD_INPUT, NOT_TRUSTWORTHY, INTERRUPTED = 1, 2, 3, 130
# Ctrl-C, what schedulers send before they kill, and what a terminal sends when it is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

FULL = "make room; what was there before is as it was, and the same command can be given again"
FORBIDDEN = "give a place that may be written to, or the right to it"
ADVICE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL.replace("make room", "raise the limit (ulimit -f)"),
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: FORBIDDEN,
    errno.ENOENT: "it was there, or its directory was; bring it back, and give the same command again",
    errno.ENOTDIR: "give another name",
    errno.EISDIR: "give another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOLCK: "give a place on a file system that knows locks",
    errno.EOPNOTSUPP: "give a place on a file system that knows locks",
}
MEMORY = "what was done before is kept; give fewer samples, chains or workers, or a machine with more"
# What the allocators of PyTorch say in a RuntimeError.
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")
WORKER_DIED = ("TerminatedWorkerError", "BrokenProcessPool")


class CleanInterrupt(Exception):
    """The user stopped the command, and what was done is safe; the message says how to go on."""


def run(command: click.Command, name: str, args: list[str] | None = None) -> NoReturn:
    """Run `command` with `args` (default: the process's), and exit."""
    # Threads that spin while they wait made a busy machine 12 times slower (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if args is None else args
    adapt_streams()
    # It warns of a home that cannot be written to, which is nothing to a command that makes a figure or two.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with _all_like_ctrl_c():
        status, message = _guarded(command, name, arguments)
    # Of several processes (torchrun) the first speaks for all; torchrun itself says which one failed.
    if message and os.environ.get("RANK", "0") == "0":
        say(f"{name}: {message}")
    sys.exit(status)


@contextmanager
def _all_like_ctrl_c() -> Iterator[None]:
    """Let every one of `SIGNALS` within the block do what Ctrl-C does, unless it is ignored, as nohup asks for."""
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
        hint = (
            f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        )
        return BAD_INPUT, " ".join(error.format_message().split()) + hint
    except (CleanInterrupt, KeyboardInterrupt, click.Abort) as error:
        return INTERRUPTED, str(error) or "interrupted"
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said on it.
        sys.stdout = open(os.devnull, "w")
        return FAILED, ""
    except Exception as error:
        if "--debug" in args:
            raise
        return _explain(error)


def status_of(error: DvaeError) -> int:
    """Return the exit status that an error of this project asks for."""
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
        return FAILED, f"a worker process was killed, perhaps for want of memory; {MEMORY}"
    return FAILED, f"unforeseen {type(error).__name__}: {text}; run again with --debug and report it"


def _explain_system(error: OSError) -> str:
    """Return one line for an error of the operating system; nothing if it does not tell what it is about."""
    # Everything else that is written says its name.
    where = error.filename or ("standard output" if error.errno in (errno.ENOSPC, errno.EFBIG) else None)
    if where is None:
        return ""
    advice = ADVICE.get(error.errno or 0)
    return f"{os.fsdecode(where)}: {error.strerror}" + (f"; {advice}" if advice else "")
