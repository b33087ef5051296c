"""Results with their runs and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvae_core.config import RunConfig
from dvae_core.errors import ResultError
from dvae_core.io.files import sha256_file
from dvae_eval.results import LikelihoodResult, LogZResult, Result, load_result, load_result_lines

from .log_z_in_use import on_best_log_z
from .run_directory import COMMANDS_OF_FILES, RunRecord, read_settings
from .run_names import distinct_names

# Suffix of files with one result per line.
LINES = ".jsonl"

# Settings of a measurement that do not change its expectation.
IGNORED_SETTINGS = frozenset({"seed", "device", "n_simulated"})


@dataclass(frozen=True, slots=True)
class LoadedResult:
    """A result and the run that it was made from.

    Attributes
    ----------
    path : Path
        The file or the run directory as given by the user.
    result : Result
        The result in the file.
    config : RunConfig or None
        Settings of the run; None for a result outside a run directory.
    data_sha256 : str
        Digest of the training data; empty when unknown.
    training : tuple of str
        The command line that trained the model; empty when unknown.
    machine : Path or None
        For a line of a .jsonl: the file of its machine, which names it.
    label : str
        The user's name for it; empty if `place` names it.
    """

    path: Path
    result: Result
    config: RunConfig | None
    data_sha256: str = ""
    training: tuple[str, ...] = ()
    machine: Path | None = None
    label: str = ""

    @classmethod
    def of_run(cls, path: Path, result: Result, config: RunConfig, provenance: Mapping[str, Any]) -> LoadedResult:
        """Return a result of a run with the given settings and provenance."""
        command = provenance.get("command")
        training = tuple(map(str, command)) if isinstance(command, list) else ()
        return cls(path, result, config, str(provenance.get("data_sha256", "")), training)

    @property
    def place(self) -> Path:
        """The path that names the result: the run directory, or else the file without its suffix."""
        if self.machine is not None:
            return self.machine
        path = self.path.resolve()
        if path.name in COMMANDS_OF_FILES and self.config is not None:
            return path.parent
        return path.with_suffix("") if path.is_file() else path

    @property
    def dataset(self) -> str:
        """The data that the model was measured on: those of its training, unless the result names others."""
        return str(self.result.settings.get("data") or self.trained_on)

    @property
    def trained_on(self) -> str:
        """The data that the model was trained on."""
        return str(self.result.model.get("dataset") or (self.config.dataset if self.config else "unknown data"))


def load_results(path: Path) -> list[LoadedResult]:
    """Return the results at `path`: one of a file, the lines of a .jsonl, log-likelihood and log Z of a run.

    Raises
    ------
    ResultError
        If a file is damaged or of another schema, if a result was made from another model than its run, or if a
        directory has neither settings nor results; the message names the file.
    """
    if path.is_dir():
        record = RunRecord.load(path)
        found: list[Result] = [result for result in (record.likelihood, record.log_z) if result is not None]
        if not found:
            raise ResultError(f"{path}: no result; make one with dvae-eval logz or dvae-eval ll")
        for result in found:
            _refuse_without_numbers(path, result)
        return [LoadedResult.of_run(path, result, record.config, record.provenance) for result in found]
    if path.suffix == LINES:
        return _of_lines(path)
    result = load_result(path)
    _refuse_without_numbers(path, result)
    config_file = path.parent / "config.json"
    if not config_file.exists():
        return [LoadedResult(path, result, None)]
    _refuse_another_model(path, result)
    result = _on_log_z_beside(path, result)
    config, provenance = read_settings(config_file)
    return [LoadedResult.of_run(path, result, config, provenance)]


def _of_lines(path: Path) -> list[LoadedResult]:
    """Return the results in a .jsonl, each named by its machine; ResultError if there are none."""
    found = load_result_lines(path)
    if not found:
        raise ResultError(f"{path}: contains no result; make some with dvae-eval logz MODEL... -o FILE{LINES}")
    for result in found:
        _refuse_without_numbers(path, result)
    return [LoadedResult(path, result, None, machine=_machine_of(path, result)) for result in found]


def _machine_of(path: Path, result: Result) -> Path:
    """Return the path of a result's machine without its suffix, and with its update in an archive."""
    file = Path(str(result.model.get("file") or path)).with_suffix("").absolute()
    update = result.model.get("update")
    return file if update is None else file / f"update-{update}"


def _on_log_z_beside(path: Path, result: Result) -> Result:
    """Return a log-likelihood that uses the log Z of its run if that is better; other results unchanged."""
    beside = path.with_name("logz.json")
    if not isinstance(result, LikelihoodResult) or not beside.exists():
        return result
    log_z = load_result(beside)
    return on_best_log_z(result, log_z if isinstance(log_z, LogZResult) else None, beside)


def named(measured: Sequence[LoadedResult]) -> list[tuple[str, LoadedResult]]:
    """Return results with their names: the label, or the run's name with enough directories to be unique."""
    names = distinct_names([[one.place] for one in measured])
    places: dict[str, set[Path]] = {}
    for one in measured:
        places.setdefault(one.label, set()).add(one.place)
    return [
        (_name(one, name, is_shared=len(places[one.label]) > 1), one)
        for name, one in zip(names, measured, strict=True)
    ]


def _name(one: LoadedResult, name: str, *, is_shared: bool) -> str:
    """Return the label of a result, with its seed if several runs share the label; its `name` without a label."""
    if not one.label or not is_shared:
        return one.label or name
    return f"{one.label}, " + (name if one.config is None else f"seed {one.config.train.seed}")


def _refuse_without_numbers(path: Path, result: Result) -> None:
    """Raise ResultError if a number that tables print is not finite."""
    names = {"ll": ("log_likelihood", "elbo"), "logz": ("log_z",)}.get(result.kind, ())
    for name in names:
        value = getattr(result, name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ResultError(f"{path}: {name} of its {result.kind} result is {value!r}; make the result again")


def _refuse_another_model(path: Path, result: Result) -> None:
    """Raise ResultError if the directory of a result file has another model, or a result of another model."""
    own, model = result.model.get("sha256"), path.with_name("model.pt")
    if model.exists():
        neighbours = {model: sha256_file(model)}
    else:
        siblings = [path.with_name(name) for name in ("logz.json", "ll.json")]
        found = {sibling: load_result(sibling) for sibling in siblings if sibling.exists() and sibling != path}
        neighbours = {sibling: str(other.model.get("sha256")) for sibling, other in found.items()}
    for neighbour, digest in neighbours.items():
        if digest != own:
            raise ResultError(
                f"{path}: made from another model than {neighbour}; make it again or move it elsewhere"
            )
