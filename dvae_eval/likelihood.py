"""Importance-weighted log-likelihoods: log p(x) >= E log (1/K) Σ_k w_k (Burda et al., 2016).

Every image has its own streams of random numbers, so its estimate depends neither on the images beside it nor on
the process that makes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.checkpoint import TrainedModel, package_versions
from dvae_core.errors import ConfigError, NumericalError, ResultError
from dvae_core.model import without_smoothing
from dvae_core.rbm import RBM

from .config import LikelihoodConfig
from .folded import FoldedDVAE
from .latent_ais import Annealing
from .machine import BipartiteMachine, Machine, machine_from_couplings
from .pareto import pareto_limit
from .protocol import LatentVariableModel, ModelWeights, WeightSource, model_digest
from .resources import Plan, Resources
from .results import Check, LikelihoodResult, LogZResult, verdict
from .shards import ShardStore, Task, digest_of, weigh_images
from .weights import ImageWeights, Weighing, milestones, weigh

__all__ = ["estimate_log_likelihood", "machine_of", "model_description"]

Float = NDArray[np.float64]
Index = NDArray[np.int64]
ProgressCallback = Callable[[str, int, int, float | None], None]

# An error of log Z beyond this would decide between models; the paper's own was about 0.05.
LOG_Z_LIMIT = 0.05
# So would a bound that lies further below the log-likelihood than this.
GAP_LIMIT = 0.2
# Of the images whose weights have no mean to rely on, the share beyond which the mean over images has none either.
SUSPECT_LIMIT = 0.75
# A difference of two estimates of the same number that luck makes with a probability of 1e-4, in standard errors.
AGREEMENT_LIMIT = 3.9
# Fewer samples than this tell nothing of the gap.
MIN_SAMPLES = 100
# What a change of precision does is measured on so many images and samples.
EFFECT_IMAGES, EFFECT_SAMPLES = 20, 1000


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
    model: TrainedModel | LatentVariableModel,
    images: NDArray[np.uint8],
    log_z: LogZResult,
    config: LikelihoodConfig | None = None,
    *,
    prior: Machine | None = None,
    labels: Index | None = None,
    log_z_source: str = "estimated on the way",
    resources: Resources | None = None,
    shards: Path | None = None,
    announce: Callable[[Plan], None] | None = None,
    progress: ProgressCallback | None = None,
) -> LikelihoodResult:
    """Estimate the mean log-likelihood of images under a model.

    Parameters
    ----------
    model : TrainedModel or LatentVariableModel
        One of this project's, in evaluation mode, or anyone's with the two methods of `LatentVariableModel`.
    images : uint8, shape (n_images, n_pixels)
        Binary, 0 or 1; `config.limit` of them, evenly spread, are used.
    log_z : LogZResult
        Of this model's prior.
    config : LikelihoodConfig, optional
        Settings.
    prior : BipartiteMachine or GeneralMachine, optional
        The Boltzmann machine in the prior of a `LatentVariableModel`; a TrainedModel knows its own.
    labels : int64, shape (n_images,), optional
        Classes, for the likelihood of each.
    log_z_source : str
        Where log Z came from, for the reader of the result.
    resources : Resources, optional
        Processes, memory and threads; they do not change the result.
    shards : Path, optional
        Directory for what is done already, so that a run that was killed can be gone on with.  It is removed in
        the end.
    announce : callable, optional
        Called with the time and the memory that the work will take, before it starts.
    progress : callable, optional
        Called with ("images" or "annealing", done, in all, mean log-likelihood so far).

    Raises
    ------
    ResultError
        If `log_z` belongs to another prior.
    ConfigError
        If another process is at work in `shards`, the memory does not suffice, or a setting cannot be used.
    NumericalError
        If a log-likelihood is not finite.
    """
    config, resources = config or LikelihoodConfig(), resources or Resources()
    started = time.monotonic()
    source, description = _source(model, prior, config)
    if log_z.model["prior_sha256"] != description["prior_sha256"]:
        raise ResultError(f"{log_z_source}: log Z of another model than {description['file']}; estimate it anew")
    chosen = _spread(len(images), config.limit)
    work = _Work(images[chosen], chosen, log_z.log_z, resources, shards, announce, progress)
    weights = work.do(Weighing(source, config.n_samples, config.seed), _key(description, config))
    estimate = importance = _Estimate(weights, log_z.log_z, config.n_samples)
    if config.method == "ais":
        annealed = work.do(_annealing(source, config), _key(description, config, "n_ais_chains", "n_ais_steps"))
        estimate = _Estimate(annealed, log_z.log_z, config.n_ais_chains)
    effect = _precision_effect(model, source, config, images, chosen)
    checks = _checks(log_z, estimate, effect) + (
        [] if estimate is importance else _agreement(estimate, importance)
    )
    trustworthy, reasons = verdict(checks)
    parts = dict(zip(source.parts, weights.parts.mean(0).tolist(), strict=True))
    parts[source.parts[source.prior_part]] -= log_z.log_z
    columns = {"index": chosen} | ({} if labels is None else {"label": labels[chosen]}) | estimate.columns()
    diagnostics = estimate.diagnostics(None if labels is None else labels[chosen])
    if estimate is not importance:
        columns["importance"] = importance.values
        diagnostics["importance"] = importance.beside(estimate)
    return LikelihoodResult(
        log_likelihood=float(estimate.values.mean()),
        std_err_images=standard_error(estimate.values),
        std_err_log_z=log_z.std_err,
        elbo=sum(parts.values()),
        elbo_parts=parts,
        method=config.method,
        gap=estimate.gap,
        n_suspect=int(estimate.suspect.sum()),
        bits_per_dim=float(-estimate.values.mean() / (images.shape[1] * math.log(2))),
        n_samples=estimate.n_samples,
        n_images=len(chosen),
        log_z=log_z.log_z,
        log_z_source=log_z_source,
        per_image={name: values.tolist() for name, values in columns.items()},
        model=description,
        settings={**asdict(config), "dtype": f"{_dtype(source)} networks, float64 sums"},
        seed=config.seed,
        trustworthy=trustworthy,
        reasons=reasons,
        diagnostics={
            **diagnostics,
            **({"precision_effect": effect} if effect else {}),
            "checks": [asdict(check) for check in checks],
        },
        versions=package_versions("torch", "numpy", "scipy", "joblib"),
        wall_seconds=time.monotonic() - started,
    )


def _source(
    model: TrainedModel | LatentVariableModel, prior: Machine | None, config: LikelihoodConfig
) -> tuple[WeightSource, dict[str, Any]]:
    """Return where a model's weights come from, and what a result says of the model."""
    if isinstance(model, TrainedModel):
        network = model.model if config.smoothing else without_smoothing(model.model)
        if config.precision == "tf32" and network.groups.device.type != "cuda":
            raise ConfigError("--precision: tf32 is CUDA's; give --device cuda, or float32")
        return FoldedDVAE(network, config.precision), model_description(model)
    if prior is None:
        raise ConfigError(
            "prior: the Boltzmann machine of the model's prior is missing; give it, log Z is its own"
        )
    if config.precision != "float32" or not config.smoothing:
        raise ConfigError("precision, smoothing: are settings of this project's models; leave them as they are")
    name = type(model).__qualname__
    return ModelWeights(model), {"file": name, "sha256": model_digest(model), **prior.description()}


