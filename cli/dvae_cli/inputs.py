"""What the commands of dvae-eval read and write in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dvae_core.checkpoint import load_model
from dvae_core.errors import ConfigError
from dvae_core.files import sha256_file
from dvae_eval.config import LogZConfig
from dvae_eval.likelihood import machine_of, model_description
from dvae_eval.log_z import estimate_log_z
from dvae_eval.machine import Machine, load_machine
from dvae_eval.results import Result

from .console import EstimateProgress, say
from .runner import NOT_TRUSTWORTHY

__all__ = ["command_line", "default_output", "estimate_with_progress", "finish", "read_machine"]


def command_line() -> list[str]:
    """Return the command line of this process, for the result."""
    return ["dvae-eval", *sys.argv[1:]]


def default_output(model: Path, name: str, as_json: bool) -> Path | None:
    """Return RUN/name if `model` lies in a run directory and the result does not go to standard output."""
    in_run = (model.parent / "config.json").exists()
    return model.parent / name if in_run and not as_json else None


def read_machine(path: Path) -> tuple[Machine, dict[str, Any]]:
    """Return the Boltzmann machine of a model.pt or an npz file, and what a result says of its file."""
    if path.suffix == ".pt":
        trained = load_model(path)
        return machine_of(trained), model_description(trained)
    if path.suffix == ".npz":
        machine = load_machine(path)
        return machine, {"file": str(path), "sha256": sha256_file(path)}
    raise ConfigError(
        f"{path}: neither a .pt nor a .npz file; give the model.pt of a run, or an npz with W or J and biases"
    )


def estimate_with_progress(
    machine: Machine, config: LogZConfig, model: dict[str, Any], device: str, quiet: bool
) -> Any:
    """Return the LogZResult of `machine`, with progress on standard error."""
    with EstimateProgress("log Z", quiet) as progress:
        return estimate_log_z(machine, config, model=model, device=device, progress=progress)


def finish(result: Result, path: Path | None, as_json: bool, quiet: bool, details: Callable[[], list[str]]) -> int:
    """Save and print a result; return the exit status that its verdict asks for."""
    if path:
        result.save(path)
    if as_json:
        click.echo(result.to_json())
    else:
        click.echo(str(result) if result.trustworthy else f"NOT TO BE TRUSTED: {result}")
    for line in [*details(), *(f"  {reason}" for reason in result.reasons)]:
        say(line, quiet)
    if path:
        say(f"saved: {path}", quiet)
    return 0 if result.trustworthy else NOT_TRUSTWORTHY
