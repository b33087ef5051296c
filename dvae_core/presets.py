"""Settings by name: for every data set one that learns something worth seeing in minutes on two cores."""

from __future__ import annotations

from dataclasses import dataclass

from .config import ModelConfig, RunConfig, TrainConfig
from .errors import ConfigError

__all__ = ["PRESETS", "Preset", "default_preset", "find_preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings with one line on what they are for."""

    summary: str
    model: ModelConfig
    train: TrainConfig

    def config(self, dataset: str) -> RunConfig:
        """Return these settings for `dataset`."""
        return RunConfig(dataset, self.model, self.train)


_MNIST_MODEL = ModelConfig(encoder_hidden=(200, 200), prior_hidden=(100,), n_layers=2, n_continuous=32)
_DEMO = ModelConfig(
    n_left=16, n_right=16, n_groups=4, encoder_hidden=(100, 100), prior_hidden=(50,), n_continuous=8
)

PRESETS: dict[str, Preset] = {
    "demo": Preset(
        "16+16 RBM units and 2 x 8 continuous latents for 8x8 images: two minutes, log Z exactly known",
        _DEMO,
        TrainConfig(epochs=150, batch_size=100, n_chains=200, n_sweeps=20),
    ),
    "digits-small": Preset(
        "32+32 RBM units and 2 x 16 continuous latents for 8x8 images",
        ModelConfig(),
        TrainConfig(epochs=300, batch_size=100),
    ),
    "bars-and-stripes-small": Preset(
        "8+8 RBM units, no continuous latents: small enough to be enumerated",
        ModelConfig(n_left=8, n_right=8, n_groups=4, n_layers=0, encoder_hidden=(50, 50)),
        TrainConfig(epochs=300, batch_size=50),
    ),
    "small": Preset(
        "32+32 RBM units and 2 x 32 continuous latents for 28x28 images: minutes an epoch at most",
        _MNIST_MODEL,
        TrainConfig(epochs=20, batch_size=100),
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset of that name; ConfigError, with the names there are, if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"--preset: {name!r} is not known; give one of {', '.join(PRESETS)}")
    return PRESETS[name]


def default_preset(dataset: str) -> str:
    """Return the name of the preset that `dataset` is trained with unless another is asked for."""
    for name in ("digits", "bars-and-stripes"):
        if dataset == name or dataset.startswith(name + "-"):
            return f"{name}-small"
    return "small"
