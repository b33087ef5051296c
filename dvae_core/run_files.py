"""The files of a run directory but its checkpoints: settings, metrics, and the lock that one process holds."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .config import RunConfig
from .errors import CheckpointError, ConfigError
from .files import json_object, read_text, write_text

__all__ = ["append_metrics", "locked", "read_config", "truncate_metrics", "write_config"]


TRAINING = "--out: another process is training in {}; wait for it, or give another directory"


@contextmanager
def locked(run: Path, refusal: str = TRAINING) -> Iterator[None]:
    """Hold a directory, made if need be, against other processes; a process that dies lets go of it.

    Raises
    ------
    ConfigError
        With the words of `refusal`, `{}` standing for the directory, if another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(refusal.format(run)) from error
        yield


def write_config(run: Path, config: RunConfig, provenance: dict[str, Any]) -> None:
    """Write the settings of a run to its directory."""
    write_text(run / "config.json", json.dumps({**config.to_dict(), "provenance": provenance}, indent=2) + "\n")


def read_config(run: Path) -> RunConfig:
    """Read the settings of a run from its directory; CheckpointError if it holds none that can be read."""
    path = run / "config.json"
    try:
        return RunConfig.from_dict(json_object(read_text(path)))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{run}: holds no run that could be resumed (no config.json); leave --resume out"
        ) from error
    except (OSError, ValueError) as error:  # ConfigError, too
        raise CheckpointError(f"{path}: cannot be read as settings ({error}); train anew") from error


def append_metrics(run: Path, metrics: dict[str, Any]) -> None:
    """Add an epoch's line to `metrics.jsonl`."""
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def truncate_metrics(run: Path, n_epochs: int) -> None:
    """Keep the first `n_epochs` lines of `metrics.jsonl`: later epochs will be done and written again."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    write_text(path, "".join(lines[:n_epochs]))
