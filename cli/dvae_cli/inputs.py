"""What the commands of dvae-eval read and write in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dvae_core.errors import ConfigError
from dvae_core.io.files import lock_file
from dvae_eval.config import LogZConfig
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import Machine
from dvae_eval.results import LogZResult, Result

from .console import EstimateProgress, say, show
from .runner import NOT_TRUSTWORTHY

__all__ = ["command_line", "default_output", "estimate_with_progress", "finish", "hold_output"]


def command_line() -> list[str]:
    """Return the command line of this process, for the result."""
    return ["dvae-eval", *sys.argv[1:]]


def default_output(model: Path, name: str, as_json: bool) -> Path | None:
    """Return RUN/name if `model` lies in a run directory and the result does not go to standard output."""
    in_run = (model.parent / "config.json").exists()
    return model.parent / name if in_run and not as_json else None


def hold_output(path: Path | None) -> None:
    """Hold the result file to be, if there is one, against other processes until the command ends.

    Raises
    ------
    ConfigError
        If another process is at work on it.
    """
    if path is None:
        return
    try:
        click.get_current_context().with_resource(lock_file(path.with_name(f".{path.name}.lock")))
    except BlockingIOError as error:
        raise ConfigError(
            f"--output: another process is at work on {path}; wait for it, or give another --output"
        ) from error


def estimate_with_progress(
    machine: Machine,
    config: LogZConfig,
    description: dict[str, Any],
    device: str,
    quiet: bool,
    *,
    threads: int | None = None,
    partial: Path | None = None,
    constant: float = 0.0,
) -> LogZResult:
    """Return the LogZResult of `machine` plus a constant, with progress on standard error.

    `partial` is the file of an unfinished estimate, which is gone on with and left for the caller to remove.
    """
    with EstimateProgress("log Z", quiet) as progress:
        return estimate_log_z(
            machine,
            config,
            description=description,
            device=device,
            threads=threads,
            progress=progress,
            partial=partial,
            constant=constant,
        )


def finish(
    result: Result,
    path: Path | None,
    as_json: bool,
    quiet: bool,
    details: Callable[[], list[str]],
    saved: Callable[[], None] = lambda: None,
) -> int:
    """Save and print a result; return the exit status that its verdict asks for.

    `saved` is called once the result is safe, to remove what was kept to go on with.
    """
    try:
        if path:
            result.save(path)
        saved()
    finally:
        # Even if it cannot be saved: the number may have taken hours.
        if as_json:
            click.echo(result.to_json())
        else:
            show(str(result) if result.trustworthy else f"NOT TO BE TRUSTED: {result}")
    for line in [*details(), *(f"  {reason}" for reason in result.reasons)]:
        say(line, quiet)
    if path:
        say(f"saved: {path}", quiet)
    return 0 if result.trustworthy else NOT_TRUSTWORTHY
