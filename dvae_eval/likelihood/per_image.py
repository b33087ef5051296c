"""The estimates of all images together: their mean, its errors and its gap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float, Index

from ..numbers import std_err_of_mean
from .importance import ImageWeights, milestones
from .pareto import pareto_limit

# With fewer samples than this the gap cannot be estimated.
MIN_SAMPLES = 100


@dataclass(frozen=True, slots=True)
class ImageEstimates:
    """The estimates of all images, from their weights and log Z.

    Attributes
    ----------
    weights : ImageWeights
        Of all images.
    log_z : float
        Nats.
    n_samples : int
        Weights per image.
    """

    weights: ImageWeights
    log_z: float
    n_samples: int

    @property
    def values(self) -> Float:
        """Log-likelihood per image, nats."""
        values: Float = self.weights.bounds[:, -1] - self.log_z
        return values

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """Whether the tail of an image's weights is too heavy to estimate its gap, shape (n_images,)."""
        return np.asarray(self.weights.pareto_k > pareto_limit(self.n_samples))

    @property
    def std_err_samples(self) -> float:
        """Standard error of the mean over these images from the samples alone, nats."""
        variances = 1 / self.weights.ess - 1 / self.n_samples
        return float(np.sqrt(variances.clip(0).sum()) / len(variances))

    @property
    def n_suspect(self) -> int | None:
        """Number of suspect images; None if there are too few weights to determine it."""
        return None if np.isnan(self.weights.pareto_k).all() else int(self.suspect.sum())

    @property
    def gap(self) -> float | None:
        """Gap of the mean bound: the larger of two estimates, nats; None if there are too few samples."""
        if self.n_samples < MIN_SAMPLES:
            return None
        return max(-float(self.weights.bias.mean()), self.extrapolated_gap)

    @property
    def rises(self) -> Float:
        """Gain of every image's bound in each of the last two whole decades of K, shape (n_images, 2)."""
        rises: Float = np.diff(np.maximum(self.weights.bounds[:, : self._n_powers], -1e300))[:, -2:]
        return rises

    @property
    def _n_powers(self) -> int:
        """Number of powers of ten from 1 to K."""
        return int(math.log10(self.n_samples) + 1e-9) + 1

    @property
    def slowing(self) -> float:
        """Ratio of the mean bound's gains in the last whole decade of K and in the one before."""
        return float(_slowing(self.rises.mean(0)))

    @property
    def extrapolated_gap(self) -> float:
        """The gap, extrapolated from L_K = L - c K^-a, for which the gains per decade are a geometric series."""
        return float(self._extrapolated(self.rises.mean(0)))

    @property
    def extrapolated_std_err(self) -> float:
        """Standard error of the extrapolation, by the jackknife over images; nan for a single image."""
        rises, n = self.rises, len(self.rises)
        if n < 2:
            return math.nan
        without = self._extrapolated((rises.sum(0) - rises) / (n - 1))
        return float(np.sqrt((n - 1) * without.var()))

    def _extrapolated(self, rises: Float) -> Float:
        """Return the gap that mean gains, shape (..., 2), imply."""
        # A bound that does not converge has no limit to extrapolate to; its gap is set to 99 times the last gain.
        ratio = np.minimum(_slowing(rises), 0.99)
        since = math.log10(self.n_samples) - (self._n_powers - 1)
        gap: Float = np.maximum(rises[..., 1], 0) * ratio / (1 - ratio) * ratio**since
        return gap

    def columns(self) -> dict[str, Float]:
        """Return the columns of the table of images."""
        w = self.weights
        values = {"log_likelihood": self.values, "elbo": w.bounds[:, 0] - self.log_z}
        return values | {"ess": w.ess, "pareto_k": w.pareto_k, "bias": w.bias}

    def compared_with(self, other: ImageEstimates) -> dict[str, float]:
        """Return the mean, and its difference from another estimate of the same images (other minus this)."""
        difference = other.values - self.values
        return {
            "log_likelihood": float(self.values.mean()),
            "std_err_images": std_err_of_mean(self.values),
            "n_samples": self.n_samples,
            "difference": float(difference.mean()),
            "difference_std_err": std_err_of_mean(difference),
        }

    def diagnostics(self, labels: Index | None) -> dict[str, Any]:
        """Return the bound as a function of K, estimates of the gap and means per class, for figures."""
        curve = self.weights.bounds - self.log_z
        found: dict[str, Any] = {
            "bound_curve": {
                "n_samples": [float(k) for k in milestones(self.n_samples)],
                "log_likelihood": curve.mean(0).tolist(),
                "std_err": [std_err_of_mean(column) for column in curve.T],
            },
            "pareto_limit": pareto_limit(self.n_samples),
            "std_err_samples": self.std_err_samples,
        }
        if self.gap is not None:
            bias = self.weights.bias
            jackknife = {"jackknife": -float(bias.mean()), "jackknife_std_err": std_err_of_mean(bias)}
            extrapolated = {
                "extrapolated": self.extrapolated_gap,
                "extrapolated_std_err": self.extrapolated_std_err,
                "slowing": self.slowing,
            }
            found["gap"] = jackknife | extrapolated
        return found | ({} if labels is None else {"per_class": _per_class(self.values, labels)})


def _per_class(values: Float, labels: Index) -> dict[str, list[float]]:
    """Return the number, mean and standard error of the log-likelihoods per class."""
    classes = np.unique(labels).tolist()
    groups = [values[labels == label] for label in classes]
    return {
        "label": classes,
        "n_images": [len(group) for group in groups],
        "log_likelihood": [float(group.mean()) for group in groups],
        "std_err": [std_err_of_mean(group) for group in groups],
    }


def _slowing(rises: Float) -> Float:
    """Return the ratio of the second gain to the first, shape (..., 2); 0 if the second is not above 0."""
    before, rise = rises[..., 0], np.maximum(rises[..., 1], 0)
    share = np.where(rise > 0, math.inf, 0.0)
    return np.divide(rise, before, out=share, where=before > 0)
