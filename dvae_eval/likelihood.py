"""Importance-weighted log-likelihoods: log p(x) >= E log (1/K) Σ_k w_k (Burda et al., 2016).

Every image has its own streams of random numbers, so its estimate does not depend on the batch it is in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from dvae_core.checkpoint import TrainedModel, package_versions
from dvae_core.errors import NumericalError, ResultError
from dvae_core.model import DVAE, without_smoothing
from dvae_core.rbm import RBM
from dvae_core.rng import numpy_generator

from .bridge import std_err_of_mean
from .config import LikelihoodConfig
from .machine import BipartiteMachine, Machine, machine_from_couplings
from .results import Check, LikelihoodResult, LogZResult, verdict

__all__ = ["estimate_log_likelihood", "machine_of", "model_description"]

Float = NDArray[np.float64]
ProgressCallback = Callable[[str, int, int, float | None], None]

# (image, sample) pairs that go through the networks at a time.
PAIRS = 4096
# An error of log Z beyond this would decide between models; the paper's own was about 0.05.
LOG_Z_LIMIT = 0.05


def machine_of(trained: TrainedModel) -> Machine:
    """Return the prior of a trained model as arrays."""
    prior = trained.model.prior
    if isinstance(prior, RBM):
        return BipartiteMachine.from_arrays(*map(_array, (prior.W, prior.b_left, prior.b_right)))
    return machine_from_couplings(_array(prior.couplings()), _array(prior.biases()))


def _array(tensor: torch.Tensor) -> Float:
    """Return a tensor as a float64 array."""
    array: Float = tensor.detach().cpu().double().numpy()
    return array


def model_description(trained: TrainedModel) -> dict[str, Any]:
    """Return what a result says of a trained model: file, digests and sizes."""
    return {
        "file": str(trained.path),
        "sha256": trained.sha256,
        "dataset": trained.config.dataset,
        **machine_of(trained).description(),
    }


def estimate_log_likelihood(
    trained: TrainedModel,
    images: NDArray[np.uint8],
    log_z: LogZResult,
    config: LikelihoodConfig | None = None,
    *,
    log_z_source: str = "estimated on the way",
    progress: ProgressCallback | None = None,
) -> LikelihoodResult:
    """Estimate the mean log-likelihood of images under a trained model.

    Parameters
    ----------
    trained : TrainedModel
        The model, in evaluation mode.
    images : uint8, shape (n_images, n_pixels)
        Binary, 0 or 1; `config.limit` of them, evenly spread, are used.
    log_z : LogZResult
        Of this model's prior.
    config : LikelihoodConfig, optional
        Settings.
    log_z_source : str
        Where log Z came from, for the reader of the result.
    progress : callable, optional
        Called with ("images", done, in all, mean log-likelihood so far).

    Raises
    ------
    ResultError
        If `log_z` belongs to another prior.
    NumericalError
        If a log-likelihood is not finite.
    """
    config = config or LikelihoodConfig()
    started = time.monotonic()
    description = model_description(trained)
    if log_z.model["prior_sha256"] != description["prior_sha256"]:
        raise ResultError(f"{log_z_source}: log Z of another model than {trained.path}; estimate it anew")
    chosen = _spread(len(images), config.limit)
    model = trained.model if config.smoothing else without_smoothing(trained.model)
    summary = _summarise(model, images, chosen, log_z.log_z, config, progress)
    checks = _checks(log_z)
    trustworthy, reasons = verdict(checks)
    elbo_parts = dict(zip(("reconstruction", "kl_rbm", "kl_continuous"), summary.parts, strict=True))
    return LikelihoodResult(
        log_likelihood=float(summary.log_likelihood.mean()),
        std_err_images=std_err_of_mean(summary.log_likelihood),
        std_err_log_z=log_z.std_err,
        elbo=sum(elbo_parts.values()),
        elbo_parts=elbo_parts,
        n_samples=config.n_samples,
        n_images=len(chosen),
        log_z=log_z.log_z,
        log_z_source=log_z_source,
        per_image={
            "index": chosen.tolist(),
            "log_likelihood": summary.log_likelihood.tolist(),
            "ess": summary.ess.tolist(),
        },
        model=description,
        settings={**asdict(config), "dtype": "float32 networks, float64 sums"},
        seed=config.seed,
        trustworthy=trustworthy,
        reasons=reasons,
        diagnostics={"bound_curve": summary.bound_curve, "checks": [asdict(check) for check in checks]},
        versions=package_versions("torch", "numpy", "scipy"),
        wall_seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Summary:
    """Per-image estimates and effective sample sizes, mean parts of the bound, and the bound at fewer samples."""

    log_likelihood: Float
    ess: Float
    parts: list[float]
    bound_curve: dict[str, list[float]]


def _spread(n: int, limit: int) -> NDArray[np.int64]:
    """Return `limit` indices evenly spread over n, all if limit is 0: some test sets are sorted by class."""
    return np.arange(n) if limit == 0 else np.unique(np.linspace(0, n - 1, min(limit, n)).round().astype(np.int64))


def _summarise(
    model: DVAE,
    images: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    log_z: float,
    config: LikelihoodConfig,
    progress: ProgressCallback | None,
) -> _Summary:
    """Go through the images in batches; memory does not grow with their number, but for a few numbers each."""
    batch = max(1, PAIRS // config.n_samples)
    sizes = _milestones(config.n_samples)
    bounds, ess, parts = np.empty((len(chosen), len(sizes))), np.empty(len(chosen)), np.zeros(3)
    for start in range(0, len(chosen), batch):
        stop = min(start + batch, len(chosen))
        weights = _weight_parts(model, images, chosen[start:stop], config)
        parts += weights.sum((1, 2))
        log_w = weights.sum(0) - log_z
        bounds[start:stop] = np.stack([_bound(log_w, k) for k in sizes], axis=1)
        ess[start:stop] = np.exp(2 * logsumexp(log_w, axis=0) - logsumexp(2 * log_w, axis=0))
        if progress:
            progress("images", stop, len(chosen), float(bounds[:stop, -1].mean()))
    _refuse_nonfinite(chosen, bounds[:, -1])
    reconstruction, rbm, continuous = (parts / (len(chosen) * config.n_samples)).tolist()
    curve = {
        "n_samples": [float(k) for k in sizes],
        "log_likelihood": bounds.mean(0).tolist(),
        "std_err": [std_err_of_mean(column) for column in bounds.T],
    }
    return _Summary(bounds[:, -1], ess, [reconstruction, rbm - log_z, continuous], curve)


@torch.no_grad()
def _weight_parts(
    model: DVAE, images: NDArray[np.uint8], batch: NDArray[np.int64], config: LikelihoodConfig
) -> Float:
    """Return the parts of log w + log Z of the images of a batch, float64, shape (3, n_samples, len(batch))."""
    device = model.groups.device
    x = torch.from_numpy(images[batch]).to(device).float()
    chunk = max(1, PAIRS // len(batch))
    streams = [[numpy_generator(config.seed, "images", int(image), kind) for kind in (0, 1)] for image in batch]
    n_uniform, n_normal = model.n_noise
    chunks = []
    for start in range(0, config.n_samples, chunk):
        n = min(chunk, config.n_samples - start)
        rho = np.stack([uniform.random((n, n_uniform), dtype=np.float32) for uniform, _ in streams], axis=1)
        eps = np.stack([normal.standard_normal((n, n_normal), dtype=np.float32) for _, normal in streams], axis=1)
        weights = model.weight_parts(x, torch.from_numpy(rho).to(device), torch.from_numpy(eps).to(device))
        chunks.append(weights.double().cpu().numpy())
    return np.concatenate(chunks, axis=1)


def _milestones(n_samples: int) -> list[int]:
    """Return 1, 10, 100, ... and n_samples."""
    powers = [10**i for i in range(math.ceil(math.log10(n_samples)) if n_samples > 1 else 0)]
    return [*powers, n_samples]


def _bound(log_w: Float, k: int) -> Float:
    """Return the bound with k samples for every image, averaged over disjoint blocks of k, shape (n_images,)."""
    n_blocks = len(log_w) // k
    blocks = log_w[: n_blocks * k].reshape(n_blocks, k, -1)
    bound: Float = (logsumexp(blocks, axis=1) - math.log(k)).mean(0)
    return bound


def _checks(log_z: LogZResult) -> list[Check]:
    """Return the checks of a log-likelihood: it is no better than its log Z."""
    distrusted = [
        Check("log Z was found not to be trustworthy", 1.0, 0.0, log_z.trustworthy, "; ".join(log_z.reasons))
    ]
    precise = log_z.std_err <= LOG_Z_LIMIT
    remedy = "estimate log Z with more --sweeps"
    return distrusted * (not log_z.trustworthy) + [
        Check("standard error of log Z, nats", log_z.std_err, LOG_Z_LIMIT, precise, remedy)
    ]


def _refuse_nonfinite(chosen: NDArray[np.int64], log_likelihood: Float) -> None:
    """Raise for the first image whose estimate is not finite."""
    bad = np.flatnonzero(~np.isfinite(log_likelihood))
    if len(bad):
        raise NumericalError(
            f"image {chosen[bad[0]]} (and {len(bad) - 1} more) has a log-likelihood that is not finite"
        )
