"""The metrics of training by epoch: `metrics.jsonl`, one JSON object per line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ResultError
from ..io.files import name_os_errors, write_text

LIMIT_BYTES = 1 << 28  # a hundred thousand epochs and more


@dataclass(frozen=True, slots=True)
class BoundParts:
    """The evidence lower bound and its parts, nats per image (Eq. 14).

    Attributes
    ----------
    elbo, reconstruction : float
        The bound, and the expected log p(x|.).
    kl_rbm, kl_continuous : float, list of float
        KL terms of the Boltzmann machine and of each continuous layer:
        elbo = reconstruction - kl_rbm - sum(kl_continuous).
    """

    elbo: float
    reconstruction: float
    kl_rbm: float
    kl_continuous: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One line of `metrics.jsonl`, in the order of its keys; a smoothing without a sharpness has no such key.

    `seconds` count from the start of training; `log_z` is the estimate of training, nats.
    """

    epoch: int
    step: int
    seconds: float
    images_per_s: float
    learning_rate: float
    kl_weight: float
    sharpness: float | None = None
    log_z: float
    train: BoundParts
    valid: BoundParts
    rbm: dict[str, float]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Epoch:
        """Return the epoch that `data` describes; TypeError or KeyError if it has another form."""
        bounds = {name: BoundParts(**data[name]) for name in ("train", "valid")}
        return cls(**{**data, **bounds})

    def to_dict(self) -> dict[str, Any]:
        """Return the epoch as callbacks receive it and `metrics.jsonl` has it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def append_metrics(run: Path, epoch: Epoch) -> None:
    """Append the line of an epoch to `metrics.jsonl`."""
    path = run / "metrics.jsonl"
    with name_os_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(epoch.to_dict()) + "\n")


def truncate_metrics(run: Path, n_epochs: int) -> float:
    """Keep the first `n_epochs` lines of `metrics.jsonl`, and return the seconds of training at the last of them.

    Later epochs are trained and written again.
    """
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if len(lines) > n_epochs or not path.exists():
        write_text(path, "".join(lines[:n_epochs]))
    try:
        return float(json.loads(lines[:n_epochs][-1])["seconds"])
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0  # the file was removed or edited; the seconds are only informative


def read_metrics(path: Path) -> tuple[list[Epoch], list[str]]:
    """Read `path`; a half-written last line of a killed run is skipped.

    Returns
    -------
    epochs : list of Epoch
        In the order of the file; empty if there is no such file.
    notes : list of str
        Remarks on the file, as sentences.

    Raises
    ------
    ResultError
        If any other line is not a JSON object of the expected form; the message names the line.
    """
    epochs: list[Epoch] = []
    notes: list[str] = []
    lines = _lines(path)
    for number, line in enumerate(lines, start=1):
        try:
            epochs.append(Epoch.from_dict(json.loads(line)))
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError as well
            if number < len(lines):
                raise _damaged(path, number, error) from error
            notes.append(f"{path.name}: the last line ({number}) is half-written and was skipped.")
        except (KeyError, RecursionError, TypeError) as error:
            raise _damaged(path, number, error) from error
    return epochs, notes


def _lines(path: Path) -> list[bytes]:
    """Return the lines of `path` without empty ones at its end; none if there is no such file."""
    if not path.exists():
        return []
    if not path.is_file() or path.stat().st_size > LIMIT_BYTES:
        raise ResultError(
            f"{path}: not a regular file, or more than {LIMIT_BYTES} bytes; give the file that training wrote"
        )
    return path.read_bytes().rstrip().splitlines()


def _damaged(path: Path, number: int, error: Exception) -> ResultError:
    """Return the error that names the line."""
    if number == 1 and isinstance(error, KeyError):
        return ResultError(f"{path}: not the metrics of a training; give a run, or its metrics.jsonl")
    return ResultError(f"{path}: line {number} is damaged ({error}); fix or delete that line")
