"""Training by stochastic gradient ascent on the evidence lower bound (Section 5, App. H).

A run is a directory: `config.json` (settings), `metrics.jsonl` (one line per epoch), `checkpoint.pt` (the state to
resume from), `model.pt` (the best model by the validation bound) and `prior-trajectory.npz` (priors from the
course of the training).  All random numbers derive from the seed and counters, so that a resumed run ends with the
same weights as an uninterrupted one.  The random numbers of an image or a chain depend on its index in the
minibatch, so that the result does not depend on the number of processes.

Settings may change at the beginning of an epoch, see `stretches`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import distributed
from ..config import Change, RunConfig, TrainConfig
from ..data import DataSet
from ..errors import CheckpointError, ConfigError, NumericalError
from ..io.files import write_npz
from ..io.memory import freed_memory_kept
from ..model.dvae import DVAE, Bound
from ..model.networks import MLP
from ..model.prior import annealed_log_z
from ..rng import numpy_generator, torch_generator
from ..versions import package_versions
from .average import WeightAverage
from .callbacks import Callback
from .checkpoint import TrainedModel, load_tensors, save_model, save_tensors
from .memory_estimate import refuse_too_large
from .metrics import BoundParts, Epoch, append_metrics, truncate_metrics
from .negative_phase import PersistentChains
from .non_finite import NonFiniteMonitor, is_finite, locate_non_finite
from .objective import Objective, kl_weights, noise_of
from .run_directory import TRAJECTORY
from .stretches import agree_until, stretch_at, stretches
from .trajectory import PriorTrajectory

CHECKPOINT_FORMAT = "dvae-training"
CHECKPOINT_SECONDS = 20.0
EVALUATION_BATCH = 500
# On a GPU the host reads results once in this number of steps; in between it only queues work.
STEPS_BETWEEN_LOOKS = 50
# The annealing for log Z takes a fifth of the sweeps of the epoch's negative phases: about 5% of its time.
LOG_Z_SHARE, LOG_Z_CHAINS, LOG_Z_BETAS = 0.2, 200, (50, 500)


class Interrupted(Exception):
    """Training was stopped on request; the run directory is complete and can be resumed."""


class Trainer:
    """The state of a training: weights, optimiser, persistent chains, and the counts of epochs and steps.

    Parameters
    ----------
    run : Path
        The run directory; it must exist.
    config : RunConfig
        All settings.
    data : DataSet
        Training and validation images.
    device : str
        Device to compute on, as torch names it.

    Raises
    ------
    ConfigError
        If the model has no smoothing, without which its posterior cannot learn; if GumBolt's smoothing is combined
        with several importance samples; or if the model needs more memory than is free.
    """

    def __init__(self, run: Path, config: RunConfig, data: DataSet, device: str = "cpu") -> None:
        if config.model.smoothing == "none":
            raise ConfigError(
                "--smoothing: none passes no gradient to the posterior; train with another one, evaluate without"
            )
        if config.model.smoothing == "gumbolt" and config.train.n_importance > 1:
            raise ConfigError(
                "--importance: --smoothing gumbolt has no importance-weighted objective here; give --importance 1"
            )
        self.run, self.config, self.data, self.device = run, config, data, torch.device(device)
        if self.device.type == "cpu":
            refuse_too_large(config, data.n_pixels, len(data.train))
        self.stretches, self.at = stretches(config, len(data.train)), 0
        seed, t = config.train.seed, self.settings
        self.model = DVAE(config.model, data.n_pixels)
        self.model.initialise(torch_generator(seed, "weights"), torch.from_numpy(data.pixel_means()).float())
        self.model.to(self.device)
        self._prepare_networks(t.amp)
        self.average = WeightAverage(self.model, t.ema_decay) if t.ema_decay else None
        self.objective = Objective(self.model, t.n_importance, t.compile)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=t.learning_rate, fused=True)
        chains = torch_generator(seed, "chains", device=self.device)
        self.chains = PersistentChains(self.model.prior, t, chains)
        self.trajectory, self._marks_written = PriorTrajectory() if t.trajectory else None, 0
        self.epoch, self.step = 0, 0
        self.sums: Tensor | None = None
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self.stop_requested = False
        self.non_finite = NonFiniteMonitor(self.device)
        self._running_elbo = float("nan")
        self._saved_at = time.monotonic()

    @property
    def settings(self) -> TrainConfig:
        """The settings of the current stretch."""
        return self.stretches[self.at].train

    @property
    def n_steps(self) -> int:
        """Steps per epoch."""
        return self.stretches[self.at].n_steps

    @property
    def kept_model(self) -> DVAE:
        """The model that is validated and saved: the average of the weights, if there is one."""
        return self.average.model if self.average else self.model

    @property
    def origin(self) -> dict[str, Any]:
        """The data and the versions of packages, for the files of the run."""
        return {
            "data": self.data.provenance,
            "data_sha256": self.data.digest(),
            "versions": package_versions("torch", "numpy"),
        }

    @property
    def stopped_early(self) -> bool:
        """Whether the bound has not risen for `patience` epochs since the warm-ups and the last change."""
        t, first = self.settings, self.stretches[self.at].first
        # During the warm-ups the validation bound, which has the full KL weights, may fall.
        since = max(self.best.get("epoch", 0), t.warmup_epochs, t.rbm_warmup_epochs, first)
        return bool(t.patience) and self.epoch - since >= t.patience

    def _prepare_networks(self, mixed_precision: bool) -> None:
        """Set the options of the networks that apply only to training."""
        for module in self.model.modules():
            if isinstance(module, MLP):
                module.mixed_precision = mixed_precision
                module.freeze_redundant_biases()

    def start_from(self, trained: TrainedModel) -> None:
        """Copy the weights of a model of the same shapes; optimiser and chains start as in any new run."""
        for model in {self.model, self.kept_model}:
            model.load_state_dict(trained.model.state_dict())

    # --- changes of settings --------------------------------------------------------------------------------

    def change(self, settings: dict[str, Any]) -> None:
        """Change settings from the next epoch on; an epoch that has begun keeps its settings.

        Parameters
        ----------
        settings : dict
            Fields of TrainConfig; if `learning_rate` is among them, the step size restarts from its value.

        Raises
        ------
        ConfigError
            If the new settings leave no epoch to train, or may not change.
        """
        first = self.epoch + (self.step > 0)
        before, changes = self.config.train, self.config.changes
        pairs = {name: (getattr(before, name), value) for name, value in settings.items()}
        if changes and changes[-1].from_epoch == first + 1:  # the last change, of which no step was taken yet
            pairs, changes = _joined(changes[-1].settings, pairs), changes[:-1]
        train = dataclasses.replace(before, **settings)
        self._refuse_past(train.epochs, first)
        changes = (*changes, Change(first + 1, pairs)) if pairs else changes
        self.config = dataclasses.replace(self.config, train=train, changes=changes)
        self.stretches = stretches(self.config, len(self.data.train))

    def _refuse_past(self, epochs: int, first: int) -> None:
        """Raise ConfigError if `epochs` leaves no step to train; `first` epochs were begun."""
        if epochs < first or (epochs == first and not self.step):
            done = f"is in epoch {first}; give that or" if self.step else f"has done {first} epochs; give"
            other = "" if self.is_finished else ", or --end to end it as it is"
            raise ConfigError(f"--epochs: the run in {self.run} {done} more{other}")

    @property
    def _begins_stretch(self) -> bool:
        """Whether the present epoch starts another stretch, and no step of it was taken yet."""
        following = self.stretches[self.at + 1 : self.at + 2]
        return not self.step and bool(following) and following[0].first == self.epoch

    def _enter(self, index: int) -> None:
        """Adapt everything that depends on the settings to stretch number `index`."""
        self.at = index
        t = self.settings
        self._prepare_networks(t.amp)
        if not t.ema_decay:
            self.average = None
        elif self.average is None:
            self.average = WeightAverage(self.model, t.ema_decay)
        else:
            self.average.decay = t.ema_decay
        self.objective = Objective(self.model, t.n_importance, t.compile)
        self.chains.adapt(t)

    # --- the loop -------------------------------------------------------------------------------------------

    def train(self, callback: Callback) -> None:
        """Train to the last epoch, or until `stopped_early`; save every `CHECKPOINT_SECONDS` and at the end.

        Raises
        ------
        Interrupted
            After `stop_requested` was set; the state is saved first.
        NumericalError
            If the bound, a gradient or a weight is not finite; the last good checkpoint is kept.
        """
        with freed_memory_kept():
            while not self.is_finished:
                if self._begins_stretch:
                    self._enter(self.at + 1)
                self._one_epoch(callback)
        self.save()

    @property
    def is_finished(self) -> bool:
        """Whether the last epoch is complete, or training has stopped early."""
        stopped = self.stopped_early and not self._begins_stretch
        return self.epoch >= self.config.train.epochs or stopped

    def end(self, callback: Callback) -> None:
        """End the training at the present step: validate an incomplete epoch, and save the best model.

        Raises
        ------
        ConfigError
            If no step was taken.
        """
        if not self._count:
            raise ConfigError(f"--end: the run in {self.run} has taken no step yet; train it first")
        if self.step:
            self._record(self._validate(0.0), callback)
        self.save()

    def _one_epoch(self, callback: Callback) -> None:
        """Train the rest of the current epoch, validate, and log."""
        for model in {self.model, self.kept_model}:
            model.smoothing.set_epoch(self.epoch)
        started, steps_before = time.monotonic(), self.step
        for x, n_images in self._minibatches():
            if self.trajectory:
                self.trajectory.look(self.model.prior, self.chains.negative_samples, self._even_count)
            parts = self._one_step(x, n_images)
            self.sums = parts if self.sums is None else self.sums + parts
            self.step += 1
            if self._time_to_look():
                self._look()
            callback.step(self.epoch, self.step, self.n_steps, self._running_elbo)
        seconds = time.monotonic() - started
        self.seconds += seconds
        self._finish_epoch(callback, (self.step - steps_before) * self.settings.batch_size / seconds)

    def _time_to_look(self) -> bool:
        """Return whether the host reads results after this step; the same in every process."""
        return self.device.type == "cpu" or self.step % STEPS_BETWEEN_LOOKS == 0 or self.step == self.n_steps

    def _look(self) -> None:
        """Read results from the device: stop after a non-finite step, update the bound, save from time to time."""
        assert self.sums is not None
        if (bad := self.non_finite.first_step()) is not None:
            self._explain(bad)
        self._running_elbo = _parts(self.sums, 0.0).elbo
        stop = distributed.any_process(self.stop_requested)
        if stop or time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save()
        if stop:
            raise Interrupted

    def _minibatches(self) -> Iterator[tuple[Tensor, int]]:
        """Yield the remaining minibatches of the epoch: this process's images, and the number over all processes.

        Order and pixels depend only on seed and epoch.  All pixels are copied to the device at once.
        """
        seed, size = self.settings.seed, self.settings.batch_size
        order = self._to_device(numpy_generator(seed, "order", self.epoch).permutation(len(self.data.train)))
        pixels = self._to_device(self.data.binary("train", numpy_generator(seed, "pixels", self.epoch)))
        for start in range(self.step * size, len(order), size):
            rows = order[start : start + size]
            yield pixels[rows[distributed.shard_of(len(rows))]].float(), len(rows)

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        """Return an array as a tensor on the device, copied asynchronously."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)

    # --- one step -------------------------------------------------------------------------------------------

    def _one_step(self, x: Tensor, n_images: int) -> Tensor:
        """Take one step of Adam; return the parts of the bound, summed over the minibatch, and its size.

        Nothing here synchronises the device.  From the first non-finite step on, the weights do not change.
        """
        self.model.train()
        self._move_chains()
        self.optimiser.zero_grad(set_to_none=True)
        sums = distributed.all_reduce(_stack(self._backward(x, n_images)))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimiser.found_inf = self.non_finite.record(self._count, norm, sums)  # type: ignore[attr-defined]
        self._set_learning_rate()
        self.optimiser.step()
        if self.average:
            self.average.update(self._count)
        return sums

    @property
    def _count(self) -> int:
        """Number of steps of the run so far."""
        return self.stretches[self.at].count(self.epoch) + self.step

    @property
    def _even_count(self) -> int:
        """Number of steps so far, scaled as if each epoch had as many steps as the first one."""
        n_steps = self.stretches[0].n_steps
        return self.epoch * n_steps + self.step * n_steps // self.n_steps

    def _move_chains(self) -> None:
        """Advance all persistent chains, identically in every process."""
        generator = torch_generator(self.config.train.seed, "chains", self.epoch, self.step, device=self.device)
        self.chains.advance(self.model.prior, generator)

    def _backward(self, x: Tensor, n_images: int) -> Bound:
        """Set the gradients, summed over all processes; return the bound of this process's images."""
        generator = torch_generator(self.config.train.seed, "noise", self.epoch, self.step, device=self.device)
        images = distributed.shard_of(n_images)
        rho, eps = (noise[..., images, :] for noise in self.objective.noise(n_images, generator))
        weights = kl_weights(self.settings, self.epoch + self.step / self.n_steps)
        # Each process computes the whole negative phase of Eq. 11, and gradients are summed over processes.
        log_z = self.model.prior.log_z_gradient_term(self.chains.negative_samples) / distributed.size()
        bound = self.objective.backward(x, (rho, eps), log_z, weights, n_images)
        distributed.sum_gradients(self.model.parameters())
        return bound

    def _set_learning_rate(self) -> None:
        """Set the step size of the present step."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.stretches[self.at].learning_rate(self._count)

    def _explain(self, bad: int) -> None:
        """Repeat the first non-finite step, whose weights were kept, and raise NumericalError with the cause."""
        self.step = bad - self.stretches[self.at].count(self.epoch)
        self.objective = Objective(self.model, self.settings.n_importance)
        self.optimiser.zero_grad(set_to_none=True)
        x, n_images = next(self._minibatches())
        bounds: list[Bound] = []
        first = locate_non_finite(self.model, lambda: bounds.append(self._backward(x, n_images)))
        parts = {"the reconstruction": bounds[0].reconstruction, "the KL of the RBM": bounds[0].kl_rbm}
        parts |= {f"the KL of continuous layer {m}": kl for m, kl in enumerate(bounds[0].kl_continuous, 1)}
        parts |= {
            f"the gradient of {name}": p.grad for name, p in self.model.named_parameters() if p.grad is not None
        }
        name = next(
            (n for n, part in parts.items() if distributed.any_process(not is_finite(part))), "the gradient"
        )
        raise self._not_finite(name, f", first in {first}" if first else "")

    def _not_finite(self, what: str, where: str = "") -> NumericalError:
        """Return the error for a non-finite quantity `what`."""
        return NumericalError(
            f"{self.run}: {what} is not finite at epoch {self.epoch + 1}, step {self.step + 1}{where}; the "
            "last good checkpoint is kept; lower --learning-rate or --gradient-clip and train again"
        )

    # --- end of an epoch ------------------------------------------------------------------------------------

    def _finish_epoch(self, callback: Callback, images_per_s: float) -> None:
        """Validate, keep the best model, log, and begin the next epoch."""
        finished = self._validate(images_per_s)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, None
        self._record(finished, callback)

    def _record(self, epoch: Epoch, callback: Callback) -> None:
        """Keep the model if it is the best so far, and log."""
        self._keep_best(epoch)
        if distributed.rank() == 0:
            append_metrics(self.run, epoch)
        callback.epoch(epoch.to_dict())

    def _validate(self, images_per_s: float) -> Epoch:
        """Return the metrics of the present epoch, complete or not."""
        assert self.sums is not None  # an epoch has at least one step
        generator = torch_generator(self.config.train.seed, "log_z", self.epoch, device=self.device)
        log_z = annealed_log_z(self.kept_model.prior, generator, LOG_Z_CHAINS, self._log_z_betas())
        sharpness = getattr(self.kept_model.smoothing, "sharpness", None)
        return Epoch(
            epoch=self.epoch + 1,
            step=self._count,
            seconds=round(self.seconds, 3),
            images_per_s=round(images_per_s, 1),
            learning_rate=self.optimiser.param_groups[0]["lr"],
            kl_weight=kl_weights(self.settings, self.epoch + 1)[0],
            sharpness=None if sharpness is None else float(sharpness.detach()),
            log_z=log_z,
            train=_parts(self.sums, log_z),
            valid=_parts(self._validation_sums(), log_z),
            rbm=self._prior_metrics(),
        )

    def _log_z_betas(self) -> int:
        """Return the number of inverse temperatures for annealing log Z, in proportion to the epoch's sweeps."""
        t, (least, most) = self.settings, LOG_Z_BETAS
        sweeps = self.n_steps * t.n_sweeps * t.n_chains / LOG_Z_CHAINS
        return max(least, min(most, round(LOG_Z_SHARE * sweeps)))

    @cached_property
    def _validation_pixels(self) -> Tensor:
        """The validation set, uint8, on the device."""
        return self._to_device(self.data.fixed("valid"))

    @torch.no_grad()
    def _validation_sums(self) -> Tensor:
        """Return the summed parts of the bound over the validation set, with the same noise in every epoch."""
        model, pixels = self.kept_model.eval(), self._validation_pixels
        sums = torch.zeros(3 + self.config.model.n_layers, dtype=torch.float64, device=self.device)
        starts = range(0, len(pixels), EVALUATION_BATCH)
        for start in starts[distributed.rank() :: distributed.size()]:
            x = pixels[start : start + EVALUATION_BATCH].float()
            generator = torch_generator(self.config.train.seed, "validation", start, device=self.device)
            sums += _stack(model.bound(x, *noise_of(model, (len(x),), generator)))
        return distributed.all_reduce(sums)

    def _prior_metrics(self) -> dict[str, float]:
        """Return statistics of the prior: mean activation of its chains, and size of its couplings."""
        W = self.kept_model.prior.W.detach()
        size = W.abs() if W.numel() else torch.zeros(1)
        return {
            "mean_activation": float(self.chains.negative_samples.mean()),
            "weight_rms": float(size.square().mean().sqrt()),
            "weight_max": float(size.max()),
            **self.chains.metrics(self.model.prior),
        }

    def _keep_best(self, epoch: Epoch) -> None:
        """Store the weights if their validation bound is the highest so far."""
        elbo = epoch.valid.elbo
        if not self.best or elbo > self.best["elbo"]:
            state = {name: value.detach().cpu().clone() for name, value in self.kept_model.state_dict().items()}
            self.best = {"elbo": elbo, "epoch": epoch.epoch, "log_z": epoch.log_z, "state_dict": state}

    # --- files ----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write `checkpoint.pt`, and after the first epoch `model.pt`; only the first process writes.

        Raises
        ------
        NumericalError
            If a weight is not finite; nothing is written.
        """
        self._saved_at = time.monotonic()
        if bad := [name for name, value in self.model.state_dict().items() if not is_finite(value)]:
            raise self._not_finite(bad[0])
        if distributed.rank() == 0:
            self._write()

    def _write(self) -> None:
        """Write the files of `save`."""
        content = {
            "config": self.config.to_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "chains": self.chains.state_dict(),
            "best": self.best,
            "trajectory": self.trajectory.state_dict() if self.trajectory else None,
        }
        save_tensors(self.run / "checkpoint.pt", CHECKPOINT_FORMAT, content)
        if self.trajectory and self.trajectory.n_marks > self._marks_written:
            write_npz(self.run / TRAJECTORY, self.trajectory.arrays(self.stretches[0].n_steps))
            self._marks_written = self.trajectory.n_marks
        if self.best:
            provenance = {
                "epoch": self.best["epoch"],
                "valid_elbo": self.best["elbo"],
                "log_z": self.best["log_z"],
                **self.origin,
            }
            save_model(
                self.run / "model.pt", self.best["state_dict"], self.config, self.data.image_shape, provenance
            )

    def restore(self) -> None:
        """Restore the state of `checkpoint.pt`; metrics of later epochs are dropped.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or was written with other settings.
        """
        path = self.run / "checkpoint.pt"
        content = load_tensors(path, CHECKPOINT_FORMAT)
        if not self._has_settings_of(content):
            raise CheckpointError(f"{path}: made with other settings than config.json beside it; train again")
        try:
            self._restore(content)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: its parts do not fit together ({first}); train again") from error
        if distributed.rank() == 0:
            self.seconds = truncate_metrics(self.run, self.epoch)

    def _has_settings_of(self, content: dict[str, Any]) -> bool:
        """Return whether the settings of a checkpoint agree so far; fields that it lacks have their defaults."""
        try:
            saved = RunConfig.from_dict(content["config"])
            return agree_until(saved, self.config, int(content["epoch"]), int(content["step"]))
        except (ConfigError, KeyError, TypeError, ValueError):
            return False

    def _restore(self, content: dict[str, Any]) -> None:
        """Restore the state from the content of a checkpoint."""
        self.epoch, self.step, self.best = int(content["epoch"]), int(content["step"]), content["best"]
        if (index := stretch_at(self.stretches, self.epoch, self.step)) != self.at:
            self._enter(index)
        self.model.load_state_dict(content["model"])
        if self.average and content["average"] is not None:
            self.average.model.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.chains.load_state_dict(content["chains"])
        if self.trajectory and content.get("trajectory"):  # earlier versions did not store it
            self.trajectory.load_state_dict(content["trajectory"])
        self.sums = None if content["sums"] is None else content["sums"].to(self.device)


def _joined(earlier: dict[str, tuple[Any, Any]], later: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Return two changes from the same epoch as one, without settings that end up as they were before both."""
    joined = earlier | {name: (earlier.get(name, pair)[0], pair[1]) for name, pair in later.items()}
    return {name: pair for name, pair in joined.items() if pair[0] != pair[1] or name == "learning_rate"}


def _stack(bound: Bound) -> Tensor:
    """Return the parts of the bound summed over images, and the number of images, as a float64 vector."""
    parts = (bound.reconstruction, bound.kl_rbm, *bound.kl_continuous)
    sums = torch.stack([part.detach().double().sum() for part in parts])
    return torch.cat((sums, sums.new_full((1,), len(bound.reconstruction))))


def _parts(sums: Tensor, log_z: float) -> BoundParts:
    """Return the mean parts of the bound from the sums of `_stack`."""
    *values, n = sums.tolist()
    reconstruction, kl_rbm, *kl_continuous = (value / n for value in values)
    kl_rbm += log_z
    return BoundParts(reconstruction - kl_rbm - sum(kl_continuous), reconstruction, kl_rbm, kl_continuous)
