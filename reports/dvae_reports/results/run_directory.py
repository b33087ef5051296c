"""A run as a value: all files of its directory that a report shows, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dvae_core.config import Change, RunConfig
from dvae_core.errors import ConfigError, ResultError
from dvae_core.io.files import json_object, read_text, sha256_file
from dvae_core.training.metrics import Epoch, read_metrics
from dvae_eval.likelihood.images import LikelihoodImages
from dvae_eval.results import LikelihoodResult, LogZResult, Result, load_result
from dvae_eval.samples.grid import SampleGrid

from .log_z_in_use import log_z_notes, on_best_log_z, shift_of

T = TypeVar("T")
R = TypeVar("R", bound=Result)

# The command that makes each file, for messages about missing ones.
COMMANDS_OF_FILES = {"logz.json": "logz", "ll.json": "ll", "ll.images.npz": "ll", "samples.npz": "samples"}


@dataclass(frozen=True, slots=True)
class Course:
    """The epochs of one training, and the settings that changed during it."""

    epochs: list[Epoch]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The files of one trained model; missing measurements are None.

    Attributes
    ----------
    directory : Path
        The directory of the run.
    config, provenance : RunConfig, dict
        Settings, and their provenance: versions, command, seed.
    epochs : list of Epoch
        The course of training; empty if its file is missing.
    model_sha256 : str or None
        Digest of `model.pt`; None if the file is missing.
    log_z, likelihood, images, samples : LogZResult, LikelihoodResult, LikelihoodImages, SampleGrid, or None
        Measurements, all of this model.
    notes : list of str
        Remarks on the files, as sentences.
    """

    directory: Path
    config: RunConfig
    provenance: dict[str, Any]
    epochs: list[Epoch]
    model_sha256: str | None
    log_z: LogZResult | None
    likelihood: LikelihoodResult | None
    images: LikelihoodImages | None
    samples: SampleGrid | None
    notes: list[str]

    @property
    def course(self) -> Course:
        """The course of training, with the changes of settings."""
        return Course(self.epochs, self.config.changes)

    @classmethod
    def load(cls, directory: Path) -> RunRecord:
        """Read the run in `directory`.

        Raises
        ------
        ResultError
            If `config.json` is missing, if a file is damaged or of another schema, or if a result was made
            from another model than `model.pt`; the message names the files and the remedy.
        """
        config, provenance = read_settings(directory / "config.json")
        epochs, notes = read_metrics(directory / "metrics.jsonl")
        log_z = _optional(directory / "logz.json", _reader(LogZResult))
        likelihood = _optional(directory / "ll.json", _reader(LikelihoodResult))
        images = _optional(directory / "ll.images.npz", LikelihoodImages.load)
        samples = _optional(directory / "samples.npz", SampleGrid.load)
        models = {
            "logz.json": log_z.model if log_z else None,
            "ll.json": likelihood.model if likelihood else None,
            "ll.images.npz": images.meta.get("model", {}) if images else None,
            "samples.npz": samples.meta.get("model", {}) if samples else None,
        }
        digest = _optional(directory / "model.pt", sha256_file)
        notes += _check_models(directory, digest, {k: m for k, m in models.items() if m is not None})
        if likelihood:
            likelihood = on_best_log_z(likelihood, log_z, directory / "logz.json")
            images = images.shifted(shift_of(likelihood)) if images else None
            notes += log_z_notes(likelihood, log_z)
        notes += [f"Settings changed during training: {change}." for change in config.changes]
        return cls(directory, config, provenance, epochs, digest, log_z, likelihood, images, samples, notes)


def read_settings(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return the settings and the provenance in the `config.json` at `path`; ResultError if unusable."""
    try:
        data = json_object(read_text(path))
        return RunConfig.from_dict(data), dict(data.get("provenance", {}))
    except FileNotFoundError as error:
        raise ResultError(f"{path}: missing; give a directory that dvae-train made") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"no settings ({error})"
        raise ResultError(f"{path}: {reason}; restore the file that dvae-train wrote") from error


def _optional(path: Path, read: Callable[[Path], T]) -> T | None:
    """Return `read(path)`; None if there is no such file."""
    return read(path) if path.exists() else None


def _reader(cls: type[R]) -> Callable[[Path], R]:
    """Return a reader of results of one kind; ResultError for any other kind."""

    def read(path: Path) -> R:
        result = load_result(path)
        if not isinstance(result, cls):
            raise ResultError(
                f"{path}: contains a result of kind {result.kind!r}, not {cls.kind!r}; make the file again"
            )
        return result

    return read


def _check_models(directory: Path, digest: str | None, models: dict[str, dict[str, Any]]) -> list[str]:
    """Raise ResultError for results of different models; return a note if only `model.pt` is missing.

    A number of another model is worse than no number.
    """
    digests = {directory / name: model.get("sha256") for name, model in models.items()}
    if digest is not None:
        digests = {directory / "model.pt": digest, **digests}
    reference = next(iter(digests), None)
    for path, other in digests.items():
        if reference is not None and other != digests[reference]:
            command = f"dvae-eval {COMMANDS_OF_FILES[path.name]} {directory / 'model.pt'}"
            raise ResultError(
                f'{path}: made from another model than {reference}; make it again ("{command}") or remove it'
            )
    if digest is None and digests:
        return [
            "model.pt is missing: all results are of one model, but could not be checked against its file. Copy "
            "model.pt into the run directory to check them."
        ]
    return []
