"""The test models by name: small DVAEs, how their log p(x) is known, and why each is hard."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import ConfigError
from dvae_core.types import Float

if TYPE_CHECKING:
    from dvae_core.model.dvae import DVAE

N_PIXELS, N_IMAGES = 6, 20


@dataclass(frozen=True, slots=True)
class TestModel:
    """A discrete VAE whose log-likelihood of some images is known without an estimate.

    Attributes
    ----------
    name : str
    model : DVAE
        In evaluation mode and float32.
    images : uint8, shape (n_images, n_pixels)
        0 or 1.
    log_p_x : float64, shape (n_images,)
        Exact up to rounding and the error of quadrature (1e-6), nats.
    log_z : float
        Exact log Z of the model's prior, nats.
    how : str
        How log p(x) is known.
    why_hard : str
        The difficulty for an estimator.
    """

    __test__: ClassVar[bool] = False  # not a test, in spite of the name that pytest looks for

    name: str
    model: DVAE
    images: NDArray[np.uint8] = field(repr=False)
    log_p_x: Float = field(repr=False)
    log_z: float
    how: str
    why_hard: str = field(repr=False)


class _Entry(NamedTuple):
    make: Callable[[int], DVAE]
    how: str
    why_hard: str


ENUMERATED = "sum over all states of the binary units"
QUADRATURE = "sum over all states of the binary units, Gaussian quadrature over ζ and the continuous variables"


def model_names() -> list[str]:
    """Return the names of all test models."""
    return list(MODELS)


def make_model(name: str, seed: int = 0) -> TestModel:
    """Return the test model with a name.

    Parameters
    ----------
    name : str
        One of `model_names()`.
    seed : int
        Another seed draws another model of the same kind, and other images.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"test model {name!r} is not known; give one of {', '.join(MODELS)}")
    import torch

    from .quadrature import exact_log_p, exact_log_z

    entry = MODELS[name]
    model = entry.make(seed).float()
    chosen = np.random.default_rng(seed).choice(1 << N_PIXELS, N_IMAGES, replace=False)
    images = (chosen[:, None] >> np.arange(N_PIXELS) & 1).astype(np.uint8)
    # The exact value is for the weights as rounded to float32.
    double = copy.deepcopy(model).double()
    log_p_x = exact_log_p(double, torch.from_numpy(images).double()).numpy()
    return TestModel(name, model, images, log_p_x, exact_log_z(double), entry.how, entry.why_hard)


# Every model adds its own number to the seed, so that models of different names are independent.


def _discrete(seed: int) -> DVAE:
    from .dvaes import random_model

    return random_model(4, 4, 2, n_pixels=N_PIXELS, seed=seed, scale=0.3, smoothing="none")


def _exponential(seed: int) -> DVAE:
    from .dvaes import random_model

    return random_model(2, 2, 2, n_pixels=N_PIXELS, seed=seed + 1, scale=0.4)


def _ramps(seed: int) -> DVAE:
    from .dvaes import random_model

    return random_model(1, 2, 3, n_pixels=N_PIXELS, seed=seed + 2, scale=0.5, smoothing="mixture-of-ramps")


def _two_layers(seed: int) -> DVAE:
    from .dvaes import moderate, random_model

    return moderate(random_model(1, 1, 2, 2, N_PIXELS, seed + 3, 0.5))


def _gaussian_layer(seed: int) -> DVAE:
    from .dvaes import moderate, random_model

    return moderate(random_model(1, 1, 2, 1, N_PIXELS, seed + 4, 0.5, smoothing="spike-and-gaussian"))


def _contrary(seed: int) -> DVAE:
    from .dvaes import contrary, random_model

    return contrary(random_model(3, 3, 2, n_pixels=N_PIXELS, seed=seed + 5, smoothing="none"))


def _wide_layers(seed: int) -> DVAE:
    from .dvaes import moderate, random_model, wide

    return wide(moderate(random_model(1, 1, 2, 2, N_PIXELS, seed + 6, 0.5)))


def _missing(seed: int) -> DVAE:
    from .dvaes import missing, random_model

    return missing(random_model(3, 3, 2, n_pixels=N_PIXELS, seed=seed + 7, scale=0.3, smoothing="none"))


MODELS: dict[str, _Entry] = {
    "discrete-8": _Entry(_discrete, ENUMERATED, "easy: only binary units, and a posterior of two groups"),
    "exponential-4": _Entry(
        _exponential, QUADRATURE, "smoothed units, on which later groups of the posterior depend"
    ),
    "ramps-3": _Entry(_ramps, QUADRATURE, "a smoothing in which ζ does not determine z"),
    "layers-2": _Entry(_two_layers, QUADRATURE, "two continuous layers on top of binary units"),
    "gaussian-layer-2": _Entry(_gaussian_layer, QUADRATURE, "a smoothing that depends on the image"),
    "contrary-6": _Entry(
        _contrary, ENUMERATED, "a posterior that fits badly: it prefers states that are unlikely under p"
    ),
    "wide-layers-2": _Entry(
        _wide_layers, QUADRATURE, "a posterior that fits badly: its continuous layers are far too wide"
    ),
    "missed-half-6": _Entry(
        _missing, ENUMERATED, "a posterior that misses about half of p(z|x), which its samples may not show"
    ),
}
