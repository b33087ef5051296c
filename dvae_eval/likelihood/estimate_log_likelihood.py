"""Importance-weighted log-likelihoods: log p(x) >= E log (1/K) Σ_k w_k (Burda et al., 2016).

Every image has its own streams of random numbers, so that its estimate depends neither on the other images nor on
the process that computes it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core import __version__
from dvae_core.environment import Effort, now_utc
from dvae_core.errors import ConfigError, DataError, NumericalError, ResultError
from dvae_core.io.containers import packed, unpacked
from dvae_core.io.files import write_npz
from dvae_core.keywords import configured, with_settings
from dvae_core.model.dvae import DVAE, without_smoothing
from dvae_core.progress import Progress, ProgressCallback, Report, report_to
from dvae_core.training.checkpoint import TrainedModel
from dvae_core.types import Index

from ..config import LikelihoodConfig
from ..machine import Machine
from ..numbers import std_err_of_mean
from ..results import LikelihoodResult, LogZResult
from ..runtime.compute import Plan, Resources
from ..runtime.resume import Arrays, PartStore, ResumeDirectory, read, with_part
from ..trained import model_description
from .ais import AnnealingTask
from .checks import check_agreement, check_likelihood, check_simulated
from .finished import FinishedImages, arrays_of, earlier_work, finished_images, n_to_keep
from .folded import FoldedDVAE
from .image_tasks import Earlier, ImageTask, run_image_task
from .importance import ImageWeights, ImportanceTask
from .per_image import ImageEstimates
from .protocol import GenerativeModel, LatentVariableModel, ModelWeights, WeightSource, model_digest
from .simulated import SimulatedGap, SimulatedTask, simulate, simulate_own

# Numbers of images and samples for measuring the effect of --precision.
EFFECT_IMAGES, EFFECT_SAMPLES = 20, 1000
# Raise it when the same settings and seed give other digits; tests/eval/test_environment.py checks.
ESTIMATOR_VERSION = 1


@with_settings(LikelihoodConfig)
def estimate_log_likelihood(
    model: TrainedModel | LatentVariableModel,
    images: NDArray[np.uint8],
    log_z: LogZResult | None = None,
    config: LikelihoodConfig | None = None,
    *,
    prior: Machine | None = None,
    labels: Index | None = None,
    log_z_source: str = "estimated on the way",
    resources: Resources | None = None,
    resume: ResumeDirectory | None = None,
    finished: Path | None = None,
    announce: Callable[[Plan], None] | None = None,
    progress: ProgressCallback | None = None,
    shards: ResumeDirectory | None = None,
    **settings: Any,
) -> LikelihoodResult:
    """Estimate the mean log-likelihood of images under a model.

    Parameters
    ----------
    model : TrainedModel or LatentVariableModel
        A model of this project in evaluation mode, or any other with the two methods of `LatentVariableModel`.
    images : uint8, shape (n_images, n_pixels)
        Binary, 0 or 1.  `config.limit` images, evenly spread, are used.  A `LatentVariableModel` may take images
        of any shape and dtype.
    log_z : LogZResult, optional
        log Z of this model's prior.  It can be omitted only for a normalised `LatentVariableModel`, whose prior
        has no Boltzmann machine.
    config : LikelihoodConfig, optional
        Settings.
    prior : BipartiteMachine or GeneralMachine, optional
        The Boltzmann machine in the prior of a `LatentVariableModel`; not needed for a TrainedModel.
    labels : int64, shape (n_images,), optional
        Classes of the images, to report the likelihood per class.
    log_z_source : str
        Where log Z came from; stored in the result.
    resources : Resources, optional
        Processes, memory and threads; they do not change the result.
    resume : ResumeDirectory, optional
        Directory for finished images, so that a killed run can be continued.  Once the result is safe, the caller
        removes the directory, or keeps its state in a file (`resume.keep`).
    finished : Path, optional
        Such a file from the same model and seed; its images and samples are not computed again.  With a larger
        `limit`, its images are among those that are used, and the others are evenly spread over the rest.  With a
        larger `n_samples`, its samples are the first ones.
    announce : callable, optional
        Called with the expected time and memory before the work starts.
    progress : callable, optional
        Called with the phase ("images", "annealing" or "simulated"), the number of finished images, the number of
        all images, and the mean log-likelihood so far.
    shards : ResumeDirectory, optional
        Deprecated name of `resume`.
    **settings
        Fields of LikelihoodConfig, such as n_samples=1000, limit=500 or seed=3.

    Returns
    -------
    LikelihoodResult

    Raises
    ------
    ResultError
        If `log_z` belongs to another prior, or is not finite.
    ConfigError
        If another process is using `resume`, the memory does not suffice, a setting cannot be used, or log Z or
        the prior is missing.
    DataError
        If there are no images, or the images of a TrainedModel are not binary or not of its size.
    NumericalError
        If a log-likelihood is not finite.
    """
    config = configured(LikelihoodConfig, config, settings, estimate_log_likelihood)
    effort = Effort()
    if shards is not None:
        warnings.warn("shards is deprecated; use resume instead", DeprecationWarning, stacklevel=2)
        resume = shards
    source, description = _source(model, prior, log_z, config)
    _check_images(images, model)
    if log_z is None and prior is None and not isinstance(model, TrainedModel):
        log_z, log_z_source = _normalised(description), "the model is normalised"
    log_z = _checked_log_z(log_z, log_z_source, description)
    task, key = ImportanceTask(source, config.n_samples, config.seed), _key(description, config)
    earlier = read(finished)
    chosen = _chosen(images, config.limit, finished_images(earlier, task, _without_samples(task, key)))
    how = resources or Resources(), resume, announce, report_to(progress, 4)
    work = _Work(images[chosen], chosen, log_z.log_z, *how, earlier)
    importance = _finite(work.do(task, key), chosen)
    estimate = importance
    if config.method == "ais":
        estimate = _finite(work.do(*_annealing(source, description, config)), chosen)
    simulated, why_not = _simulated_gap(model, source, description, config, work)
    continued_from = _kept(work, estimate)
    effect = _precision_effect(model, source, config, images, chosen)
    checks = check_likelihood(log_z, estimate, effect)
    checks += check_simulated(simulated) if simulated else []
    checks += check_agreement(estimate, importance) if estimate is not importance else []
    return LikelihoodResult.of(
        config,
        checks,
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=("torch", "numpy", "scipy", "joblib"),
        settings={"dtype": f"{_dtype(source)} networks, float64 sums"},
        diagnostics={
            **estimate.diagnostics(None if labels is None else labels[chosen]),
            **({} if estimate is importance else {"importance": importance.compared_with(estimate)}),
            "simulated": simulated.diagnostics() if simulated else {"not_done": why_not},
            **({"continued_from": continued_from} if continued_from else {}),
            **({"precision_effect": effect} if effect else {}),
        },
        **_numbers(estimate, importance, source, math.prod(images.shape[1:])),
        simulated_gap=simulated.gap if simulated else None,
        simulated_std_err=simulated.std_err if simulated else None,
        simulated_bound=simulated.bound if simulated else None,
        std_err_log_z=log_z.std_err,
        method=config.method,
        log_z=log_z.log_z,
        log_z_source=log_z_source,
        per_image=_columns(estimate, importance, chosen, labels),
        model=description,
    )


def _check_images(images: NDArray[Any], model: TrainedModel | LatentVariableModel) -> None:
    """Raise DataError if there are no images, or those of a TrainedModel are not binary or not of its size."""
    if not images.size:
        raise DataError(f"images: the array of shape {images.shape} is empty; give at least one image")
    if not isinstance(model, TrainedModel):
        return
    if images.ndim != 2 or images.shape[1] != model.model.n_pixels:
        n = model.model.n_pixels
        raise DataError(
            f"images: the array has shape {images.shape}, but the model has {n} pixels; give shape (n, {n})"
        )
    if not ((images == 0) | (images == 1)).all():
        raise DataError("images: some values are neither 0 nor 1; make the images binary first")


def _normalised(description: dict[str, Any]) -> LogZResult:
    """Return the log Z of a model without a Boltzmann machine: 0."""
    return LogZResult(
        log_z=0.0,
        std_err=0.0,
        ci95=[0.0, 0.0],
        method="exact",
        repeats=[],
        model=description,
        settings={},
        seed=0,
        trustworthy=True,
        reasons=[],
        diagnostics={},
        versions={},
        wall_seconds=0.0,
    )


def _checked_log_z(log_z: LogZResult | None, source: str, description: dict[str, Any]) -> LogZResult:
    """Return log Z; ConfigError if it is missing, ResultError if it is not finite or of another prior."""
    if log_z is None:
        raise ConfigError("log_z: log Z of the model's prior is missing; estimate it with estimate_log_z")
    if log_z.model.get("prior_sha256") != description.get("prior_sha256"):
        raise ResultError(
            f"{source}: log Z belongs to another prior than that of {description['file']}; estimate it again"
        )
    if log_z.log_z is None or not math.isfinite(log_z.log_z):
        raise ResultError(f"{source}: log Z is not finite; estimate it again")
    return log_z


def _numbers(
    estimate: ImageEstimates, importance: ImageEstimates, source: WeightSource, n_pixels: int
) -> dict[str, Any]:
    """Return the means over images that a result reports; the ELBO's parts come from importance weighting."""
    parts = dict(zip(source.parts, importance.weights.parts.mean(0).tolist(), strict=True))
    parts[source.parts[source.prior_part]] -= importance.log_z
    mean = float(estimate.values.mean())
    return {
        "log_likelihood": mean,
        "std_err_images": std_err_of_mean(estimate.values),
        "elbo": sum(parts.values()),
        "elbo_parts": parts,
        "gap": estimate.gap,
        "n_suspect": estimate.n_suspect,
        "bits_per_dim": -mean / (n_pixels * math.log(2)),
        "n_samples": estimate.n_samples,
        "n_images": len(estimate.values),
    }


