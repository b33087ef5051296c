"""The importance weights of one image, and their statistics: the bound, its bias and diagnostics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.types import Float

from ..numbers import effective_sample_size
from .pareto import pareto_k
from .protocol import WeightSource

# Number of tiles drawn to time an image; only one if it takes more than SLOW_TILE seconds.
PROBE_TILES, SLOW_TILE = 4, 0.5


@dataclass(frozen=True, slots=True)
class ImageWeights:
    """Statistics of the weights of an image, before log Z is subtracted; for several images, with a first axis.

    Attributes
    ----------
    bounds : shape (n_milestones,), nats
        log (1/k) Σ_i w_i + log Z for k = 1, 10, 100, ... and all samples, averaged over disjoint blocks of k.
    parts : shape (n_parts,), nats
        Means of the parts of log w; they sum to the bound for k = 1.
    bias : shape (), nats
        Jackknife estimate of the bias of the last bound, at most 0.
    ess, pareto_k : shape ()
        Effective sample size, and tail exponent of the weights.
    log_w : shape (n_kept,), nats
        The weights of whole tiles, kept for an estimate that continues with more samples; n_kept may be 0.
    sums : shape (n_parts,), nats
        Sums of the parts of `log_w`; empty if `log_w` is.
    """

    bounds: Float
    parts: Float
    bias: Float
    ess: Float
    pareto_k: Float
    log_w: Float = field(default_factory=lambda: np.empty(0))
    sums: Float = field(default_factory=lambda: np.empty(0))

    def without_draws(self) -> ImageWeights:
        """Return the same statistics without the kept weights."""
        return replace(self, log_w=self.log_w[..., :0], sums=self.sums[..., :0])

    @classmethod
    def of(cls, log_w: Float, parts: Float) -> ImageWeights:
        """Return the statistics of weights log w, shape (n_samples,), with the means of their parts.

        A weight may be 0, log w = -inf.  If one is nan, or all are 0, everything but the parts is nan.
        """
        if not np.isfinite(log_w.max()):
            nothing = np.array(math.nan)
            return cls(np.full(len(milestones(len(log_w))), math.nan), parts, nothing, nothing, nothing)
        return cls(
            bounds=bounds(log_w),
            parts=parts,
            bias=np.array(jackknife_bias(log_w)),
            ess=np.array(effective_sample_size(log_w)),
            pareto_k=np.array(pareto_k(log_w)),
        )


def stack_images(images: list[ImageWeights]) -> ImageWeights:
    """Return the statistics of several images, stacked along a first axis."""
    return ImageWeights(*(np.stack([getattr(i, f.name) for i in images]) for f in fields(ImageWeights)))


def milestones(n_samples: int) -> list[int]:
    """Return 1, 10, 100, ... and n_samples."""
    powers = [10**i for i in range(math.ceil(math.log10(n_samples)) if n_samples > 1 else 0)]
    return [*powers, n_samples]


def bounds(log_w: Float) -> Float:
    """Return log (1/k) Σ_i w_i for every milestone k, averaged over disjoint blocks of k weights."""
    return np.array([_bound(log_w, k) for k in milestones(len(log_w))])


def _bound(log_w: Float, k: int) -> float:
    n_blocks = len(log_w) // k
    blocks = log_w[: n_blocks * k].reshape(n_blocks, k)
    return float(_log_mean(blocks).mean() if k > 1 else blocks.mean())


def _log_mean(log_w: Float) -> Float:
    """Return the logarithm of the mean of w over the last axis, -inf where all weights are 0.

    `numbers.log_mean_exp` rounds differently, which would change the last digit of results for the same seed.
    """
    top = np.maximum(log_w.max(-1, keepdims=True), np.finfo(float).min)
    with np.errstate(divide="ignore"):
        mean: Float = top[..., 0] + np.log(np.exp(log_w - top).mean(-1))
    return mean


def jackknife_bias(log_w: Float) -> float:
    """Return the delete-one jackknife estimate of E[log mean(w)] - log E[w], at most 0.

    It is (K - 1) (mean_i L_{-i} - L), where L_{-i} is the bound without sample i (Quenouille, 1956; Nowozin,
    Debiasing evidence approximations, 2018).  By Jensen's inequality the true bias is at most 0, too.  If a single
    sample has nearly all the weight, the size of the bias is underestimated.
    """
    n = len(log_w)
    if n == 1:
        return math.nan
    share = np.exp(log_w - log_w.max())
    share /= share.sum()
    rest = np.log1p(-np.minimum(share, 1 - np.finfo(float).eps))
    return min(0.0, float((n - 1) * (rest.mean() + math.log(n / (n - 1)))))


@dataclass(frozen=True, slots=True)
class DrawnWeights:
    """The weights of an image.

    Attributes
    ----------
    log_w : float64, shape (n_samples,), nats
        log w + log Z.
    parts : float64, shape (n_parts,), nats
        Means of its parts.
    sums : float64, shape (n_parts,), nats
        Sums of the parts over the samples of whole tiles.
    """

    log_w: Float
    parts: Float
    sums: Float

    def kept_by(self, weights: ImageWeights, n_kept: int) -> ImageWeights:
        """Return the statistics with the first `n_kept` weights: those of whole tiles, or none."""
        return replace(weights, log_w=self.log_w[:n_kept].copy(), sums=self.sums) if n_kept else weights


@torch.no_grad()
def draw_weights(
    source: WeightSource,
    x: NDArray[np.uint8],
    index: int,
    n_samples: int,
    seed: int,
    purpose: str = "images",
    earlier: ImageWeights | None = None,
) -> DrawnWeights:
    """Draw `n_samples` importance weights of an image.

    Parameters
    ----------
    source : WeightSource
    x : uint8, shape (n_pixels,)
    index : int
        Of the image in its data set; it determines the random numbers, together with seed and purpose.
    earlier : ImageWeights, optional
        Statistics of the same image with the first weights, which are not computed again.
    """
    n_earlier = 0 if earlier is None else len(earlier.log_w)
    draw = source.of_image(torch.from_numpy(x), index, seed, purpose, n_earlier)
    log_w, parts = np.empty(n_samples), np.zeros(len(source.parts))
    if earlier is not None:
        log_w[:n_earlier], parts[:] = earlier.log_w, earlier.sums
    sums = parts.copy()
    for start in range(n_earlier, n_samples, source.tile):
        tile = draw(min(source.tile, n_samples - start)).double().cpu().numpy()
        log_w[start : start + tile.shape[1]] = tile.sum(0)
        parts += tile.sum(1)
        if tile.shape[1] == source.tile:
            sums = parts.copy()
    return DrawnWeights(log_w, parts / n_samples, sums)


@dataclass(frozen=True, slots=True)
class ImportanceTask:
    """Draw the importance weights of an image; an `image_tasks.ImageTask`."""

    phase: ClassVar[str] = "images"

    source: WeightSource
    n_samples: int
    seed: int
    n_kept: int = 0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.source.device

    def keeping(self, n_kept: int) -> ImportanceTask:
        """Return the task that keeps `n_kept` weights per image."""
        return replace(self, n_kept=n_kept)

    def __call__(self, x: NDArray[np.uint8], index: int, earlier: ImageWeights | None = None) -> ImageWeights:
        """Return the weights of an image, starting with those that an earlier estimate kept."""
        drawn = draw_weights(self.source, x, index, self.n_samples, self.seed, earlier=earlier)
        return drawn.kept_by(ImageWeights.of(drawn.log_w, drawn.parts), self.n_kept)

    def seconds(self, x: NDArray[np.uint8], index: int) -> float:
        """Return the expected seconds per image, estimated from its first samples."""
        tile = min(self.n_samples, self.source.tile)
        first = self._time(x, index, tile)
        if first > SLOW_TILE:
            return first * self.n_samples / tile
        # The first call includes one-time costs; measure again with more tiles.
        n = min(self.n_samples, PROBE_TILES * tile)
        return self._time(x, index, n) * self.n_samples / n

    def _time(self, x: NDArray[np.uint8], index: int, n_samples: int) -> float:
        started = time.perf_counter()
        drawn = draw_weights(self.source, x, index, n_samples, self.seed)
        ImageWeights.of(drawn.log_w, drawn.parts)
        return time.perf_counter() - started
