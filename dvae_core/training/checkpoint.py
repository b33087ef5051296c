"""Model files: tensors and plain JSON values, which are only ever loaded with `weights_only=True`."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..cards import Card, HasCard
from ..config import ModelConfig, RunConfig
from ..errors import CheckpointError, ConfigError, DataError
from ..io.files import check_unchanged, write_bytes
from ..io.torch_files import read_torch
from ..model.dvae import DVAE

MODEL_FORMAT = "dvae-model"
VERSION = 1


@dataclass(frozen=True, slots=True, repr=False)
class TrainedModel(HasCard):
    """A model read from a file, in evaluation mode, with the settings and the origin that the file records."""

    model: DVAE
    config: RunConfig
    image_shape: tuple[int, int]
    provenance: dict[str, Any]
    path: Path
    sha256: str

    def _card(self) -> Card:
        """Return a card with the file, the data set and the sizes of the model."""
        of_model = self.model._card()
        height, width = self.image_shape
        training = f"{self.config.dataset}, images of {height} x {width} pixels"
        rows = (("file", str(self.path)), ("data", training), *of_model.rows)
        return Card(type(self).__name__, of_model.title, rows)


def save_tensors(path: Path, format: str, content: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values to `path` atomically; equal content gives equal bytes."""
    buffer = io.BytesIO()
    torch.save(_canonical({"format": format, "version": VERSION, **content}), buffer)
    write_bytes(path, buffer.getbuffer())


def _canonical(value: Any) -> Any:
    """Return the content with equal strings as one object, since pickle writes each string object separately."""
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_canonical(item) for item in value)
    return sys.intern(value) if type(value) is str else value


def load_tensors(path: Path, format: str) -> dict[str, Any]:
    """Return the content of a file that `save_tensors` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of another format or version, or holds anything but plain data.
    """
    try:
        content = read_torch(path)
    except DataError as error:
        raise CheckpointError(f"not a readable {format} file: {error}; give that of a training run") from error
    # Types are checked first, since a file may hold anything here, such as a tensor, which must not be compared.
    found, version = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if not isinstance(found, str) or found != format:
        other = found if isinstance(found, str) else "another"
        raise CheckpointError(f"{path}: not a {format} file but {other}; give that of a training run")
    if not isinstance(version, int) or version != VERSION:
        raise CheckpointError(f"{path}: its version is not {VERSION}; train the model again")
    return dict(content)


def save_model(
    path: Path, state: dict[str, Any], config: RunConfig, image_shape: tuple[int, int], provenance: dict[str, Any]
) -> None:
    """Write the `state_dict` of a model, with its settings and origin, to `path`."""
    content = {
        "config": config.to_dict(),
        "image_shape": list(image_shape),
        "provenance": provenance,
        "state_dict": state,
    }
    save_tensors(path, MODEL_FORMAT, content)


def expected_shapes(config: ModelConfig, n_pixels: int) -> dict[str, torch.Size]:
    """Return the shapes of a model's state by name, without allocating it, since a file may claim any size."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in DVAE(config, n_pixels).state_dict().items()}


def load_model(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> TrainedModel:
    """Read the model at `path`, a file or the directory of a run, onto `device`, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file is not a model of this version, or is inconsistent.
    DataError
        If the file changes while it is read.
    """
    path = Path(path)
    path = path / "model.pt" if path.is_dir() else path
    with check_unchanged(path) as digest:
        content = load_tensors(path, MODEL_FORMAT)
    try:
        config = RunConfig.from_dict(content["config"])
        height, width = content["image_shape"]
        # Earlier versions saved a second copy of the smoothing.
        weights = {k: v for k, v in content["state_dict"].items() if not k.startswith("posterior.smoothing.")}
        if {name: tensor.shape for name, tensor in weights.items()} != expected_shapes(
            config.model, height * width
        ):
            raise ValueError("the shapes of its weights differ from its settings")
        model = DVAE(config.model, height * width)
        model.load_state_dict(weights)
        provenance = dict(content["provenance"])
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: its parts do not fit together ({first}); train the model again") from error
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise CheckpointError(f"{path}: a weight is nan or infinite; train the model again")
    model.to(device).eval().requires_grad_(False)
    return TrainedModel(model, config, (height, width), provenance, path, digest)
