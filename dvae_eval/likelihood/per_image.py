"""What the weights of all images tell together: the mean, its errors, and how far it lies below the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .importance import ImageWeights, milestones
from .pareto import pareto_limit

__all__ = ["ImageEstimates", "standard_error"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]

# Fewer samples than this tell nothing of the gap.
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
        """Which images have weights whose mean is not to be relied on."""
        return np.asarray(self.weights.pareto_k > pareto_limit(self.n_samples))

    @property
    def std_err_samples(self) -> float:
        """Standard error of the mean over these images that comes of the samples alone, nats."""
        variances = 1 / self.weights.ess - 1 / self.n_samples
        return float(np.sqrt(variances.clip(0).sum()) / len(variances))

    @property
    def n_suspect(self) -> int | None:
        """How many images are suspect; None if there are too few weights to tell of any."""
        return None if np.isnan(self.weights.pareto_k).all() else int(self.suspect.sum())

    @property
    def gap(self) -> float | None:
        """How far the bound lies below the log-likelihood on average, by two estimates; None of few samples."""
        if self.n_samples < MIN_SAMPLES:
            return None
        return max(-float(self.weights.bias.mean()), self.extrapolated_gap)

    @property
    def rises(self) -> Float:
        """By how much every image's bound rises over the last two whole decades of K, shape (n_images, 2)."""
        rises: Float = np.diff(np.maximum(self.weights.bounds[:, : self._n_powers], -1e300))[:, -2:]
        return rises

    @property
    def _n_powers(self) -> int:
        """How many powers of ten there are from 1 to K."""
        return int(math.log10(self.n_samples) + 1e-9) + 1

    @property
    def slowing(self) -> float:
        """The mean bound's rise over the last whole decade of K, as a share of that over the one before."""
        return float(_slowing(self.rises.mean(0)))

    @property
    def extrapolated_gap(self) -> float:
        """The gap if the bound goes on to approach a limit as a power of K.

        Of L_K = L - c K^-a the rises from decade to decade are a geometric series.
        """
        return float(self._extrapolated(self.rises.mean(0)))

    @property
    def extrapolated_std_err(self) -> float:
        """Standard error of the extrapolation, by leaving out one image at a time; nan of a single image."""
        rises, n = self.rises, len(self.rises)
        if n < 2:
            return math.nan
        without = self._extrapolated((rises.sum(0) - rises) / (n - 1))
        return float(np.sqrt((n - 1) * without.var()))

    def _extrapolated(self, rises: Float) -> Float:
        """Return the gap that follows from mean rises, shape (..., 2)."""
        # A bound that does not slow down gives no limit, but a gap of at least a hundred times its last rise.
        ratio = np.minimum(_slowing(rises), 0.99)
        since = math.log10(self.n_samples) - (self._n_powers - 1)
        gap: Float = np.maximum(rises[..., 1], 0) * ratio / (1 - ratio) * ratio**since
        return gap

    def columns(self) -> dict[str, Float]:
        """Return what the table of images says of each."""
        w = self.weights
        values = {"log_likelihood": self.values, "elbo": w.bounds[:, 0] - self.log_z}
        return values | {"ess": w.ess, "pareto_k": w.pareto_k, "bias": w.bias}

    def beside(self, other: ImageEstimates) -> dict[str, float]:
        """Return the mean, and by how much another estimate of the same images lies above it."""
        difference = other.values - self.values
        return {
            "log_likelihood": float(self.values.mean()),
            "std_err_images": standard_error(self.values),
            "n_samples": self.n_samples,
            "difference": float(difference.mean()),
            "difference_std_err": standard_error(difference),
        }

    def diagnostics(self, labels: Index | None) -> dict[str, Any]:
        """Return what was seen on the way, for figures and for readers."""
        curve = self.weights.bounds - self.log_z
        found: dict[str, Any] = {
            "bound_curve": {
                "n_samples": [float(k) for k in milestones(self.n_samples)],
                "log_likelihood": curve.mean(0).tolist(),
                "std_err": [standard_error(column) for column in curve.T],
            },
            "pareto_limit": pareto_limit(self.n_samples),
            "std_err_samples": self.std_err_samples,
        }
        if self.gap is not None:
            bias = self.weights.bias
            jackknife = {"jackknife": -float(bias.mean()), "jackknife_std_err": standard_error(bias)}
            extrapolated = {
                "extrapolated": self.extrapolated_gap,
                "extrapolated_std_err": self.extrapolated_std_err,
                "slowing": self.slowing,
            }
            found["gap"] = jackknife | extrapolated
        return found | ({} if labels is None else {"per_class": _per_class(self.values, labels)})


def _per_class(values: Float, labels: Index) -> dict[str, list[float]]:
    """Return number, mean and standard error of the log-likelihoods of every class."""
    classes = np.unique(labels).tolist()
    groups = [values[labels == label] for label in classes]
    return {
        "label": classes,
        "n_images": [len(group) for group in groups],
        "log_likelihood": [float(group.mean()) for group in groups],
        "std_err": [standard_error(group) for group in groups],
    }


def _slowing(rises: Float) -> Float:
    """Return the last of two rises, shape (..., 2), as a share of the first; 0 if there is none."""
    before, rise = rises[..., 0], np.maximum(rises[..., 1], 0)
    share = np.where(rise > 0, math.inf, 0.0)
    return np.divide(rise, before, out=share, where=before > 0)


def standard_error(values: Float) -> float:
    """Return the standard error of the mean of independent values; nan of one value, or of infinite ones."""
    known = len(values) > 1 and np.isfinite(values).all()
    return float(values.std(ddof=1) / math.sqrt(len(values))) if known else math.nan
