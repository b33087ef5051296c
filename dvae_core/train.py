"""Training by stochastic gradient ascent on the evidence lower bound (Section 5, App. H).

A run is a directory: `config.json` (settings), `metrics.jsonl` (one line an epoch), `checkpoint.pt` (to go on
from) and `model.pt` (the best model by the validation bound).  All random numbers derive from the seed and a
counter, so a run that is stopped and resumed ends where an uninterrupted one ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checkpoint import load_tensors, package_versions, save_model, save_tensors
from .config import RunConfig
from .data import DataSet
from .errors import CheckpointError, ConfigError, NumericalError
from .files import write_text
from .model import DVAE, Bound
from .negative_phase import PersistentChains
from .prior import annealed_log_z
from .rng import numpy_generator, torch_generator

__all__ = ["Interrupted", "Progress", "Trainer", "kl_weights", "read_config", "write_config"]

CHECKPOINT_FORMAT = "dvae-training"
CHECKPOINT_SECONDS = 20.0
EVALUATION_BATCH = 500


class Interrupted(Exception):
    """Training was asked to stop; the run directory is complete and can be resumed."""


class Progress(Protocol):
    """What a trainer tells while it works."""

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Hear of a step within an epoch, with a smoothed bound of the minibatches."""

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Hear of a finished epoch: the line that goes to metrics.jsonl."""


def kl_weights(config: RunConfig, epoch: float) -> tuple[float, float]:
    """Return the weight of all KL terms, and the further weight of the RBM's, at a moment of training.

    The paper leaves the formula of its warm-up open ("strength 20 for 5 epochs, and additional warm-up of
    strength 2 on the RBM alone for 20 epochs", App. H).  Here a weight starts at 1/strength and rises linearly
    to 1 over the given epochs.
    """
    t = config.train

    def weight(strength: float, epochs: int) -> float:
        return 1.0 if epoch >= epochs else 1 / strength + (1 - 1 / strength) * epoch / epochs

    return weight(t.warmup_strength, t.warmup_epochs), weight(t.rbm_warmup_strength, t.rbm_warmup_epochs)


class Trainer:
    """A model on its way: weights, optimiser, persistent chains, and the count of steps.

    Parameters
    ----------
    run : Path
        The run directory; it must exist.
    config : RunConfig
        All settings.
    data : DataSet
        What to learn, and what to validate on.
    device : str
        Where to compute.

    Raises
    ------
    ConfigError
        If the model has no smoothing, through which its posterior would learn.
    """

    def __init__(self, run: Path, config: RunConfig, data: DataSet, device: str = "cpu") -> None:
        if config.model.smoothing == "none":
            raise ConfigError(
                "--smoothing: none passes no gradient to the posterior; train with another, and evaluate without"
            )
        self.run, self.config, self.data, self.device = run, config, data, torch.device(device)
        seed = config.train.seed
        self.model = DVAE(config.model, data.n_pixels)
        self.model.initialise(torch_generator(seed, "weights"), torch.from_numpy(data.pixel_means()).float())
        self.model.to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.train.learning_rate, fused=True)
        chains = torch_generator(seed, "chains", device=self.device)
        self.chains = PersistentChains(self.model.prior, config.train, chains)
        self.n_steps = -(-len(data.train) // config.train.batch_size)
        self.epoch, self.step = 0, 0
        self.sums: Tensor | None = None
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self.stop_requested = False
        self._saved_at = time.monotonic()

    # --- the loop -------------------------------------------------------------------------------------------

    def train(self, progress: Progress) -> None:
        """Train to the last epoch; save every `CHECKPOINT_SECONDS` and at the end.

        Raises
        ------
        Interrupted
            After `stop_requested` was set; what was done is saved.
        NumericalError
            If the bound or a gradient is not finite; the last good checkpoint stays.
        """
        while self.epoch < self.config.train.epochs:
            self._one_epoch(progress)
        self.save()

    def _one_epoch(self, progress: Progress) -> None:
        """Go through the rest of the current epoch, validate, and log."""
        self.model.smoothing.set_epoch(self.epoch)
        started, steps_before = time.monotonic(), self.step
        for x in self._minibatches():
            parts = self._one_step(x)
            self.sums = parts if self.sums is None else self.sums + parts
            self.step += 1
            progress.step(self.epoch, self.step, self.n_steps, self._running_elbo())
            if self.stop_requested or time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self.save()
            if self.stop_requested:
                raise Interrupted
        seconds = time.monotonic() - started
        self.seconds += seconds
        self._finish_epoch(progress, (self.step - steps_before) * self.config.train.batch_size / seconds)

    def _minibatches(self) -> Iterator[Tensor]:
        """Yield what is left of the current epoch: the order and the pixels depend on seed and epoch alone."""
        seed, size = self.config.train.seed, self.config.train.batch_size
        order = numpy_generator(seed, "order", self.epoch).permutation(len(self.data.train))
        pixels = self.data.binary("train", numpy_generator(seed, "pixels", self.epoch))
        for start in range(self.step * size, len(order), size):
            yield self._to_device(pixels[order[start : start + size]])

    def _to_device(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return binary pixels as floats on the device."""
        return torch.from_numpy(pixels).to(self.device).float()

    # --- one step -------------------------------------------------------------------------------------------

    def _one_step(self, x: Tensor) -> Tensor:
        """Take one step of Adam; return the sums over the minibatch of the parts of the bound, and its size."""
        self.model.train()
        generator = torch_generator(self.config.train.seed, "noise", self.epoch, self.step, device=self.device)
        self.chains.advance(self.model.prior, generator)
        bound = self.model.bound(x, *self._noise(len(x), generator))
        loss = self._loss(bound)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.gradient_clip)
        self._check_finite(bound, norm)
        self._set_learning_rate()
        self.optimiser.step()
        return _stack(bound)

    def _loss(self, bound: Bound) -> Tensor:
        """Return the negative warmed-up bound, with the negative phase of Eq. 11 in the place of log Z."""
        weight, rbm_weight = kl_weights(self.config, self.epoch + self.step / self.n_steps)
        log_z_gradient = self.model.prior.log_z_gradient_term(self.chains.negative_samples)
        kl = rbm_weight * (bound.kl_rbm.mean() + log_z_gradient)
        kl = kl + sum(layer.mean() for layer in bound.kl_continuous)
        return weight * kl - bound.reconstruction.mean()

    def _noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (ρ, ε) for n draws of the latents."""
        n_uniform, n_normal = self.model.n_noise
        rho = torch.rand((n, n_uniform), generator=generator, device=self.device)
        return rho, torch.randn((n, n_normal), generator=generator, device=self.device)

    def _set_learning_rate(self) -> None:
        """Decay the step size geometrically over the whole run."""
        t = self.config.train
        share = (self.epoch * self.n_steps + self.step) / (t.epochs * self.n_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = t.learning_rate * t.learning_rate_decay**share

    def _check_finite(self, bound: Bound, norm: Tensor) -> None:
        """Stop at the first number that is not finite, and name it."""
        if torch.isfinite(norm) and torch.isfinite(_stack(bound)).all():
            return
        parts = {"the reconstruction": bound.reconstruction, "the KL of the RBM": bound.kl_rbm}
        parts |= {f"the KL of continuous layer {m}": kl for m, kl in enumerate(bound.kl_continuous, 1)}
        parts |= {
            f"the gradient of {name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None
        }
        name = next((name for name, value in parts.items() if not torch.isfinite(value).all()), "the gradient")
        raise NumericalError(
            f"{self.run}: {name} is not finite at epoch {self.epoch + 1}, step {self.step + 1}; "
            "the last good checkpoint is kept; lower --learning-rate or --gradient-clip and train anew"
        )

    # --- an epoch's end -------------------------------------------------------------------------------------

    def _finish_epoch(self, progress: Progress, images_per_s: float) -> None:
        """Validate, keep the best model, log, and begin the next epoch."""
        assert self.sums is not None  # an epoch has at least one step
        generator = torch_generator(self.config.train.seed, "log_z", self.epoch, device=self.device)
        log_z = annealed_log_z(self.model.prior, generator)
        metrics = {
            "epoch": self.epoch + 1,
            "step": (self.epoch + 1) * self.n_steps,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(images_per_s, 1),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "kl_weight": kl_weights(self.config, self.epoch + 1)[0],
            **self._smoothing_metrics(),
            "log_z": log_z,
            "train": _parts(self.sums, log_z),
            "valid": _parts(self._validation_sums(), log_z),
            "rbm": self._prior_metrics(),
        }
        self.epoch, self.step, self.sums = self.epoch + 1, 0, None
        self._keep_best(metrics)
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
        progress.epoch(metrics)

    @torch.no_grad()
    def _validation_sums(self) -> Tensor:
        """Return the summed parts of the bound over the validation set, with the same noise in every epoch."""
        self.model.eval()
        generator = torch_generator(self.config.train.seed, "validation", device=self.device)
        pixels = self.data.fixed("valid")
        batches = (
            self._to_device(pixels[i : i + EVALUATION_BATCH]) for i in range(0, len(pixels), EVALUATION_BATCH)
        )
        return sum(
            (_stack(self.model.bound(x, *self._noise(len(x), generator))) for x in batches), torch.zeros(())
        )

    def _smoothing_metrics(self) -> dict[str, float]:
        """Return the sharpness of the smoothing, if it has one."""
        sharpness = getattr(self.model.smoothing, "sharpness", None)
        return {} if sharpness is None else {"sharpness": float(sharpness.detach())}

    def _prior_metrics(self) -> dict[str, float]:
        """Return statistics of the prior: how active its chains are and how strong its couplings."""
        size = self.model.prior.W.detach().abs() if self.model.prior.W.numel() else torch.zeros(1)
        return {
            "mean_activation": float(self.chains.negative_samples.mean()),
            "weight_rms": float(size.square().mean().sqrt()),
            "weight_max": float(size.max()),
            **self.chains.metrics(self.model.prior),
        }

    def _keep_best(self, metrics: dict[str, Any]) -> None:
        """Remember the weights with the highest validation bound."""
        elbo = metrics["valid"]["elbo"]
        if not self.best or elbo > self.best["elbo"]:
            state = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
            self.best = {"elbo": elbo, "epoch": self.epoch, "log_z": metrics["log_z"], "state_dict": state}

    def _running_elbo(self) -> float:
        """Return the mean bound of the current epoch so far, less log Z, for the progress line."""
        assert self.sums is not None
        return float(_parts(self.sums, 0.0)["elbo"])

    # --- files ----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write `checkpoint.pt`, and `model.pt` once an epoch is done."""
        content = {
            "config": self.config.to_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "chains": self.chains.state_dict(),
            "best": self.best,
        }
        save_tensors(self.run / "checkpoint.pt", CHECKPOINT_FORMAT, content)
        if self.best:
            provenance = {
                "epoch": self.best["epoch"],
                "valid_elbo": self.best["elbo"],
                "log_z": self.best["log_z"],
                "data": self.data.provenance,
                "data_sha256": self.data.digest(),
                "versions": package_versions("torch", "numpy"),
            }
            save_model(
                self.run / "model.pt", self.best["state_dict"], self.config, self.data.image_shape, provenance
            )
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Go back to where `checkpoint.pt` was written; metrics of later epochs are dropped.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged or of other settings.
        """
        path = self.run / "checkpoint.pt"
        content = load_tensors(path, CHECKPOINT_FORMAT)
        if content.get("config") != self.config.to_dict():
            raise CheckpointError(f"{path}: made with other settings than config.json beside it; train anew")
        self.model.load_state_dict(content["model"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.chains.load_state_dict(content["chains"])
        self.epoch, self.step, self.best = content["epoch"], content["step"], content["best"]
        self.sums = None if content["sums"] is None else content["sums"].to(self.device)
        self._truncate_metrics()

    def _truncate_metrics(self) -> None:
        """Drop the metrics of epochs after the checkpoint's: they will be written again."""
        path = self.run / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        write_text(path, "".join(lines[: self.epoch]))


