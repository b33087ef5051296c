"""Runs that differ in their seed alone as one mean, and the error that its digits are by.

A number is averaged with others only if data, model, training and measurement agree in everything but seeds and
the models themselves differ; whatever cannot be shown to agree stands alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dvae_core.config import RunConfig
from dvae_core.errors import ResultError
from dvae_core.text import decimals
from dvae_eval.results import LikelihoodResult
from dvae_eval.verdict import Level, worst

from .loaded import IGNORED_SETTINGS, LoadedResult
from .paired import paired_errors
from .run_names import distinct_names


@dataclass(frozen=True, slots=True)
class Group:
    """Log-likelihoods of runs that differ in nothing but their seeds; often a single one.

    Attributes
    ----------
    name : str
        What the runs have in common of their names.
    runs : list of LoadedResult
        Each holds a LikelihoodResult.
    paired_std_err : float or None
        Standard error, nats, without what the choice of images does to all runs alike, the largest of the runs';
        None where no other run was measured on the same images.  See `paired_errors`.
    """

    name: str
    runs: list[LoadedResult]
    paired_std_err: float | None = None

    @property
    def results(self) -> list[LikelihoodResult]:
        """The runs' results."""
        return likelihoods(self.runs)

    @property
    def log_likelihood(self) -> float:
        """Mean over the runs, nats per image."""
        return fmean(r.log_likelihood for r in self.results)

    @property
    def elbo(self) -> float:
        """Mean over the runs, nats per image."""
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
    def std_err(self) -> float | None:
        """Error from the choice of images and from log Z together, nats; None if one of them is unknown."""
        if self.std_err_images is None or self.std_err_log_z is None:
            return None
        return math.hypot(self.std_err_images, self.std_err_log_z)

    @property
    def error(self) -> float | None:
        """The error that the mean is compared by, nats: see `error_name`, which says which one it is."""
        if self.std_dev is not None:
            return self.std_dev
        return self.std_err if self.paired_std_err is None else self.paired_std_err

    @property
    def decimals(self) -> int:
        """Decimals of the mean: as many as its comparison with other runs allows.

        The choice of images moves all runs on the same images alike, so their differences are known better than
        each of them: the largest error of seeds, paired differences and log Z counts, not that over images.  Seeds
        that agree by chance do not make it small, since the paired differences of a few of them are not.
        """
        if self.std_err is None or (self.std_dev is None and self.paired_std_err is None):
            return decimals(self.std_err_images, self.std_err_log_z)
        return decimals(self.std_dev or 0.0, self.paired_std_err or 0.0, self.std_err_log_z)

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
    def data(self) -> tuple[str, str]:
        """What tells one data set from another."""
        return self.dataset, self.runs[0].data_sha256

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


def error_name(groups: Sequence[Group]) -> str:
    """Return what `Group.error` is in these groups."""
    names = {
        "sd of runs": lambda group: group.std_dev is not None,
        "paired error over images": lambda group: group.std_dev is None and group.paired_std_err is not None,
        "error over images and log Z": lambda group: group.std_dev is None and group.paired_std_err is None,
    }
    return " or ".join(name for name, is_of in names.items() if any(map(is_of, groups)))


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
    everything = [run for runs in groups.values() for run in runs]
    data = [(run.dataset, run.data_sha256) for run in everything]
    found = iter(paired_errors(likelihoods(everything), data))
    return [
        Group(runs[0].label or name, runs, _largest_known([next(found) for _ in runs]))
        for name, runs in zip(names, groups.values(), strict=True)
    ]


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


def _largest_known(errors: Sequence[float | None]) -> float | None:
    """Return the largest error; None if all are unknown."""
    return max((error for error in errors if error is not None), default=None)
