"""The discrete variational autoencoder: prior, posterior, decoder, bound and importance weights.

`DVAE.bound` is the evidence lower bound for training (Eq. 14); `DVAE.weight_parts` is the importance weight for
evaluation.  Both omit log Z, which is estimated separately.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..cards import Card, HasCard
from ..config import ModelConfig
from ..errors import ConfigError, DataError
from ..rng import torch_generator
from ..text import count
from .boltzmann import make_prior
from .hierarchy import ContinuousPosterior, ContinuousPrior, Gaussian
from .networks import MLP
from .posterior import DiscretePosterior, expected_energy
from .prior import annealed_log_z
from .prior_states import BURN_IN, draw_states
from .smoothing import DiscreteSample, make_smoothing

# Keys of the random streams "samples"; and the number of images, and of samples, that are weighted at a time.
ENCODE, GENERATE, WEIGH = 10, 11, 12
BLOCK = 100


@dataclass(frozen=True, slots=True)
class Latents:
    """One draw of all latents given x: binary units, continuous layers, and the distributions of the layers."""

    discrete: DiscreteSample
    layers: list[Tensor]
    gaussians: list[Gaussian]


@dataclass(frozen=True, slots=True)
class Codes:
    """The latents of images from `DVAE.encode`; with `n_samples`, every array has a first axis of samples.

    Attributes
    ----------
    z : shape (n, n_units), 0 or 1
        The binary units, in the order of the prior.
    zeta : float, shape (n, n_units)
        The smoothed units, the input of the decoder and of the continuous layers.
    q : float, shape (n, n_units)
        Probability that a unit is 1, given the image and the draw of all earlier groups of units.
    layers : float, shape (n, n_layers, n_continuous)
        The continuous latents.
    """

    z: Tensor
    zeta: Tensor
    q: Tensor
    layers: Tensor


@dataclass(frozen=True, slots=True)
class Bound:
    """The parts of the evidence lower bound (Eq. 14) for every image, shape (...), nats.

    `kl_rbm` is KL[q(z,ζ|x) || p(z,ζ)] - log Z: the KL term of z, plus the last term of Eq. 22 if the smoothing
    depends on x.  `kl_continuous` has one term per layer.
    """

    reconstruction: Tensor
    kl_rbm: Tensor
    kl_continuous: list[Tensor]

    def elbo(self, log_z: float) -> Tensor:
        """Return the evidence lower bound, shape (...), nats, given log Z of the prior."""
        return sum((-kl for kl in self.kl_continuous), self.reconstruction - self.kl_rbm - log_z)


class DVAE(HasCard, nn.Module):
    """A discrete variational autoencoder (Rolfe, 2017), Sections 2-4.

    Its `repr` is a card with its sizes; `print(model)` lists its modules, as for any torch module.

    Parameters
    ----------
    config : ModelConfig
        The architecture.
    n_pixels : int
        Size of x, binary.
    """

    def __init__(self, config: ModelConfig, n_pixels: int) -> None:
        super().__init__()
        self.config, self.n_pixels = config, n_pixels
        self.prior = make_prior(config)
        n_units, n_layers, n_cont = self.prior.n_units, config.n_layers, config.n_continuous
        self.smoothing = make_smoothing(config)
        self.posterior = DiscretePosterior(
            n_pixels, n_units, config.n_groups, config.encoder_hidden, self.smoothing
        )
        self.continuous_posterior = ContinuousPosterior(n_pixels, n_units, n_layers, n_cont, config.encoder_hidden)
        self.continuous_prior = ContinuousPrior(
            n_units, n_layers, n_cont, config.prior_hidden, config.n_sharing_groups
        )
        self.decoder = MLP((self.continuous_prior.n_context,), config.decoder_hidden, n_pixels)
        self.register_buffer("groups", self.posterior.groups, persistent=False)

    groups: Tensor

    def __str__(self) -> str:
        """Return the list of modules, as torch prints it."""
        return nn.Module.__repr__(self)

    def _card(self) -> Card:
        """Return a card with the sizes."""
        config, prior = self.config, self.prior
        is_rbm = config.prior == "rbm"
        title = f"discrete VAE, {config.prior} prior of {prior.n_units} units" + (
            f" ({config.n_left} + {config.n_right})" if is_rbm else ""
        )
        layers = f"{config.n_layers} of {config.n_continuous} latents" if config.n_layers else "none"
        n_weights = sum(parameter.numel() for parameter in self.parameters())
        rows = (
            ("pixels", count(self.n_pixels)),
            ("posterior", f"{config.n_groups} groups, {_widths(config.encoder_hidden)}"),
            ("smoothing", config.smoothing),
            ("layers", f"{layers} (continuous), {_widths(config.prior_hidden)}"),
            ("decoder", _widths(config.decoder_hidden)),
            ("weights", f"{count(n_weights)}, {prior.W.dtype} on {prior.W.device}".replace("torch.", "")),
        )
        return Card(type(self).__name__, title, rows)

    @property
    def n_noise(self) -> tuple[int, int]:
        """Number of uniform and of normal random numbers per draw of the latents."""
        return self.smoothing.n_uniform * self.prior.n_units, self.config.n_layers * self.config.n_continuous

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, pixel_mean: Tensor) -> None:
        """Draw all weights from `generator`, and set the decoder's bias to the log odds of the pixels.

        Parameters
        ----------
        pixel_mean : float, shape (n_pixels,)
            Mean of each pixel over the training set, in [0, 1].
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                limit = math.sqrt(3 / module.in_features)
                module.weight.uniform_(-limit, limit, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        # The prior starts with nearly independent units; small random couplings break the symmetry.
        self.prior.W.normal_(0, 0.01, generator=generator)
        for network in (*self.continuous_posterior.networks, *self.continuous_prior.networks):
            _last_linear(network).weight.mul_(0.1)
        for network, n_logits in zip(self.posterior.networks, self.posterior.sizes, strict=True):
            _last_linear(network).weight[n_logits:].mul_(0.1)
        _last_linear(self.decoder).bias.copy_(torch.logit(pixel_mean.clamp(0.01, 0.99)))

    def sample_posterior(self, x: Tensor, rho: Tensor, eps: Tensor) -> Latents:
        """Draw the latents of x from q(z, ζ, 𝔷 | x).

        Parameters
        ----------
        x : float, shape (..., n_pixels), 0 or 1
        rho : float, shape (..., n_noise[0]), uniform on [0, 1)
        eps : float, shape (..., n_noise[1]), standard normal
            rho and eps may have additional leading axes: several draws per image, for which the first layer's
            product with x is computed once.
        """
        discrete = self.posterior(x, rho)
        layers, gaussians = self.continuous_posterior(x, discrete.zeta, eps)
        return Latents(discrete, layers, gaussians)

    def bound(self, x: Tensor, rho: Tensor, eps: Tensor) -> Bound:
        """Return the parts of the evidence lower bound for one draw of the latents (Eq. 14).

        Their sum is an unbiased estimate of the bound + log Z, with unbiased gradients.  The arguments are those
        of `sample_posterior`.
        """
        latents = self.sample_posterior(x, rho, eps)
        energy = expected_energy(self.prior, latents.discrete, self.groups)
        priors = self.continuous_prior(latents.discrete.zeta, latents.layers)
        return Bound(
            reconstruction=self.log_p_x(x, latents.discrete.zeta, latents.layers),
            kl_rbm=latents.discrete.negative_entropy + latents.discrete.smoothing_kl + energy,
            kl_continuous=[q.kl(p) for q, p in zip(latents.gaussians, priors, strict=True)],
        )

    def weight_parts(self, x: Tensor, rho: Tensor, eps: Tensor) -> Tensor:
        """Return the log importance weight of one draw of the latents, in three parts.

        log w + log Z = log p(x|ζ,𝔷) + [-E(z) - log q(z|x) + log p(ζ|z) - log q(ζ|z,x)]
        + Σ_m [log p(𝔷_m|·) - log q(𝔷_m|·)], in this order; an r(ζ|z) that posterior and prior share cancels.  The
        mean of w is p(x) (Burda et al., 2016).  The arguments are those of `sample_posterior`.

        Returns
        -------
        float, shape (3, ...), nats
        """
        latents = self.sample_posterior(x, rho, eps)
        discrete, layers = latents.discrete, latents.layers
        zeta = discrete.zeta
        rbm = -self.prior.energy(discrete.z) - discrete.log_q + discrete.log_ratio.sum(-1)
        continuous = torch.zeros_like(rbm)
        for q, p, layer in zip(latents.gaussians, self.continuous_prior(zeta, layers), layers, strict=True):
            continuous = continuous + p.log_prob(layer) - q.log_prob(layer)
        return torch.stack((self.log_p_x(x, zeta, layers), rbm, continuous))

    def log_p_x(self, x: Tensor, zeta: Tensor, layers: list[Tensor]) -> Tensor:
        """Return log p(x | ζ, 𝔷), shape (...), nats."""
        logits = self.decode(zeta, layers)
        return -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)

    def decode(self, zeta: Tensor, layers: list[Tensor]) -> Tensor:
        """Return the logits of the pixels, shape (..., n_pixels)."""
        logits: Tensor = self.decoder(self.continuous_prior.context(zeta, layers))
        return logits

    # --- uses of a trained model ----------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, x: Any, *, n_samples: int | None = None, seed: int = 0) -> Codes:
        """Draw the latents of images from the posterior q(z, ζ, 𝔷 | x).

        Parameters
        ----------
        x : array or tensor, shape (n, n_pixels) or (n, height, width), 0 or 1
        n_samples : int, optional
            Draws per image, the first axis of every result.  By default one draw, without that axis.
        seed : int
            Fixes the draws.

        Raises
        ------
        DataError
            If `x` does not hold binary images of the model's size.
        ConfigError
            If `n_samples` is below 1.

        Examples
        --------
        >>> from dvae_core import DVAE, ModelConfig
        >>> model = DVAE(ModelConfig(), n_pixels=64)
        >>> codes = model.encode(torch.zeros(5, 8, 8))
        >>> codes.z.shape, codes.layers.shape
        (torch.Size([5, 64]), torch.Size([5, 2, 16]))
        """
        images = self._images(x)
        _at_least_one(n_samples=1 if n_samples is None else n_samples)
        sizes = [*([] if n_samples is None else [n_samples]), len(images)]
        with _evaluating(self):
            latents = self.sample_posterior(images, *self._noise(sizes, seed, ENCODE))
        found = latents.discrete
        empty = found.zeta.new_empty((*sizes, 0, self.config.n_continuous))
        layers = torch.stack(latents.layers, -2) if latents.layers else empty
        return Codes(found.z, found.zeta, found.logits.sigmoid(), layers)

    @torch.no_grad()
    def generate(self, n: int, *, binary: bool = False, n_sweeps: int = BURN_IN, seed: int = 0) -> Tensor:
        """Draw images from the model: units z from the prior, then ζ, the continuous layers and the pixels.

        The units are independent draws if the smaller side of the prior has at most 16 units.  Otherwise each
        image has its own chain, which starts at random.  If the chains of a prior mix slowly, use `dvae-eval
        samples`, which reports a verdict on the states.

        Parameters
        ----------
        n : int
        binary : bool
            Return pixels drawn as 0 or 1 instead of the probability that each is 1.
        n_sweeps : int
            Block Gibbs sweeps of the chains.
        seed : int
            Fixes the images.

        Returns
        -------
        float, shape (n, n_pixels)
            On the model's device.

        Raises
        ------
        ConfigError
            If `n` or `n_sweeps` is below 1.

        Examples
        --------
        >>> from dvae_core import DVAE, ModelConfig
        >>> DVAE(ModelConfig(), n_pixels=64).generate(3).reshape(-1, 8, 8).shape
        torch.Size([3, 8, 8])
        """
        _at_least_one(n=n, n_sweeps=n_sweeps)
        generator = torch_generator(seed, "samples", GENERATE, device=self.groups.device)
        z, _ = draw_states(self.prior, n, generator, n_sweeps)
        rho = z.new_empty(n, self.prior.n_units).uniform_(generator=generator)
        eps = z.new_empty(n, self.n_noise[1]).normal_(generator=generator)
        with _evaluating(self):
            zeta = self.smoothing.sample(z, rho)
            p = self.decode(zeta, self.continuous_prior.sample(zeta, eps)).sigmoid()
        return torch.bernoulli(p, generator=generator) if binary else p

    @torch.no_grad()
    def log_likelihood(self, x: Any, log_z: Any = None, *, n_samples: int = 1000, seed: int = 0) -> Tensor:
        """Return the importance-weighted bound log (1/K) Σ_k w_k on log p(x) of every image, nats.

        The bound is too low in expectation, and an error of log Z shifts it; `dvae_eval.estimate_log_likelihood`
        also estimates both errors and reports a verdict.

        Parameters
        ----------
        x : array or tensor, shape (n, n_pixels) or (n, height, width), 0 or 1
        log_z : float or LogZResult, optional
            log Z of the prior, nats, as `dvae_eval.estimate_log_z` returns it.  By default a short annealing run
            estimates it, with a warning: such an estimate is coarse and too low on average.
        n_samples : int
            K, samples per image.
        seed : int
            Fixes the samples.

        Returns
        -------
        float64, shape (n,)

        Raises
        ------
        DataError
            If `x` does not hold binary images of the model's size.
        ConfigError
            If `n_samples` is below 1.

        Examples
        --------
        >>> from dvae_core import DVAE, ModelConfig
        >>> from dvae_eval import estimate_log_z
        >>> model = DVAE(ModelConfig(n_left=8, n_right=8), n_pixels=64)
        >>> prior = model.prior
        >>> log_z = estimate_log_z((prior.W, prior.b_left, prior.b_right))
        >>> model.log_likelihood(torch.zeros(5, 64), log_z).shape
        torch.Size([5])
        """
        images = self._images(x)
        _at_least_one(n_samples=n_samples)
        value = self._log_z(seed) if log_z is None else float(getattr(log_z, "log_z", log_z))
        with _evaluating(self):
            parts = [
                self._log_mean_weight(images[start : start + BLOCK], n_samples, seed, start)
                for start in range(0, len(images), BLOCK)
            ]
        return torch.cat([*parts, images.new_empty(0, dtype=torch.float64)]) - value

    def _log_mean_weight(self, x: Tensor, n_samples: int, seed: int, first: int) -> Tensor:
        """Return log (1/K) Σ_k w_k + log Z of some images, float64."""
        total = x.new_full((len(x),), -math.inf, dtype=torch.float64)
        for tile, start in enumerate(range(0, n_samples, BLOCK)):
            n = min(BLOCK, n_samples - start)
            log_w = self.weight_parts(x, *self._noise([n, len(x)], seed, WEIGH, first, tile)).sum(0).double()
            total = torch.logaddexp(total, log_w.logsumexp(0))
        return total - math.log(n_samples)

    def _log_z(self, seed: int) -> float:
        """Return a coarse estimate of log Z, with a warning."""
        warnings.warn(
            "log_z: estimated by a short annealing run, too low on average; pass that of dvae_eval.estimate_log_z",
            stacklevel=4,
        )
        return annealed_log_z(self.prior, torch_generator(seed, "samples", WEIGH, device=self.groups.device))

    def _images(self, x: Any) -> Tensor:
        """Return images in the model's dtype, shape (n, n_pixels); DataError for other values or sizes."""
        given = torch.as_tensor(x)
        if given.ndim not in (2, 3) or math.prod(given.shape[1:]) != self.n_pixels:
            raise DataError(
                f"x has shape {tuple(given.shape)}; give (n, {self.n_pixels}), "
                f"or (n, height, width) with {self.n_pixels} pixels"
            )
        if not ((given == 0) | (given == 1)).all():
            raise DataError("x has values other than 0 and 1; binarise the images first")
        return given.reshape(len(given), self.n_pixels).to(self.prior.W)

    def _noise(self, sizes: list[int], seed: int, *key: int) -> tuple[Tensor, Tensor]:
        """Return (ρ, ε), shape (*sizes, .), for draws of the posterior."""
        W, (n_uniform, n_normal) = self.prior.W, self.n_noise
        generator = torch_generator(seed, "samples", *key, device=W.device)
        rho = W.new_empty(*sizes, n_uniform).uniform_(generator=generator)
        return rho, W.new_empty(*sizes, n_normal).normal_(generator=generator)