def _columns(
    estimate: ImageEstimates, importance: ImageEstimates, index: Index, labels: Index | None
) -> dict[str, list[float]]:
    """Return the result's table of images."""
    columns: dict[str, NDArray[Any]] = {"index": index}
    if labels is not None:
        columns["label"] = labels[index]
    columns |= estimate.columns()
    if estimate is not importance:
        columns["importance"] = importance.values
    return {name: values.tolist() for name, values in columns.items()}


def _source(
    model: TrainedModel | LatentVariableModel,
    prior: Machine | None,
    log_z: LogZResult | None,
    config: LikelihoodConfig,
) -> tuple[WeightSource, dict[str, Any]]:
    """Return the source of a model's weights, and the description of the model for the result."""
    if isinstance(model, TrainedModel):
        network = _network(model, config)
        if config.precision == "tf32" and network.groups.device.type != "cuda":
            raise ConfigError("--precision: tf32 needs CUDA; give --device cuda, or --precision float32")
        return FoldedDVAE(network, config.precision), model_description(model)
    if prior is None and log_z is not None:
        raise ConfigError(
            "prior: log_z was given without the Boltzmann machine that it belongs to; give the prior as well"
        )
    if config.precision != "float32" or not config.as_trained:
        raise ConfigError(
            "precision, as_trained: these settings apply to models of this project only; leave them out"
        )
    of_prior = prior.description() if prior else {}
    return ModelWeights(model), {"file": type(model).__qualname__, "sha256": model_digest(model), **of_prior}


