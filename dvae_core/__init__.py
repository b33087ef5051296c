"""The trainable core of a discrete variational autoencoder (Rolfe, ICLR 2017): the model, its data, its training.

These names are the public interface; everything else is private by convention.  They are imported on first use, so
that a command can read configurations without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names
from .renamed import follow_former_names
from .versions import __version__

__all__ = [
    "DVAE",
    "Callback",
    "DvaeError",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "Trainer",
    "__version__",
    "flat_metrics",
    "load_data",
    "load_model",
    "train_model",
]

if TYPE_CHECKING:
    from .config import ModelConfig, RunConfig, TrainConfig
    from .data import load as load_data
    from .errors import DvaeError
    from .model.dvae import DVAE
    from .training.callbacks import Callback, flat_metrics
    from .training.checkpoint import load_model
    from .training.train_model import train_model
    from .training.trainer import Trainer
else:  # hidden from type checkers, which would otherwise accept any name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Callback": "training.callbacks:Callback",
            "DVAE": "model.dvae:DVAE",
            "DvaeError": "errors:DvaeError",
            "ModelConfig": "config:ModelConfig",
            "RunConfig": "config:RunConfig",
            "TrainConfig": "config:TrainConfig",
            "Trainer": "training.trainer:Trainer",
            "flat_metrics": "training.callbacks:flat_metrics",
            "load_data": "data:load",
            "load_model": "training.checkpoint:load_model",
            "train_model": "training.train_model:train_model",
        },
    )

follow_former_names()
