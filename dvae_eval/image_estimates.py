"""What the weights of all images tell together: the mean, its errors, and how far it lies below the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pareto import pareto_limit
from .weights import ImageWeights, milestones

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
    def gap(self) -> float | None:
        """How far the bound lies below the log-likelihood on average, by two estimates; None of few samples."""
        if self.n_samples < MIN_SAMPLES:
            return None
        return max(-float(self.weights.bias.mean()), self.extrapolated_gap)

    @property
    def extrapolated_gap(self) -> float:
        """The gap if the bound goes on to approach a limit as a power of K.

        Of L_K = L - c K^-a the rises from decade to decade are a geometric series.
        """
        n_powers = int(math.log10(self.n_samples) + 1e-9) + 1
        before, rise = np.diff(np.maximum(self.weights.bounds[:, :n_powers].mean(0), -1e300))[-2:]
        if not rise > 0:
            return 0.0
        # A bound that does not slow down gives no limit, but a gap of at least a hundred times its last rise.
        ratio = min(rise / before, 0.99) if before > 0 else 0.99
        return float(rise * ratio / (1 - ratio) * ratio ** math.log10(self.n_samples / 10 ** (n_powers - 1)))

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
        variances = 1 / self.weights.ess - 1 / self.n_samples
        found: dict[str, Any] = {
            "bound_curve": {
                "n_samples": [float(k) for k in milestones(self.n_samples)],
                "log_likelihood": curve.mean(0).tolist(),
                "std_err": [standard_error(column) for column in curve.T],
            },
            "pareto_limit": pareto_limit(self.n_samples),
            "std_err_samples": float(np.sqrt(variances.clip(0).sum()) / len(variances)),
        }
        if self.gap is not None:
            bias = self.weights.bias
            jackknife = {"jackknife": -float(bias.mean()), "jackknife_std_err": standard_error(bias)}
            found["gap"] = {**jackknife, "extrapolated": self.extrapolated_gap}
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


def standard_error(values: Float) -> float:
    """Return the standard error of the mean of independent values; nan of one value, or of infinite ones."""
    known = len(values) > 1 and np.isfinite(values).all()
    return float(values.std(ddof=1) / math.sqrt(len(values))) if known else math.nan
