"""Results with the runs that they belong to, and runs that differ in their seed alone as one mean.

A number is averaged with others only if data, model, training and measurement agree in everything but seeds and
the models themselves differ; whatever cannot be shown to agree stands alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dvae_core.config import RunConfig
from dvae_core.errors import ResultError
from dvae_core.io.files import sha256_file
from dvae_core.text import decimals
from dvae_eval.results import LikelihoodResult, LogZResult, Result, load_result
from dvae_eval.verdict import Level, worst

from .log_z_in_use import on_best_log_z
from .run_directory import COMMANDS_OF_FILES, RunRecord, read_settings
from .run_names import distinct_names

__all__ = ["Group", "LoadedResult", "group_runs", "likelihoods", "load_results", "named"]

# Settings of a measurement that leave its expectation alone.
IGNORED_SETTINGS = frozenset({"seed", "device", "n_simulated"})


@dataclass(frozen=True, slots=True)
class LoadedResult:
    """One result file and the run that it was made from.

    Attributes
    ----------
    path : Path
        The file or the run directory as the user named it.
    result : Result
        What the file holds.
    config : RunConfig or None
        Settings of the run; None for a result that lies outside a run directory.
    data_sha256 : str
        Digest of the training data; empty when unknown.
    training : tuple of str
        The command line that trained the model; empty when unknown.
    """

    path: Path
    result: Result
    config: RunConfig | None
    data_sha256: str = ""
    training: tuple[str, ...] = ()

    @classmethod
    def of_run(cls, path: Path, result: Result, config: RunConfig, provenance: Mapping[str, Any]) -> LoadedResult:
        """Return a result of a run whose settings came from `provenance`."""
        command = provenance.get("command")
        training = tuple(map(str, command)) if isinstance(command, list) else ()
        return cls(path, result, config, str(provenance.get("data_sha256", "")), training)

    @property
    def place(self) -> Path:
        """What the result is named by: the run directory, or the file without its suffix where that says more."""
        path = self.path.resolve()
        if path.name in COMMANDS_OF_FILES and self.config is not None:
            return path.parent
        return path.with_suffix("") if path.is_file() else path

    @property
    def dataset(self) -> str:
        """What the model was measured on: the data of its training, unless the result names others."""
        return str(self.result.settings.get("data") or self.trained_on)

    @property
    def trained_on(self) -> str:
        """What the model was trained on."""
        return str(self.result.model.get("dataset") or (self.config.dataset if self.config else "unknown data"))


@dataclass(frozen=True, slots=True)
class Group:
    """Log-likelihoods of runs that differ in nothing but their seeds; often a single one.

    Attributes
    ----------
    name : str
        What the runs have in common of their names.
    runs : list of LoadedResult
        Each holds a LikelihoodResult.
    """

    name: str
    runs: list[LoadedResult]

    @property
    def results(self) -> list[LikelihoodResult]:
        """The runs' results."""
        return likelihoods(self.runs)

    @property
    def log_likelihood(self) -> float:
        """Mean over the runs, nats an image."""
        return fmean(r.log_likelihood for r in self.results)

    @property
    def elbo(self) -> float:
        """Mean over the runs, nats an image."""
        return fmean(r.elbo for r in self.results)

    @property
    def std_dev(self) -> float | None:
        """Standard deviation of one run's log-likelihood, from the spread over the runs; None for one run."""
        return stdev(r.log_likelihood for r in self.results) if len(self.runs) > 1 else None

    @property
    def std_err_images(self) -> float | None:
        """Largest error from the choice of images; the runs share their images, so a mean has no smaller one."""
        return _largest(r.std_err_images for r in self.results)

    @property
    def std_err_log_z(self) -> float | None:
        """Largest error of log Z."""
        return _largest(r.std_err_log_z for r in self.results)

    @property
    def decimals(self) -> int:
        """Decimals of the mean, by its largest error: seeds that agree do not reduce that of few images."""
        return decimals(self.std_err_images, self.std_err_log_z, self.std_dev or 0.0)

    @property
    def verdict(self) -> Level:
        """The worst verdict of the runs."""
        return worst([r.verdict for r in self.results])

    @property
    def trustworthy(self) -> bool:
        """Whether no run's number may be wrong."""
        return all(r.trustworthy for r in self.results)

    @property
    def config(self) -> RunConfig | None:
        """Settings of the first run."""
        return self.runs[0].config

    @property
    def dataset(self) -> str:
        """What the models were measured on."""
        return self.runs[0].dataset

    @property
    def trained_on(self) -> str | None:
        """What the models were trained on, if they were measured on other data."""
        first = self.runs[0]
        return first.trained_on if first.result.settings.get("data") else None

    @property
    def split(self) -> str:
        """Which part of the data was measured."""
        return str(self.results[0].settings.get("split", "test"))

    @property
    def n_images(self) -> int:
        """How many images were measured."""
        return self.results[0].n_images

    @property
    def is_comparable(self) -> bool:
        """Whether the number is that of the whole test set of the training's data, as published ones are."""
        return self.split == "test" and self.is_whole_split and self.trained_on is None

    @property
    def is_whole_split(self) -> bool:
        """Whether every image of that part was measured: images are taken evenly spread, the last one included."""
        first = self.results[0]
        index = first.per_image.get("index")
        return index[-1] == first.n_images - 1 if index else not first.settings.get("limit")


