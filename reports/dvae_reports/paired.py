"""The difference of two runs' log-likelihoods, with the error of the difference.

Runs that are measured on the same images share what makes an image easy or hard.  The error of their difference is
that of the differences image by image, which is much smaller than what the errors of the two means suggest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvae_eval.results import LikelihoodResult

from .run_directory import RunRecord

__all__ = ["Difference", "difference", "differences_from_first"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher one log-likelihood is than another, nats an image.

    Attributes
    ----------
    log_likelihood, elbo : float
        Differences of the means.
    std_err_images : float
        Standard error from the choice of images, paired.
    std_err_log_z : float
        Standard error from both estimates of log Z; 0 if they are of one prior, whose error moves both alike.
    """

    log_likelihood: float
    elbo: float
    std_err_images: float
    std_err_log_z: float

    @property
    def std_err(self) -> float:
        """Both errors together."""
        return math.hypot(self.std_err_images, self.std_err_log_z)


def difference(one: LikelihoodResult, other: LikelihoodResult) -> Difference | None:
    """Return `one` less `other`, None unless both were measured on the same images."""
    if not _same_images(one, other):
        return None
    gaps = _values(one) - _values(other)
    same_prior = one.model.get("prior_sha256") == other.model.get("prior_sha256") and one.log_z == other.log_z
    return Difference(
        log_likelihood=one.log_likelihood - other.log_likelihood,
        elbo=one.elbo - other.elbo,
        std_err_images=float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps)),
        std_err_log_z=0.0 if same_prior else math.hypot(one.std_err_log_z, other.std_err_log_z),
    )


def differences_from_first(records: Sequence[RunRecord]) -> list[Difference | None]:
    """Return every run's difference from the first, None where there is none to be had."""
    first = records[0]
    return [None, *(_between(record, first) for record in records[1:])]


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
    splits = {result.settings.get("split", "test") for result in (one, other)}
    indices = [result.per_image.get("index") for result in (one, other)]
    values = [_values(result) for result in (one, other)]
    return (
        len(splits) == 1
        and indices[0] == indices[1]
        and len(values[0]) == len(values[1]) > 1
        and all(bool(np.isfinite(array).all()) for array in values)
    )


def _values(result: LikelihoodResult) -> NDArray[np.float64]:
    """Return the images' log-likelihoods, nan where the file holds null."""
    return np.array(result.per_image.get("log_likelihood", []), dtype=np.float64)