def _network(model: TrainedModel, config: LikelihoodConfig) -> DVAE:
    """Return the network to evaluate: as trained, or without its smoothing."""
    return model.model if config.as_trained else without_smoothing(model.model)


def _dtype(source: WeightSource) -> str:
    """Return the name of the dtype of a model's networks."""
    return source.precision if isinstance(source, FoldedDVAE) else "the model's own"


def _annealing(
    source: WeightSource, description: dict[str, Any], config: LikelihoodConfig
) -> tuple[AnnealingTask, dict[str, Any]]:
    """Return the annealing task and its key; ConfigError if the model is not one of this project."""
    if not isinstance(source, FoldedDVAE):
        raise ConfigError(
            "--method ais: annealing needs the noise behind the latents, which only models of this project "
            "expose; use --method importance"
        )
    key = _key(description, config, "n_ais_chains", "n_ais_steps")
    return AnnealingTask(source, config.n_ais_chains, config.n_ais_steps, config.seed), key


def _key(description: dict[str, Any], config: LikelihoodConfig, *names: str) -> dict[str, Any]:
    """Return everything except the image that its weights depend on; `names` are settings of the task."""
    names = (*(names or ("n_samples",)), "as_trained", "precision", "seed")
    return {
        "version": [__version__, ESTIMATOR_VERSION],
        "model": description["sha256"],
        **{name: getattr(config, name) for name in names},
    }


