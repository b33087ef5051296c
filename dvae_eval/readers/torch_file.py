"""Files of `torch.save`: models of this project, and state dicts of others."""

from __future__ import annotations

from pathlib import Path

from dvae_core.errors import DataError

from .options import ReadConfig, Reading
from .tensors import read_tensors


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine in a PyTorch file; for a model of this project, its prior."""
    from dvae_core.io.torch_files import read_torch

    content = read_torch(path)
    if not isinstance(content, dict):
        raise DataError(f"contains a {type(content).__name__}; save a state dict, a dict of tensors")
    if str(content.get("format", "")).startswith("dvae-"):
        return _own(path, config)
    return read_tensors(content, config, "PyTorch")


def _own(path: Path, config: ReadConfig) -> Reading:
    """Return the prior of a trained model."""
    from dvae_core.training.checkpoint import load_model

    from ..trained import machine_of, model_description

    config.reject_unused("this project")
    trained = load_model(path)
    dtype = str(trained.model.prior.W.dtype).removeprefix("torch.")
    description = {"format": "dvae-model", "units": "01", "dtype": dtype, **model_description(trained)}
    return Reading(machine_of(trained), 0.0, description)