def _dtype(source: WeightSource) -> str:
    """Return the numbers in a model's networks, in words."""
    return source.precision if isinstance(source, FoldedDVAE) else "the model's own"


def _annealing(source: WeightSource, config: LikelihoodConfig) -> Annealing:
    """Return the task of annealing; ConfigError for a model that is not one of this project's."""
    if not isinstance(source, FoldedDVAE):
        raise ConfigError(
            "--method ais: needs the noise that latents are made of; use importance for such a model"
        )
    return Annealing(source, config.n_ais_chains, config.n_ais_steps, config.seed)


def _key(description: dict[str, Any], config: LikelihoodConfig, *names: str) -> dict[str, Any]:
    """Return all that the weights of an image depend on, but the image; `names` make it a key of annealing."""
    names = (*(names or ("n_samples",)), "smoothing", "precision", "seed")
    return {"model": description["sha256"], **{name: getattr(config, name) for name in names}}


def _spread(n: int, limit: int) -> Index:
    """Return `limit` indices evenly spread over n, all if limit is 0: some test sets are sorted by class."""
    return np.arange(n) if limit == 0 else np.unique(np.linspace(0, n - 1, min(limit, n)).round().astype(np.int64))


@dataclass(frozen=True, slots=True)
class _Work:
    """What is the same for all tasks: images, where they come from, means, and whom to tell."""

    images: NDArray[np.uint8]
    index: Index
    log_z: float
    resources: Resources
    shards: Path | None
    announce: Callable[[Plan], None] | None
    progress: ProgressCallback | None

    def do(self, task: Task, key: dict[str, Any]) -> ImageWeights:
        """Return the weights of all images by `task`, whose settings are `key`; ready shards are made use of."""
        store = ShardStore(self.shards, digest_of(key, self.images, self.index)) if self.shards else None
        total = 0.0

        def tell(n_done: int, shard: ImageWeights) -> None:
            nonlocal total
            total += float(shard.bounds[:, -1].sum())
            if self.progress:
                self.progress(task.phase, n_done, len(self.images), total / n_done - self.log_z)

        with store.held() if store else nullcontext():
            weights = weigh_images(
                task,
                self.images,
                self.index,
                resources=self.resources,
                store=store,
                announce=self.announce,
                progress=tell,
            )
            _refuse_nonfinite(self.index, weights.bounds[:, -1])
            if store:
                store.remove()
        return weights