def _evenly(n: int, limit: int) -> Index:
    """Return `limit` indices evenly spread over n, all if limit is 0: some test sets are sorted by class."""
    return np.arange(n) if limit == 0 else np.unique(np.linspace(0, n - 1, min(limit, n)).round().astype(np.int64))


def _chosen(images: NDArray[Any], limit: int, earlier: FinishedImages | None) -> Index:
    """Return the indices of the images to use: an earlier estimate's, and others evenly spread over the rest."""
    n = len(images)
    if earlier is None or len(earlier.index) > min(limit or n, n) or not earlier.are_of(images):
        return _evenly(n, limit)
    rest, n_more = np.setdiff1d(np.arange(n), earlier.index), min(limit or n, n) - len(earlier.index)
    more = rest[_evenly(len(rest), n_more)] if n_more else rest[:0]
    return np.sort(np.concatenate((earlier.index, more)))


def _without_samples(task: ImageTask, key: dict[str, Any]) -> dict[str, Any]:
    """Return the key without the number of samples, but with the device and tile size, which affect rounding."""
    source = getattr(task, "source", None)
    more = {"device": task.device.type, **({"tile": source.tile} if source else {})}
    return {name: value for name, value in key.items() if name != "n_samples"} | more


def _kept(work: _Work, estimate: ImageEstimates) -> list[dict[str, Any]]:
    """Save the state of a finished estimate if there is a directory for it; return the estimates it continued."""
    before = unpacked(work.earlier["record"]) if work.has_earlier and "record" in work.earlier else {}
    parts = before.pop("continued_from", [])
    parts = with_part(parts, before) if before else parts
    now = {"n_images": len(work.index), "n_samples": estimate.n_samples, "log_z": work.log_z}
    if work.resume:
        record = packed({**now, "continued_from": parts, "date": now_utc()})
        with suppress(OSError):  # a full disk must not lose the result
            write_npz(work.resume.state, {**work.to_keep, "record": record})
    return parts


