"""Run a command, and turn whatever goes wrong into one line and an exit status (DESIGN.md, section 5)."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from dvae_core.errors import DvaeError, NumericalError, OverlapError, WorkerError

__all__ = ["INTERRUPTED", "NOT_TRUSTWORTHY", "CleanInterrupt", "run"]

FAILED, BAD_INPUT, NOT_TRUSTWORTHY, INTERRUPTED = 1, 2, 3, 130


class CleanInterrupt(Exception):
    """The user stopped the command, and what was done is safe; the message says how to go on."""


def run(command: click.Command, name: str, args: list[str] | None = None) -> NoReturn:
    """Run `command` with `args` (default: the process's), and exit."""
    # Threads that spin while they wait made a busy machine 12 times slower (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if args is None else args
    status, message = _guarded(command, name, arguments)
    # Of several processes (torchrun) the first speaks for all; torchrun itself says which one failed.
    if message and os.environ.get("RANK", "0") == "0":
        click.echo(f"{name}: {message}", err=True)
    sys.exit(status)


def _guarded(command: click.Command, name: str, args: list[str]) -> tuple[int, str]:
    """Return (exit status, message or empty) of a command."""
    try:
        status = command.main(args, prog_name=name, standalone_mode=False)
        return (status if isinstance(status, int) else 0), ""
    except click.exceptions.NoArgsIsHelpError as error:
        return BAD_INPUT, error.format_message()
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


def _explain(error: Exception) -> tuple[int, str]:
    """Return (exit status, one line) for an error that is not click's."""
    text = " ".join(str(error).split())
    if isinstance(error, NumericalError | OverlapError | WorkerError):
        return FAILED, text
    if isinstance(error, DvaeError):
        return BAD_INPUT, text
    if isinstance(error, OSError) and error.filename is not None:
        return BAD_INPUT, f"{error.filename}: {error.strerror}"
    return FAILED, f"unforeseen {type(error).__name__}: {text}; run again with --debug and report it"