def _at_least_one(**counts: int) -> None:
    """Raise ConfigError for the first argument that is below 1."""
    for name, n in counts.items():
        if n < 1:
            raise ConfigError(f"{name}: {n} is not allowed; give at least 1")


@contextmanager
def _evaluating(model: DVAE) -> Iterator[None]:
    """Put a model into evaluation mode within the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def without_smoothing(model: DVAE) -> DVAE:
    """Return a copy of a trained model with ζ = z, its limit of infinite sharpness (footnote 5), to evaluate.

    Raises
    ------
    ConfigError
        If the smoothing depends on x: ζ then carries more information than z, and the limit does not exist.
    """
    if model.smoothing.n_outputs > 1:
        raise ConfigError(f"--no-smoothing: {model.config.smoothing} cannot be removed; omit the option")
    plain = DVAE(replace(model.config, smoothing="none"), model.n_pixels).to(model.prior.W)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "smoothing." not in k})
    return plain.eval().requires_grad_(False)


def _widths(hidden: tuple[int, ...]) -> str:
    """Return the widths of hidden layers as text."""
    return f"hidden layers of {', '.join(map(str, hidden))}" if hidden else "linear"


def _last_linear(network: nn.Module) -> nn.Linear:
    """Return the output layer of an `MLP`."""
    layer = network.linears[-1]  # type: ignore[index]
    assert isinstance(layer, nn.Linear)  # for the type checker
    return layer
