"""An estimate of the memory that training takes, made before it starts."""

from __future__ import annotations

import torch
from torch import nn

from ..config import RunConfig
from ..io.memory import require_memory
from ..model.dvae import DVAE
from ..text import byte_size

# Bytes per weight, float32: the weight, its gradient, Adam's two moments and the best model so far; and again all
# of these except the gradient while a checkpoint is written.
WEIGHT, AVERAGED_WEIGHT = 36, 12
# What PyTorch allocates in its first steps, independent of the model.
LOADED = 60_000_000
# Numbers stored per output of a linear map and image: intermediate values of batch norm and ReLU, and gradients.
PER_OUTPUT = 10
# Copies of the states of all chains, and of the training set's pixels.
CHAIN_COPIES, PIXEL_COPIES = 8, 2
# Options that determine the size of each part.
OPTIONS = {
    "weights": "--encoder-hidden, --prior-hidden, --decoder-hidden",
    "a minibatch": "--batch-size, --importance",
    "chains": "--chains, --rungs",
}


def training_bytes(config: RunConfig, n_pixels: int, n_images: int) -> dict[str, int]:
    """Return the approximate bytes that each part of a training run takes, beyond what the process already uses.

    Parameters
    ----------
    config : RunConfig
    n_pixels, n_images : int
        Size of the training set.

    Returns
    -------
    dict of str to int
        Bytes for `weights`, `a minibatch`, `chains`, `pixels` and `libraries`.
    """
    with torch.device("meta"):  # shapes alone
        model = DVAE(config.model, n_pixels)
    t = config.train
    weight = WEIGHT + (AVERAGED_WEIGHT if t.ema_decay else 0)
    outputs = sum(module.out_features for module in model.modules() if isinstance(module, nn.Linear))
    n_rungs = t.n_rungs if t.sampler == "tempering" else 1
    return {
        "weights": weight * sum(parameter.numel() for parameter in model.parameters()),
        "a minibatch": 4 * PER_OUTPUT * outputs * min(t.batch_size, n_images) * t.n_importance,
        "chains": 4 * CHAIN_COPIES * n_rungs * t.n_chains * (config.model.n_left + config.model.n_right),
        "pixels": PIXEL_COPIES * n_images * n_pixels,
        "libraries": LOADED,
    }


def refuse_too_large(config: RunConfig, n_pixels: int, n_images: int) -> None:
    """Raise ConfigError, with the options to change, if training would take more memory than is available."""
    parts = training_bytes(config, n_pixels, n_images)
    largest = max(OPTIONS, key=parts.__getitem__)
    hint = f"give less: {byte_size(parts[largest])} of it is for {largest}"
    require_memory(sum(parts.values()), OPTIONS[largest], "training", hint)
