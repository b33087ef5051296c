"""The difference of two runs' log-likelihoods, or of two means over runs, with the error of the difference.

Runs on the same images are correlated: an image that is hard for one is hard for the other.  The standard error of
the paired differences is much smaller than the errors of the two means suggest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np

from dvae_core.types import Float
from dvae_eval.results import LikelihoodResult

from .run_directory import RunRecord


@dataclass(frozen=True, slots=True)
class Difference:
    """One log-likelihood minus another, nats per image.

    Attributes
    ----------
    log_likelihood, elbo : float
        Differences of the means.
    std_err_images : float
        Standard error from the choice of images, paired.
    std_err_log_z : float
        Standard error from both estimates of log Z; 0 for the same estimate, which shifts both equally.
    std_err_runs : float or None
        Standard error from the seeds of training, by the spread of the runs; None unless both have several.
    """

    log_likelihood: float
    elbo: float
    std_err_images: float
    std_err_log_z: float
    std_err_runs: float | None = None

    @property
    def std_err(self) -> float:
        """All known errors combined."""
        return math.hypot(self.std_err_images, self.std_err_log_z, self.std_err_runs or 0.0)


def difference(one: LikelihoodResult, other: LikelihoodResult) -> Difference | None:
    """Return `one` minus `other`; None unless both were measured on the same images."""
    return mean_difference([one], [other])


def mean_difference(ones: Sequence[LikelihoodResult], others: Sequence[LikelihoodResult]) -> Difference | None:
    """Return the mean of `ones` minus the mean of `others`; None unless all were measured on the same images."""
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
    """Return every run's difference from the first; None for the first and for runs that cannot be compared."""
    first = records[0]
    return [None, *(_between(record, first) for record in records[1:])]


def paired_std_errs(results: Sequence[LikelihoodResult]) -> list[float] | None:
    """Return standard errors of several log-likelihoods without the variation over images that all share.

    Each is that of the deviations from the mean over k results, image by image, times √(k / (k - 1)): two of them
    combined are the error of the difference (Cousineau 2005, Morey 2008).  They include the error of log Z.  None
    unless there are several results, all on the same images.
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
    """Return `paired_std_errs` of each result among those on the same images; None if there are no others.

    `data` identifies the data of each result.  Results that agree on every image have no paired error: None.
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
    """Return the error from all estimates of log Z, each with its weight in the difference."""
    shares: dict[tuple[object, float], float] = {}
    std_errs: dict[tuple[object, float], float] = {}
    for results, sign in ((ones, 1.0), (others, -1.0)):
        for result in results:
            estimate = result.model.get("prior_sha256"), result.log_z
            shares[estimate] = shares.get(estimate, 0.0) + sign / len(results)
            std_errs[estimate] = result.std_err_log_z
    return math.hypot(*(share * std_errs[estimate] for estimate, share in shares.items()))


def _std_err_runs(ones: Sequence[LikelihoodResult], others: Sequence[LikelihoodResult]) -> float | None:
    """Return the error from the spread of the runs; None if either side has a single run."""
    if min(len(ones), len(others)) < 2:
        return None
    return math.sqrt(sum(variance(r.log_likelihood for r in side) / len(side) for side in (ones, others)))


def _between(record: RunRecord, first: RunRecord) -> Difference | None:
    """Return the difference of two runs; None unless they have the same data and measured images."""
    if record.likelihood is None or first.likelihood is None or _data(record) != _data(first):
        return None
    return difference(record.likelihood, first.likelihood)


def _data(record: RunRecord) -> tuple[str, str]:
    """Return name and digest of a run's data set."""
    return record.config.dataset, str(record.provenance.get("data_sha256", ""))


def _same_images(one: LikelihoodResult, other: LikelihoodResult) -> bool:
    """Return whether two results have the same images of the same split, all with finite values."""
    parts = {(result.settings.get("data_sha256"), result.settings.get("split", "test")) for result in (one, other)}
    indices = [result.per_image.get("index") for result in (one, other)]
    values = [_values(result) for result in (one, other)]
    return (
        len(parts) == 1
        and indices[0] == indices[1]
        and len(values[0]) == len(values[1]) > 1
        and all(bool(np.isfinite(array).all()) for array in values)
    )


def _values(result: LikelihoodResult) -> Float:
    """Return the images' log-likelihoods, with nan for null."""
    return np.array(result.per_image.get("log_likelihood", []), dtype=np.float64)