@dataclass(slots=True)
class _Work:
    """Inputs that all tasks share: images, log Z, resources, unfinished and earlier work, and callbacks."""

    images: NDArray[np.uint8]
    index: Index
    log_z: float
    resources: Resources
    resume: ResumeDirectory | None
    announce: Callable[[Plan], None] | None
    report: Report
    earlier: Arrays
    to_keep: Arrays = field(default_factory=dict)
    has_earlier: bool = False

    def do(self, task: ImageTask, key: dict[str, Any]) -> ImageEstimates:
        """Return the estimates of `task`, whose settings are `key`, for all images; saved ones are reused."""
        total = 0.0

        def report(n_done: int, shard: ImageWeights) -> None:
            nonlocal total
            total += float(shard.bounds[:, -1].sum())
            self.report(Progress(task.phase, n_done, len(self.images), total / n_done - self.log_z))

        fixed = _without_samples(task, key)
        found = finished_images(self.earlier, task, fixed)
        earlier = earlier_work(found, task.n_samples, self.index, self.images) if found else Earlier()
        self.has_earlier |= bool(earlier.whole or earlier.begun)
        n_kept = 0
        if self.resume and "tile" in fixed:
            n_kept = n_to_keep(len(self.images), task.n_samples, fixed["tile"], earlier)
        if not n_kept:
            earlier = replace(earlier, whole={i: w.without_draws() for i, w in earlier.whole.items()})
        task = task.keeping(n_kept)
        with self._saved({**key, "n_kept": n_kept}) as saved:
            weights = run_image_task(
                task,
                self.images,
                self.index,
                resources=self.resources,
                saved=saved,
                earlier=earlier,
                announce=self.announce,
                progress=report,
            )
        if self.resume:
            self.to_keep.update(arrays_of(task, fixed, self.index, self.images, weights))
        return ImageEstimates(weights, self.log_z, task.n_samples)

    def _saved(self, key: dict[str, Any]) -> AbstractContextManager[PartStore | None]:
        """Return a context manager of the finished images with this key; of None without a resume directory."""
        task = {**key, "images": self.images, "index": self.index}
        return self.resume.held(task) if self.resume else nullcontext()


def _simulated_gap(
    model: TrainedModel | LatentVariableModel,
    source: WeightSource,
    description: dict[str, Any],
    config: LikelihoodConfig,
    work: _Work,
) -> tuple[SimulatedGap | None, str]:
    """Return the gap on simulated images, or None and the reason why it was not estimated."""
    n = min(config.n_simulated, len(work.images))
    if not n:
        return None, "--simulated 0"
    if config.method == "ais":
        return None, "--method ais does not rely on q's samples alone"
    if isinstance(model, TrainedModel):
        drawn = simulate(_network(model, config), n, config.seed)
    elif isinstance(model, GenerativeModel):
        drawn = simulate_own(model, n, config.seed)
    else:
        return None, "the model lacks the methods sample_joint and log_q"
    task = SimulatedTask(source, drawn.latents, config.n_samples, config.seed)
    mine = replace(work, images=drawn.images, index=np.arange(n))
    # The images are drawn together, so that another number of them changes every image.
    estimates = mine.do(task, {**_key(description, config), "n_simulated": n})
    differences, shares = estimates.weights.parts.T
    mean = float(estimates.values.mean())
    return SimulatedGap(differences, shares, config.n_samples, estimates.gap, mean, drawn.states), ""


def _finite(estimate: ImageEstimates, index: Index) -> ImageEstimates:
    """Return the estimates; NumericalError naming the first image whose log-likelihood is not finite."""
    bad = np.flatnonzero(~np.isfinite(estimate.values))
    if len(bad):
        raise NumericalError(
            f"the log-likelihood of image {index[bad[0]]} (and of {len(bad) - 1} more) is not finite; look for "
            "diverged parameters in the model"
        )
    return estimate


def _precision_effect(
    model: TrainedModel | LatentVariableModel,
    source: WeightSource,
    config: LikelihoodConfig,
    images: NDArray[np.uint8],
    chosen: Index,
) -> dict[str, float]:
    """Return the effect of tf32 or bf16 on a few images, against float32 with the same noise; else nothing."""
    if config.precision not in ("tf32", "bf16") or not isinstance(model, TrainedModel):
        return {}
    reference, _ = _source(model, None, None, replace(config, precision="float32"))
    n = min(config.n_samples, EFFECT_SAMPLES)
    some = chosen[_evenly(len(chosen), EFFECT_IMAGES)]
    ours, theirs = (
        np.array([ImportanceTask(s, n, config.seed)(images[i], int(i)).bounds[-1] for i in some])
        for s in (source, reference)
    )
    shift = ours - theirs
    return {
        "mean": float(shift.mean()),
        "std_err": std_err_of_mean(shift),
        "largest": float(np.abs(shift).max()),
        "n_images": len(some),
        "n_samples": n,
    }
