"""The methods that a model needs for its likelihood to be estimated, and the sources of importance weights."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import cloudpickle
import torch
from torch import Tensor

from dvae_core.errors import ConfigError
from dvae_core.rng import torch_generator

# Draws the next n <= tile samples of an image: parts of log w + log Z, float, shape (n_parts, n), nats.
DrawWeights = Callable[[int], Tensor]


@runtime_checkable
class LatentVariableModel(Protocol):
    """A model of binary images x with latents h: p(x, h) = p̃(x, h) / Z, and an approximate posterior q(h | x).

    Z is the partition function of the Boltzmann machine in the prior; everything else is normalised.  Densities
    of continuous latents may be with respect to any measure, as long as both methods use the same: a factor that
    q and p share may be left out of both.
    """

    def sample_latents(self, x: Tensor, n_samples: int, generator: torch.Generator) -> tuple[Any, Tensor]:
        """Return draws of all latents from q(h | x), and log q(h | x) of each.

        Parameters
        ----------
        x : uint8, shape (n_pixels,)
            One image, 0 or 1.
        n_samples : int
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        latents
            In the form that `log_joint` takes.
        log_q : float, shape (n_samples,), nats
        """
        ...

    def log_joint(self, x: Tensor, latents: Any) -> Tensor:
        """Return log p̃(x, h) = log p(x, h) + log Z of every draw, shape (n_samples,), nats."""
        ...


@runtime_checkable
class GenerativeModel(LatentVariableModel, Protocol):
    """A model that can also draw images, so that its gap can be bracketed from both sides (`simulated`)."""

    def sample_joint(self, generator: torch.Generator) -> tuple[Tensor, Any]:
        """Return an image drawn from p and its latents, in the forms that the other methods take.

        Parameters
        ----------
        generator : torch.Generator
            The only source of randomness.
        """
        ...

    def log_q(self, x: Tensor, latents: Any) -> Tensor:
        """Return log q(h | x) of given latents, shape (n_samples,), nats, consistent with `sample_latents`."""
        ...


class WeightSource(Protocol):
    """A source of the importance weights of images.

    Attributes
    ----------
    parts : tuple of str
        Names of the parts of log w.
    prior_part : int
        Index of the part that contains log Z.
    tile : int
        Samples drawn at a time.  It must not depend on memory or workers, because the rounding of a matrix product
        may depend on its number of rows.
    device : torch.device
        Device of the model.
    """

    parts: ClassVar[tuple[str, ...]]
    prior_part: ClassVar[int]

    @property
    def tile(self) -> int: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def of_image(
        self, x: Tensor, index: int, seed: int, purpose: str = "images", n_earlier: int = 0
    ) -> DrawWeights:
        """Return the function that draws weights of image x, which has this index in its data set.

        Seed, purpose (see `dvae_core.rng`) and index determine the image's streams of random numbers.  Drawing
        starts after the first `n_earlier` samples, a multiple of `tile`.
        """
        ...

    def log_weight(self, x: Tensor, latents: Any) -> Tensor:
        """Return the parts of log w + log Z, shape (n_parts,), of latents that the model drew together with x."""
        ...


class ModelWeights:
    """Weights of a user's model: log p̃(x, h) and -log q(h | x)."""

    parts: ClassVar[tuple[str, ...]] = ("log_joint", "entropy")
    prior_part: ClassVar[int] = 0
    tile = 500

    def __init__(self, model: LatentVariableModel, device: str = "cpu") -> None:
        self.model, self.device = model, torch.device(device)

    def of_image(
        self, x: Tensor, index: int, seed: int, purpose: str = "images", n_earlier: int = 0
    ) -> DrawWeights:
        """Return the function that draws weights of an image; see `WeightSource`."""
        x = x.to(self.device)
        generator = torch_generator(seed, purpose, index, device=self.device)
        for _ in range(n_earlier // self.tile):
            self.model.sample_latents(x, self.tile, generator)

        def draw(n: int) -> Tensor:
            latents, log_q = self.model.sample_latents(x, n, generator)
            log_joint = self.model.log_joint(x, latents)
            _check_shape("log q of sample_latents", log_q, n)
            _check_shape("log_joint", log_joint, n)
            return torch.stack((log_joint, -log_q))

        return draw

    def log_weight(self, x: Tensor, latents: Any) -> Tensor:
        """Return the log weight of latents drawn with x, for a `GenerativeModel`; see `WeightSource`."""
        x = x.to(self.device)
        log_joint, log_q = self.model.log_joint(x, latents), self.model.log_q(x, latents)  # type: ignore[attr-defined]
        _check_shape("log_joint", log_joint, 1)
        _check_shape("log_q", log_q, 1)
        return torch.stack((log_joint, -log_q))[:, 0]


def model_digest(model: LatentVariableModel) -> str:
    """Return a SHA-256 of a model; for a torch module, of its methods, weights and plain attributes."""
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name in ("sample_latents", "log_joint", "sample_joint", "log_q"):
        digest.update(_code(getattr(getattr(model, name, None), "__code__", None)))
    if isinstance(model, torch.nn.Module):
        for name, tensor in model.state_dict().items():
            digest.update(_tensor(name, tensor))
        for path, module in model.named_modules():
            for name, value in sorted(vars(module).items()):
                digest.update(_attribute(f"{path}.{name}", value))
    else:
        digest.update(cloudpickle.dumps(model))
    return digest.hexdigest()


def _code(code: Any) -> bytes:
    """Return the instructions of a function with the constants and names that they use."""
    if not isinstance(code, types.CodeType):
        return b""
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in code.co_consts]
    return b" ".join((code.co_code, repr(code.co_names).encode(), *constants))


def _tensor(name: str, tensor: Tensor) -> bytes:
    """Return the name, shape, dtype and values of a tensor."""
    values = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f" {name} {tuple(tensor.shape)} {tensor.dtype} ".encode() + values


def _attribute(name: str, value: Any) -> bytes:
    """Return the bytes of an attribute outside a module's state: a tensor or a plain value; empty for others."""
    if isinstance(value, Tensor):
        return _tensor(name, value)
    plain = isinstance(value, bool | int | float | complex | str | tuple | list | torch.Size | torch.dtype)
    return f" {name} {value!r} ".encode() if plain and "._" not in f".{name}" else b""


def _check_shape(name: str, values: Any, n: int) -> None:
    """Raise ConfigError unless `values` is a floating-point tensor of shape (n,)."""
    found = (
        f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    )
    if not isinstance(values, Tensor) or values.shape != (n,) or not values.is_floating_point():
        raise ConfigError(f"{name}: {found} for {n} samples of an image; return floats of shape ({n},)")
