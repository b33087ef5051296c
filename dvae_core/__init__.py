"""The trainable core of a discrete variational autoencoder (Rolfe, ICLR 2017): the model, its data, its training.

These names are the package's interface; all else is private by convention.  They are imported when they are first
used, so that a command line can read configurations without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names
from .renamed import follow_former_names
from .versions import __version__

__all__ = [
    "DVAE",
    "DvaeError",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "Trainer",
    "__version__",
    "load_data",
    "load_model",
]

if TYPE_CHECKING:
    from .config import ModelConfig, RunConfig, TrainConfig
    from .data import load as load_data
    from .errors import DvaeError
    from .model.dvae import DVAE
    from .training.checkpoint import load_model
    from .training.trainer import Trainer
else:  # hidden from type checkers, to which any name would then be one
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DVAE": "model.dvae:DVAE",
            "DvaeError": "errors:DvaeError",
            "ModelConfig": "config:ModelConfig",
            "RunConfig": "config:RunConfig",
            "TrainConfig": "config:TrainConfig",
            "Trainer": "training.trainer:Trainer",
            "load_data": "data:load",
            "load_model": "training.checkpoint:load_model",
        },
    )

follow_former_names()
