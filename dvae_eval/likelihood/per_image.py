"""The estimates of all images together: their mean, its errors, and how far it lies below the log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Float

from ..numbers import std_err_of_mean
from .importance import ImageWeights, milestones
from .pareto import pareto_limit

Index = NDArray[np.int64]

# With fewer samples than this the gap cannot be estimated.
MIN_SAMPLES = 100


@dataclass(frozen=True, slots=True)
class ImageEstimates:
    """The estimates of all images, from their weights and log Z.

    Attributes
    ----------
    weights : ImageWeights
        Of every image.
    log_z : float
        Nats.
    n_samples : int
        Weights of every image.
    """

    weights: ImageWeights
    log_z: float
    n_samples: int

    @property
    def values(self) -> Float:
        """Log-likelihood of every image, nats."""
        values: Float = self.weights.bounds[:, -1] - self.log_z
        return values

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """Images whose weights have so heavy a tail that their bound's gap is uncertain, shape (n_images,)."""
        return np.asarray(self.weights.pareto_k > pareto_limit(self.n_samples))

    @property
    def std_err_samples(self) -> float:
        """Standard error of the mean over these images due to the samples alone, nats."""
        variances = 1 / self.weights.ess - 1 / self.n_samples
        return float(np.sqrt(variances.clip(0).sum()) / len(variances))

    @property
    def n_suspect(self) -> int | None:
        """Number of suspect images; None if there are too few weights to know."""
        return None if np.isnan(self.weights.pareto_k).all() else int(self.suspect.sum())

    @property
    def gap(self) -> float | None:
        """The larger of two estimates of how far the bound lies below the log-likelihood; None for few samples."""
        if self.n_samples < MIN_SAMPLES:
            return None
        return max(-float(self.weights.bias.mean()), self.extrapolated_gap)

    @property
    def rises(self) -> Float:
        """Rise of every image's bound over each of the last two whole decades of K, shape (n_images, 2)."""
        rises: Float = np.diff(np.maximum(self.weights.bounds[:, : self._n_powers], -1e300))[:, -2:]
        return rises

    @property
    def _n_powers(self) -> int:
        """Number of powers of ten from 1 to K."""
        return int(math.log10(self.n_samples) + 1e-9) + 1

    @property
    def slowing(self) -> float:
        """Ratio of the mean bound's rises over the last whole decade of K and the one before."""
        return float(_slowing(self.rises.mean(0)))

    @property
    def extrapolated_gap(self) -> float:
        """The gap if the bound continues to approach a limit as a power of K.

        For L_K = L - c K^-a the rises from decade to decade are a geometric series.
        """
        return float(self._extrapolated(self.rises.mean(0)))

    @property
    def extrapolated_std_err(self) -> float:
        """Standard error of the extrapolation, by leaving out one image at a time; nan for a single image."""
        rises, n = self.rises, len(self.rises)
        if n < 2:
            return math.nan
        without = self._extrapolated((rises.sum(0) - rises) / (n - 1))
        return float(np.sqrt((n - 1) * without.var()))

    def _extrapolated(self, rises: Float) -> Float:
        """Return the gap that mean rises imply, shape (..., 2)."""
        # A bound that does not slow down has no limit to extrapolate to; its gap is given as 99 last rises.
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
        """Return the mean, and how far another estimate of the same images lies above it."""
        difference = other.values - self.values
        return {
            "log_likelihood": float(self.values.mean()),
            "std_err_images": std_err_of_mean(self.values),
            "n_samples": self.n_samples,
            "difference": float(difference.mean()),
            "difference_std_err": std_err_of_mean(difference),
        }

    def diagnostics(self, labels: Index | None) -> dict[str, Any]:
        """Return the bound by number of samples, estimates of the gap and means per class, for figures."""
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
    """Return number, mean and standard error of the log-likelihoods per class."""
    classes = np.unique(labels).tolist()
    groups = [values[labels == label] for label in classes]
    return {
        "label": classes,
        "n_images": [len(group) for group in groups],
        "log_likelihood": [float(group.mean()) for group in groups],
        "std_err": [std_err_of_mean(group) for group in groups],
    }


def _slowing(rises: Float) -> Float:
    """Return the ratio of the second of two rises, shape (..., 2), to the first; 0 if the second is none."""
    before, rise = rises[..., 0], np.maximum(rises[..., 1], 0)
    share = np.where(rise > 0, math.inf, 0.0)
    return np.divide(rise, before, out=share, where=before > 0)