def _refuse_nonfinite(index: Index, log_likelihood: Float) -> None:
    """Raise for the first image whose estimate is not finite."""
    bad = np.flatnonzero(~np.isfinite(log_likelihood))
    if len(bad):
        raise NumericalError(
            f"image {index[bad[0]]} (and {len(bad) - 1} more) has a log-likelihood that is not finite"
        )


@dataclass(frozen=True, slots=True)
class _Estimate:
    """The estimate over all images, from their weights less log Z."""

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

    def beside(self, other: _Estimate) -> dict[str, float]:
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


def _precision_effect(
    model: TrainedModel | LatentVariableModel,
    source: WeightSource,
    config: LikelihoodConfig,
    images: NDArray[np.uint8],
    chosen: Index,
) -> dict[str, float]:
    """Return what the precision does to some images' estimates, with the same noise, against float32."""
    if config.precision not in ("tf32", "bf16") or not isinstance(model, TrainedModel):
        return {}
    reference, _ = _source(model, None, replace(config, precision="float32"))
    n = min(config.n_samples, EFFECT_SAMPLES)
    some = chosen[_spread(len(chosen), EFFECT_IMAGES)]
    ours, theirs = (
        np.array([weigh(s, images[i], int(i), n, config.seed).bounds[-1] for i in some])
        for s in (source, reference)
    )
    shift = ours - theirs
    return {
        "mean": float(shift.mean()),
        "std_err": standard_error(shift),
        "largest": float(np.abs(shift).max()),
        "n_images": len(some),
        "n_samples": n,
    }


def _checks(log_z: LogZResult, estimate: _Estimate, effect: dict[str, float]) -> list[Check]:
    """Return the checks of a log-likelihood: log Z, the gap that the bound leaves, the tails of the weights."""
    checks = []
    if not log_z.trustworthy:
        reasons = "; ".join(log_z.reasons)
        checks.append(Check("log Z was found not to be trustworthy", 1.0, 0.0, False, reasons))
    remedy = "estimate log Z with more --sweeps"
    checks.append(_at_most("standard error of log Z, nats", log_z.std_err, LOG_Z_LIMIT, remedy))
    if estimate.gap is not None:
        remedy = "the bound holds, but is loose: give more --samples, or see --method ais"
        checks.append(
            _at_most("estimated gap between bound and log-likelihood, nats", estimate.gap, GAP_LIMIT, remedy)
        )
        share = float(estimate.suspect.mean())
        remedy = "compare with --method ais --limit 20"
        checks.append(
            _at_most("share of images whose weights have too heavy a tail", share, SUSPECT_LIMIT, remedy)
        )
    if effect:
        checks.append(
            _at_most("effect of --precision, nats", abs(effect["mean"]), LOG_Z_LIMIT, "use --precision float32")
        )
    return checks


def _agreement(annealed: _Estimate, importance: _Estimate) -> list[Check]:
    """Return the check that annealing has found no less than importance weighting did."""
    found = importance.beside(annealed)
    if len(annealed.values) < 2:
        return []
    below = max(0.0, -found["difference"] / max(found["difference_std_err"], 1e-12))
    name, remedy = "annealing lies below importance weighting, in standard errors", "use more --ais-steps"
    return [_at_most(name, below, AGREEMENT_LIMIT, remedy)]


def _at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check(name, value, threshold, value <= threshold, remedy)
