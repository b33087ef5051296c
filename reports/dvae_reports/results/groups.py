"""Groups of runs that differ only in their seeds: their mean, and the error that sets its digits.

Results are averaged only if data, model, training and measurement agree in everything but the seeds, and the
models differ; a result whose settings are unknown is a group by itself.
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
    """Log-likelihoods of runs that differ only in their seeds; often a single one.

    Attributes
    ----------
    name : str
        The common part of the runs' names.
    runs : list of LoadedResult
        Each with a LikelihoodResult.
    paired_std_err : float or None
        Standard error, nats, without the part from the choice of images that all runs share; the largest of the
        runs.  None if no other run was measured on the same images.  See `paired_errors`.
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
        """Largest error from the choice of images; means have the same, since runs share their images."""
        return _largest(r.std_err_images for r in self.results)

    @property
    def std_err_log_z(self) -> float | None:
        """Largest error of log Z."""
        return _largest(r.std_err_log_z for r in self.results)

    @property
    def std_err(self) -> float | None:
        """Combined error from the choice of images and from log Z, nats; None if either is unknown."""
        if self.std_err_images is None or self.std_err_log_z is None:
            return None
        return math.hypot(self.std_err_images, self.std_err_log_z)

    @property
    def error(self) -> float | None:
        """The error with which to compare the mean, nats; `error_name` returns its name."""
        if self.std_dev is not None:
            return self.std_dev
        return self.std_err if self.paired_std_err is None else self.paired_std_err

    @property
    def decimals(self) -> int:
        """Decimals of the mean, for comparison with other runs.

        The choice of images shifts all runs on the same images equally, so their differences are more precise than
        each of them: the largest error of seeds, paired differences and log Z sets the digits, not the error over
        images.  Seeds that agree by chance do not reduce it, because the paired errors remain.
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
        """Whether all runs are trustworthy."""
        return all(r.trustworthy for r in self.results)

    @property
    def config(self) -> RunConfig | None:
        """Settings of the first run."""
        return self.runs[0].config

    @property
    def dataset(self) -> str:
        """The data that the models were measured on."""
        return self.runs[0].dataset

    @property
    def data(self) -> tuple[str, str]:
        """Name and digest of the data set."""
        return self.dataset, self.runs[0].data_sha256

    @property
    def trained_on(self) -> str | None:
        """The data of training if the models were measured on other data; else None."""
        first = self.runs[0]
        return first.trained_on if first.result.settings.get("data") else None

    @property
    def split(self) -> str:
        """The measured split of the data."""
        return str(self.results[0].settings.get("split", "test"))

    @property
    def n_images(self) -> int:
        """Number of measured images."""
        return self.results[0].n_images

    @property
    def is_comparable(self) -> bool:
        """Whether the whole test set of the training's data was measured, as in published results."""
        return self.split == "test" and self.is_whole_split and self.trained_on is None

    @property
    def is_whole_split(self) -> bool:
        """Whether every image of the split was measured; parts are evenly spread and include the last image."""
        first = self.results[0]
        index = first.per_image.get("index")
        return index[-1] == first.n_images - 1 if index else not first.settings.get("limit")


def error_name(groups: Sequence[Group]) -> str:
    """Return the name of `Group.error` in these groups."""
    names = {
        "sd of runs": lambda group: group.std_dev is not None,
        "paired error over images": lambda group: group.std_dev is None and group.paired_std_err is not None,
        "error over images and log Z": lambda group: group.std_dev is None and group.paired_std_err is None,
    }
    return " or ".join(name for name, is_of in names.items() if any(map(is_of, groups)))


def likelihoods(measured: Iterable[LoadedResult]) -> list[LikelihoodResult]:
    """Return the log-likelihood results of these runs."""
    return [m.result for m in measured if isinstance(m.result, LikelihoodResult)]


def group_runs(measured: Sequence[LoadedResult]) -> list[Group]:
    """Return the log-likelihood results in groups to average, in the order of their first members.

    Raises
    ------
    ResultError
        If two members of a group measure the same model, which would count twice.
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
    """Return a text that is equal for results that may be averaged."""
    parts: dict[str, Any] = {
        "dataset": one.dataset,
        "data": one.data_sha256,
        "trustworthy": result.trustworthy,
        "settings": {key: value for key, value in result.settings.items() if key not in IGNORED_SETTINGS},
        "size": [result.n_samples, result.n_images],
        # Without settings of its training, a model is a group by itself.
        "model": result.model.get("sha256"),
    }
    if one.config is not None:
        config = one.config.to_dict()
        config["train"].pop("seed")
        parts["model"] = config
    return json.dumps(parts, sort_keys=True)


def _refuse_repeated_models(runs: Sequence[LoadedResult]) -> None:
    """Raise ResultError if two runs of a group have the same model."""
    seen: dict[str, Path] = {}
    for run in runs:
        digest = str(run.result.model.get("sha256"))
        if digest in seen:
            raise ResultError(f"{run.path}: measures the same model as {seen[digest]}; give only one of them")
        seen[digest] = run.path


def _largest(errors: Iterable[float | None]) -> float | None:
    """Return the largest error; None if any is unknown."""
    known = list(errors)
    return None if None in known else max(error for error in known if error is not None)


def _largest_known(errors: Sequence[float | None]) -> float | None:
    """Return the largest error; None if all are unknown."""
    return max((error for error in errors if error is not None), default=None)
