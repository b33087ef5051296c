"""The difference of two runs' log-likelihoods, or of two means over runs, with the error of the difference.

Runs that are measured on the same images share what makes an image easy or hard.  The error of their difference is
that of the differences image by image, which is much smaller than what the errors of the two means suggest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray

from dvae_eval.results import LikelihoodResult

from .run_directory import RunRecord


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher one log-likelihood is than another, nats per image.

    Attributes
    ----------
    log_likelihood, elbo : float
        Differences of the means.
    std_err_images : float
        Standard error from the choice of images, paired.
    std_err_log_z : float
        Standard error from both estimates of log Z; 0 if they are of one prior, whose error moves both alike.
    std_err_runs : float or None
        Standard error from training both anew, by the spread of their runs; None unless both have several.
    """

    log_likelihood: float
    elbo: float
    std_err_images: float
    std_err_log_z: float
    std_err_runs: float | None = None

    @property
    def std_err(self) -> float:
        """All known errors together."""
        return math.hypot(self.std_err_images, self.std_err_log_z, self.std_err_runs or 0.0)


def difference(one: LikelihoodResult, other: LikelihoodResult) -> Difference | None:
    """Return `one` less `other`, None unless both were measured on the same images."""
    return mean_difference([one], [other])


def mean_difference(ones: Sequence[LikelihoodResult], others: Sequence[LikelihoodResult]) -> Difference | None:
    """Return the mean of some runs less the mean of others, None unless all were measured on the same images."""
    results = [*ones, *others]
    if not all(_same_images(ones[0], result) for result in results):
        return None
    gaps = np.mean([_values(result) for result in ones], axis=0) - np.mean(
        [_values(result) for result in others], axis=0
    )
    return Difference(
        log_likelihood=fmean(r.log_likelihood for r in ones) - fmean(r.log_likelihood for r in others),
        elbo=fmean(r.elbo for r in ones) - fmean(r.elbo for r in others),
        std_err_images=float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps)),
        std_err_log_z=_std_err_log_z(ones, others),
        std_err_runs=_std_err_runs(ones, others),
    )


def differences_from_first(records: Sequence[RunRecord]) -> list[Difference | None]:
    """Return every run's difference from the first, None where there is none to be had."""
    first = records[0]
    return [None, *(_between(record, first) for record in records[1:])]


def paired_std_errs(results: Sequence[LikelihoodResult]) -> list[float] | None:
    """Return the standard errors of several log-likelihoods without what the choice of images does to all alike.

    They are of the deviations from the mean over k results, image by image, times √(k / (k - 1)): those of two,
    together, are the error of their difference (Cousineau 2005, Morey 2008).  The error of log Z is in them.  None
    unless there are several, all of the same images.
    """
    k = len(results)
    if k < 2 or not all(_same_images(results[0], result) for result in results):
        return None
    values = np.array([_values(result) for result in results])
    spread = np.std(values - values.mean(0), axis=1, ddof=1) * math.sqrt(k / (k - 1) / values.shape[1])
    return [
        math.hypot(error, result.std_err_log_z) for error, result in zip(spread.tolist(), results, strict=True)
    ]


def paired_errors(results: Sequence[LikelihoodResult], data: Sequence[object]) -> list[float | None]:
    """Return `paired_std_errs` of each among those of the same images; None where there are no others.

    `data` tells of each result on which data it was measured.
    Numbers that agree on every image say nothing of how well they are known: their error is None, too.
    """
    sets: list[list[int]] = []
    for i, result in enumerate(results):
        if result.std_err_log_z is None:
            continue
        home = next((s for s in sets if data[s[0]] == data[i] and _same_images(results[s[0]], result)), None)
        if home is None:
            sets.append([i])
        else:
            home.append(i)
    errors: list[float | None] = [None] * len(results)
    for members in sets:
        for i, error in zip(members, paired_std_errs([results[i] for i in members]) or [], strict=False):
            errors[i] = error if error > results[i].std_err_log_z else None
    return errors


def _std_err_log_z(ones: Sequence[LikelihoodResult], others: Sequence[LikelihoodResult]) -> float:
    """Return the error from all estimates of log Z, each counted with the weight that it has in the difference."""
    shares: dict[tuple[object, float], float] = {}
    std_errs: dict[tuple[object, float], float] = {}
    for results, sign in ((ones, 1.0), (others, -1.0)):
        for result in results:
            estimate = result.model.get("prior_sha256"), result.log_z
            shares[estimate] = shares.get(estimate, 0.0) + sign / len(results)
            std_errs[estimate] = result.std_err_log_z
    return math.hypot(*(share * std_errs[estimate] for estimate, share in shares.items()))


def _std_err_runs(ones: Sequence[LikelihoodResult], others: Sequence[LikelihoodResult]) -> float | None:
    """Return the error from the spread of the runs of both sides; None where one of them has a single run."""
    if min(len(ones), len(others)) < 2:
        return None
    return math.sqrt(sum(variance(r.log_likelihood for r in side) / len(side) for side in (ones, others)))


def _between(record: RunRecord, first: RunRecord) -> Difference | None:
    """Return the difference of two runs, None unless they are of the same data and measured alike."""
    if record.likelihood is None or first.likelihood is None or _data(record) != _data(first):
        return None
    return difference(record.likelihood, first.likelihood)


def _data(record: RunRecord) -> tuple[str, str]:
    """Return what tells one data set from another."""
    return record.config.dataset, str(record.provenance.get("data_sha256", ""))


def _same_images(one: LikelihoodResult, other: LikelihoodResult) -> bool:
    """Whether two results list the same images of the same part of the data, each with a finite value."""
    parts = {(result.settings.get("data_sha256"), result.settings.get("split", "test")) for result in (one, other)}
    indices = [result.per_image.get("index") for result in (one, other)]
    values = [_values(result) for result in (one, other)]
    return (
        len(parts) == 1
        and indices[0] == indices[1]
        and len(values[0]) == len(values[1]) > 1
        and all(bool(np.isfinite(array).all()) for array in values)
    )


def _values(result: LikelihoodResult) -> NDArray[np.float64]:
    """Return the images' log-likelihoods, nan where the file holds null."""
    return np.array(result.per_image.get("log_likelihood", []), dtype=np.float64)