def _stack(bound: Bound) -> Tensor:
    """Return the sums over images of the bound's parts, and the number of images, as one float64 vector."""
    parts = (bound.reconstruction, bound.kl_rbm, *bound.kl_continuous)
    sums = torch.stack([part.detach().double().sum() for part in parts])
    return torch.cat((sums, sums.new_tensor([len(bound.reconstruction)])))


def _parts(sums: Tensor, log_z: float) -> dict[str, Any]:
    """Return the mean parts of the bound for `metrics.jsonl` from what `_stack` summed."""
    *values, n = sums.tolist()
    reconstruction, kl_rbm, *kl_continuous = (value / n for value in values)
    kl_rbm += log_z
    return {
        "elbo": reconstruction - kl_rbm - sum(kl_continuous),
        "reconstruction": reconstruction,
        "kl_rbm": kl_rbm,
        "kl_continuous": kl_continuous,
    }


def write_config(run: Path, config: RunConfig, provenance: dict[str, Any]) -> None:
    """Write the settings of a run to its directory."""
    write_text(run / "config.json", json.dumps({**config.to_dict(), "provenance": provenance}, indent=2) + "\n")


def read_config(run: Path) -> RunConfig:
    """Read the settings of a run from its directory; CheckpointError if it holds none that can be read."""
    path = run / "config.json"
    try:
        return RunConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{run}: holds no run that could be resumed (no config.json); leave --resume out"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ConfigError) as error:
        raise CheckpointError(f"{path}: cannot be read as settings ({error}); train anew") from error
