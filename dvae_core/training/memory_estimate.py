"""What training takes of a machine's memory, known before it starts."""

from __future__ import annotations

import torch
from torch import nn

from ..config import RunConfig
from ..io.memory import require_memory
from ..model.dvae import DVAE
from ..text import byte_size

# Bytes for every weight: itself, its gradient, Adam's two moments and the best model so far, float32; and while a
# checkpoint is written, all but the gradient again.
WEIGHT, AVERAGED_WEIGHT = 36, 12
# What the first steps of PyTorch take, whatever the model.
LOADED = 60_000_000
# Numbers that one output of a linear map leaves behind for one image: batch norm's steps, ReLU, their gradients.
PER_OUTPUT = 10
# Copies of the states of all chains, and of the training set's pixels.
CHAIN_COPIES, PIXEL_COPIES = 8, 2
# Options that each part hangs on.
OPTIONS = {
    "weights": "--encoder-hidden, --prior-hidden, --decoder-hidden",
    "a minibatch": "--batch-size, --importance",
    "chains": "--chains, --rungs",
}


def training_bytes(config: RunConfig, n_pixels: int, n_images: int) -> dict[str, int]:
    """Return about how many bytes the parts of a training run take, beyond what the process has already.

    Parameters
    ----------
    config : RunConfig
    n_pixels, n_images : int
        Of the training set.

    Returns
    -------
    dict of str to int
        Of `weights`, `a minibatch`, `chains`, `pixels` and `libraries`.
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
    """Raise ConfigError if training would take more memory than there is; it names the options to change."""
    parts = training_bytes(config, n_pixels, n_images)
    largest = max(OPTIONS, key=parts.__getitem__)
    hint = f"give less: {byte_size(parts[largest])} of it is for {largest}"
    require_memory(sum(parts.values()), OPTIONS[largest], "training", hint)
