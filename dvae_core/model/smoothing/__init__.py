"""Smoothing transformations: a continuous ζ per binary z, through which gradients pass (Section 2, App. D and E).

`base` defines the interface `Smoothing`; `spikes` has the transformations with a spike at ζ = 0, `mixtures` those
without a spike, and `gumbolt` a relaxation that is smooth in training only.  `ModelConfig.smoothing` names one.
"""

from __future__ import annotations

from ...config import ModelConfig
from .base import DiscreteSample, ScheduledSharpness, Smoothing, TrainableSharpness
from .gumbolt import GumBolt
from .mixtures import MixtureOfRamps, OverlappingExponential, PowerFunction, SymmetricMixture
from .spikes import NoSmoothing, Spike, SpikeAndExponential, SpikeAndGaussian, SpikeAndSlab

__all__ = [
    "DiscreteSample",
    "GumBolt",
    "MixtureOfRamps",
    "NoSmoothing",
    "OverlappingExponential",
    "PowerFunction",
    "ScheduledSharpness",
    "Smoothing",
    "Spike",
    "SpikeAndExponential",
    "SpikeAndGaussian",
    "SpikeAndSlab",
    "SymmetricMixture",
    "TrainableSharpness",
    "make_smoothing",
]

_PLAIN: dict[str, type[Smoothing]] = {
    "spike-and-slab": SpikeAndSlab,
    "spike-and-gaussian": SpikeAndGaussian,
    "mixture-of-ramps": MixtureOfRamps,
    "none": NoSmoothing,
}
_WITH_SHARPNESS: dict[str, type[ScheduledSharpness]] = {
    "spike-and-exponential": SpikeAndExponential,
    "overlapping-exponential": OverlappingExponential,
    "power-function": PowerFunction,
    "gumbolt": GumBolt,
}


def make_smoothing(config: ModelConfig) -> Smoothing:
    """Return the transformation that `config` names."""
    if config.smoothing in _PLAIN:
        return _PLAIN[config.smoothing]()
    make = _WITH_SHARPNESS[config.smoothing]
    return make(config.sharpness, config.sharpness_growth, config.sharpness_max)
