"""The settings of a run directory, and the lock of the training process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..config import RunConfig
from ..errors import CheckpointError, ConfigError
from ..io.files import json_object, lock_file, read_text, write_text

T = TypeVar("T")

TRAJECTORY = "prior-trajectory.npz"  # priors from the course of the training

TRAINING = "--out: another process is training in {}; wait for it, or give another directory"


@contextmanager
def locked(run: Path, refusal: str = TRAINING) -> Iterator[None]:
    """Lock a directory, which is created if necessary, within the block; the lock ends with the process.

    Raises
    ------
    ConfigError
        If another process holds the lock; the message is `refusal`, with the directory in place of `{}`.
    """
    run.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file(run / ".lock", keep=True):
            yield
    except BlockingIOError as error:
        raise ConfigError(refusal.format(run)) from error


def write_config(run: Path, config: RunConfig, provenance: dict[str, Any]) -> None:
    """Write the settings of a run to its directory."""
    write_text(run / "config.json", json.dumps({**config.to_dict(), "provenance": provenance}, indent=2) + "\n")


def read_config(run: Path) -> RunConfig:
    """Return the settings of a run from its directory or config.json; CheckpointError if they cannot be read."""
    return _read(run, RunConfig.from_dict)


def read_provenance(run: Path) -> dict[str, Any]:
    """Return the origin of a run: command, versions, digest of the data; raises the errors of `read_config`."""
    return _read(run, lambda content: dict(content.get("provenance", {})))


def _read(run: Path, part: Callable[[dict[str, Any]], T]) -> T:
    """Return a part of the run's config.json."""
    path = run if run.is_file() else run / "config.json"
    try:
        return part(json_object(read_text(path)))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{run}: holds no run that can be resumed or ended (no config.json); check the path"
        ) from error
    except (OSError, ValueError, TypeError) as error:  # a ConfigError is a ValueError
        raise CheckpointError(f"{path}: cannot be read as settings ({error}); train again") from error