def load_results(path: Path) -> list[LoadedResult]:
    """Return the results at `path`: one for a file, all log Z and log-likelihood results of a run directory.

    Raises
    ------
    ResultError
        If a file is damaged or of another schema, if a result was made from another model than the run that it
        lies in, or if a directory holds neither settings nor results; the message names the file.
    """
    if path.is_dir():
        record = RunRecord.load(path)
        found: list[Result] = [result for result in (record.likelihood, record.log_z) if result is not None]
        if not found:
            raise ResultError(f'{path}: no result; make one ("dvae-eval ll {path / "model.pt"}")')
        for result in found:
            _refuse_without_numbers(path, result)
        return [LoadedResult.of_run(path, result, record.config, record.provenance) for result in found]
    result = load_result(path)
    _refuse_without_numbers(path, result)
    config_file = path.parent / "config.json"
    if not config_file.exists():
        return [LoadedResult(path, result, None)]
    _refuse_another_model(path, result)
    result = _on_log_z_beside(path, result)
    config, provenance = read_settings(config_file)
    return [LoadedResult.of_run(path, result, config, provenance)]


def _on_log_z_beside(path: Path, result: Result) -> Result:
    """Return a likelihood on the log Z of its run, where that is the better one; other results as they are."""
    beside = path.with_name("logz.json")
    if not isinstance(result, LikelihoodResult) or not beside.exists():
        return result
    log_z = load_result(beside)
    return on_best_log_z(result, log_z if isinstance(log_z, LogZResult) else None, beside)


def likelihoods(measured: Iterable[LoadedResult]) -> list[LikelihoodResult]:
    """Return the log-likelihood results among them."""
    return [m.result for m in measured if isinstance(m.result, LikelihoodResult)]


def group_runs(measured: Sequence[LoadedResult]) -> list[Group]:
    """Return the log-likelihood results in groups that may be averaged, in the order of their first members.

    Raises
    ------
    ResultError
        If two members of a group measure the same model, which would count one run twice.
    """
    groups: dict[str, list[LoadedResult]] = {}
    for one in measured:
        if isinstance(one.result, LikelihoodResult):
            groups.setdefault(_settings_key(one, one.result), []).append(one)
    for runs in groups.values():
        _refuse_repeated_models(runs)
    names = distinct_names([[run.place for run in runs] for runs in groups.values()])
    return [Group(name, runs) for name, runs in zip(names, groups.values(), strict=True)]


def named(measured: Sequence[LoadedResult]) -> list[tuple[str, LoadedResult]]:
    """Return results with their names: the run's, with as many directories above it as tell it from the others."""
    return list(zip(distinct_names([[one.place] for one in measured]), measured, strict=True))


def _refuse_without_numbers(path: Path, result: Result) -> None:
    """Raise if what a table is about to print is no finite number."""
    names = {"ll": ("log_likelihood", "elbo"), "logz": ("log_z",)}.get(result.kind, ())
    for name in names:
        value = getattr(result, name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ResultError(f"{path}: {name} of its {result.kind} result is {value!r}; make the result anew")


def _refuse_another_model(path: Path, result: Result) -> None:
    """Raise if the run directory around a result file holds another model, or a result of another one."""
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
                f"{path}: made from another model than {neighbour}; make it anew or move it elsewhere"
            )


def _settings_key(one: LoadedResult, result: LikelihoodResult) -> str:
    """Return a text that is equal for two results if they may be averaged."""
    parts: dict[str, Any] = {
        "dataset": one.dataset,
        "data": one.data_sha256,
        "trustworthy": result.trustworthy,
        "settings": {key: value for key, value in result.settings.items() if key not in IGNORED_SETTINGS},
        "size": [result.n_samples, result.n_images],
        # Nothing is known of how this model was trained: it stands alone.
        "model": result.model.get("sha256"),
    }
    if one.config is not None:
        config = one.config.to_dict()
        config["train"].pop("seed")
        parts["model"] = config
    return json.dumps(parts, sort_keys=True)


def _refuse_repeated_models(runs: Sequence[LoadedResult]) -> None:
    """Raise if two runs of a group are one."""
    seen: dict[str, Path] = {}
    for run in runs:
        digest = str(run.result.model.get("sha256"))
        if digest in seen:
            raise ResultError(f"{run.path}: measures the same model as {seen[digest]}; give one of them")
        seen[digest] = run.path


def _largest(errors: Iterable[float | None]) -> float | None:
    """Return the largest error; None if one of them is unknown."""
    known = list(errors)
    return None if None in known else max(error for error in known if error is not None)
