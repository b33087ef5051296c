"""A trained model arranged for importance weighting: one image, many samples, no batch norms.

In evaluation mode a batch norm is affine, so that it is multiplied into the linear map before it.  The
contribution of x to the first layer of a network is a bias, computed once per image.  The signs 2 x_i - 1 are
multiplied into the decoder's last layer, because

    log p(x|·) = Σ_i log σ((2 x_i - 1) logit_i).

The work per sample is then little more than the matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvae_core.model.closed_form import product
from dvae_core.model.dvae import DVAE
from dvae_core.model.hierarchy import LOG_STD_LIMIT
from dvae_core.model.networks import MLP, L1BatchNorm
from dvae_core.model.smoothing import DiscreteSample
from dvae_core.model.smoothing.base import LOGIT_LIMIT
from dvae_core.rng import swift_generator

from .protocol import DrawWeights

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
# A product of this number of factors from [1/2, 1) stays above the smallest float32.
FACTORS = 112


class FoldedMLP:
    """Linear maps with ReLU between them: an `MLP` in evaluation mode, its batch norms multiplied in.

    Parameters
    ----------
    layers : sequence of (weight, bias)
        Of shapes (n_in, n_out) and (n_out,).
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = list(layers)

    @classmethod
    def of(cls, mlp: MLP, use: int = 0) -> FoldedMLP:
        """Return the folded form of `mlp` in float64; `use` selects the batch statistics of a shared network."""
        norms = [*mlp.norms, mlp.output_norm]
        return cls([_fold(linear, norm, use) for linear, norm in zip(mlp.linears, norms, strict=True)])

    def to(self, device: torch.device, dtype: torch.dtype, products: torch.dtype) -> FoldedMLP:
        """Return the network on a device: biases and sums in `dtype`, matrix products in the dtype `products`."""
        return FoldedMLP([(weight.to(device, products), bias.to(device, dtype)) for weight, bias in self.layers])

    def given(self, x: Tensor) -> FoldedMLP:
        """Return the network of the remaining inputs, with the first ones fixed to x, shape (n,)."""
        (weight, bias), *others = self.layers
        n = x.shape[0]
        share = torch.addmv(bias, weight[:n].T.to(bias.dtype), x)
        return FoldedMLP([(weight[n:], share), *others])

    def signed_blocks(self, signs: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
        """Return the last layer in blocks of at most `size` outputs, multiplied by their signs, shape (n_out,)."""
        weight, bias = self.layers[-1]
        # Contiguous, since oneDNN is slow with rows that are further apart than their length.
        return [
            ((weight[:, block] * signs[block]).contiguous(), bias[block] * signs[block])
            for block in (slice(start, start + size) for start in range(0, len(bias), size))
        ]

    def hidden(self, h: Tensor) -> Tensor:
        """Return the last hidden layer (n, n_hidden) for inputs (n, n_in); the inputs if there is none."""
        for weight, bias in self.layers[:-1]:
            h = _affine(h, weight, bias, relu=True)
        return h

    def __call__(self, h: Tensor) -> Tensor:
        """Return the output (n, n_out) for inputs (n, n_in)."""
        return _affine(self.hidden(h), *self.layers[-1])


def _affine(h: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Return h W + b, or its positive part: the product in the weight's dtype, the sum in the bias's dtype."""
    if weight.dtype is bias.dtype:
        return product(h, weight.T, bias, relu)
    result = torch.mm(h.to(weight.dtype), weight) + bias
    return result.relu_() if relu else result


def _fold(linear: torch.nn.Module, norm: torch.nn.Module, use: int) -> tuple[Tensor, Tensor]:
    """Return the linear map (n_in, n_out) and bias of a layer together with the norm after it, float64."""
    assert isinstance(linear, torch.nn.Linear)  # for the type checker
    weight, bias = linear.weight.detach().double().T, linear.bias.detach().double()
    if isinstance(norm, L1BatchNorm):
        scale, shift = (t.detach().double() for t in norm.affine(use))
        # Outputs that are not normalised stay unchanged.
        scale = torch.cat((scale, scale.new_ones(len(bias) - len(scale))))
        shift = torch.cat((shift, shift.new_zeros(len(bias) - len(shift))))
        weight, bias = weight * scale, bias * scale + shift
    return weight.contiguous(), bias


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws of all latents of one image, with the two parts of log q; n is the number of draws.

    Attributes
    ----------
    z : shape (n, n_units)
        The binary units, 0 or 1.
    latents : shape (n, n_units + n_layers * n_continuous)
        ζ and the continuous layers.
    log_q_discrete, log_q_layers : shape (n,), nats
        log q(z,ζ|x) - log p(ζ|z), the density with respect to the prior's r(ζ|z), and log q(𝔷|ζ,x).
    """

    z: Tensor
    latents: Tensor
    log_q_discrete: Tensor
    log_q_layers: Tensor


class FoldedDVAE:
    """A discrete VAE folded for evaluation: a `WeightSource`.

    Parameters
    ----------
    model : DVAE
        In evaluation mode.
    precision : {"float32", "float64", "tf32", "bf16"}
        Dtype of the networks; tf32 and bf16 apply to matrix products only, and everything else is float32.
    """

    parts: ClassVar[tuple[str, ...]] = ("reconstruction", "kl_rbm", "kl_continuous")
    prior_part: ClassVar[int] = 1

    def __init__(self, model: DVAE, precision: str = "float32") -> None:
        self.precision, self.device = precision, model.groups.device
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        config, prior = model.config, model.continuous_prior
        self.n_units, self.n_layers, self.n_continuous = model.prior.n_units, config.n_layers, config.n_continuous
        self.n_noise, self.sizes, self.smoothing = model.n_noise, model.posterior.sizes, model.smoothing
        self.couplings, self.biases = (self._mine(t) for t in (model.prior.couplings(), model.prior.biases()))
        self.encoders = [self._folded(network) for network in model.posterior.networks]
        self.layer_encoders = [self._folded(network) for network in model.continuous_posterior.networks]
        self.layer_priors = [self._folded(prior.networks[g], use) for g, use in prior.uses]
        self.maps = [self._mine(weight.T) for weight in prior.maps.parameters()]
        self.map_of = [g for g, _ in prior.uses]
        self.decoder = self._folded(model.decoder)

    def _mine(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self.device, self.dtype).contiguous()

    def _folded(self, mlp: torch.nn.Module, use: int = 0) -> FoldedMLP:
        assert isinstance(mlp, MLP)  # for the type checker
        products = torch.bfloat16 if self.precision == "bf16" else self.dtype
        return FoldedMLP.of(mlp, use).to(self.device, self.dtype, products)

    @property
    def tile(self) -> int:
        """Samples drawn at a time; on a CPU few enough to fit into its cache."""
        return 1000 if self.device.type == "cpu" else 10_000

    def image(self, x: Tensor) -> FoldedImage:
        """Return the model given an image x, shape (n_pixels,), 0 or 1."""
        return FoldedImage(self, x.to(self.device, self.dtype))

    def of_image(
        self, x: Tensor, index: int, seed: int, purpose: str = "images", n_earlier: int = 0
    ) -> DrawWeights:
        """Return the function that draws at most `tile` weights of an image at a time; see `WeightSource`."""
        image = self.image(x)
        uniform, normal = (swift_generator(seed, purpose, index, kind) for kind in (0, 1))
        rho, eps = (np.empty((self.tile, size), np.float32) for size in self.n_noise)

        def make_noise(n: int) -> None:
            uniform.random(out=rho[:n], dtype=np.float32)
            normal.standard_normal(out=eps[:n], dtype=np.float32)

        for _ in range(n_earlier // self.tile):
            make_noise(self.tile)

        def draw(n: int) -> Tensor:
            make_noise(n)
            noise = (torch.from_numpy(a[:n]).to(self.device, self.dtype) for a in (rho, eps))
            with _tf32(self.precision == "tf32"):
                return image.weight_parts(*noise)

        return draw

    def log_weight(self, x: Tensor, latents: Any) -> Tensor:
        """Return the parts of log w + log Z of given latents (z; ζ and the layers); see `WeightSource`."""
        z, others = (part[None].to(self.device, self.dtype) for part in latents)
        image = self.image(x)
        with _tf32(self.precision == "tf32"):
            return image.log_weight_parts(image.given(z, others))[:, 0]

    def noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return uniform ρ (n, n_noise[0]) and normal ε (n, n_noise[1]) from a generator on the model's device."""
        rho, eps = (torch.empty(n, size, device=self.device, dtype=self.dtype) for size in self.n_noise)
        return rho.uniform_(generator=generator), eps.normal_(generator=generator)

    def context(self, latents: Tensor, m: int) -> Tensor:
        """Return the input of layer m's prior, ζ and the layers before it; for m = n_layers, the decoder's."""
        stop = self.n_units + m * self.n_continuous
        if not self.maps:
            return latents[:, :stop]
        zeta, layers = latents[:, : self.n_units], latents[:, self.n_units : stop]
        M = self.maps[self.map_of[min(m, self.n_layers - 1)]]
        return torch.addmm(layers.reshape(len(layers), m, self.n_continuous).sum(1), zeta, M) if m else zeta @ M


class FoldedImage:
    """A folded model given one image: it draws latents from q, and returns log p and log q of latents.

    Parameters
    ----------
    model : FoldedDVAE
    x : shape (n_pixels,)
    """

    def __init__(self, model: FoldedDVAE, x: Tensor) -> None:
        self.model = model
        # The first group depends on x alone, so that its output is the same for all samples.
        first, *self.encoders = (network.given(x) for network in model.encoders)
        self.first_output = first(x.new_empty(1, 0))
        self.layer_encoders = [network.given(x) for network in model.layer_encoders]
        self.pixel_blocks = model.decoder.signed_blocks(2 * x - 1, FACTORS)

    def sample(self, rho: Tensor, eps: Tensor) -> Draws:
        """Return draws of all latents from q for noise ρ (n, n_noise[0]) and ε (n, n_noise[1])."""
        model, n = self.model, rho.shape[0]
        latents = rho.new_empty(n, model.n_units + eps.shape[1])
        z, logits = rho.new_empty(n, model.n_units), rho.new_empty(n, model.n_units)
        log_q = rho.new_zeros(n)
        start, output = 0, self.first_output
        noises = torch.split(rho, [model.smoothing.n_uniform * size for size in model.sizes], dim=-1)
        for j, (size, noise) in enumerate(zip(model.sizes, noises, strict=True)):
            if j:
                output = self.encoders[j - 1](latents[:, :start])
            drawn: DiscreteSample = model.smoothing(output, noise)
            stop = start + size
            latents[:, start:stop], z[:, start:stop], logits[:, start:stop] = drawn.zeta, drawn.z, drawn.logits
            if model.smoothing.n_outputs > 1:
                log_q -= drawn.log_ratio.sum(-1)
            start = stop
        # log q(z) = Σ_j log σ(± logit_j); logits are bounded, so that no factor underflows.
        log_q += logits.mul_(2 * z - 1).sigmoid_().log_().sum(-1)
        return Draws(z, latents, log_q, self._sample_layers(latents, eps))

    def _sample_layers(self, latents: Tensor, eps: Tensor) -> Tensor:
        """Draw the continuous layers into `latents`, and return their log q, shape (n,)."""
        log_q = eps.square().sum(-1).mul_(-0.5).sub_(HALF_LOG_2_PI * eps.shape[1])
        start = self.model.n_units
        for network, noise in zip(
            self.layer_encoders, torch.split(eps, self.model.n_continuous, dim=-1), strict=False
        ):
            mean, log_std = _gaussian(network(latents[:, :start]))
            stop = start + noise.shape[1]
            torch.addcmul(mean, log_std.exp(), noise, out=latents[:, start:stop])
            log_q -= log_std.sum(-1)
            start = stop
        return log_q

    def given(self, z: Tensor, latents: Tensor) -> Draws:
        """Return given latents together with their log q.

        Parameters
        ----------
        z, latents : shape (n, n_units), (n, n_units + n_layers * n_continuous)
            As in `Draws`.
        """
        log_q_discrete, log_q_layers = torch.zeros_like(z[:, 0]), torch.zeros_like(z[:, 0])
        start, output = 0, self.first_output
        for j, size in enumerate(self.model.sizes):
            units = slice(start, start + size)
            if j:
                output = self.encoders[j - 1](latents[:, :start])
            logits = output[:, :size].clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            log_q_discrete += logsigmoid((2 * z[:, units] - 1) * logits).sum(-1)
            ratio = self.model.smoothing.log_density_ratio(output, z[:, units], latents[:, units])
            log_q_discrete -= ratio.sum(-1)
            start += size
        for network in self.layer_encoders:
            mean, log_std = _gaussian(network(latents[:, :start]))
            layer = latents[:, start : start + mean.shape[1]]
            log_q_layers += _log_normal(layer, mean, log_std)
            start += mean.shape[1]
        log_q_layers -= HALF_LOG_2_PI * (latents.shape[1] - self.model.n_units)
        return Draws(z, latents, log_q_discrete, log_q_layers)

    def log_joint_parts(self, draws: Draws) -> Tensor:
        """Return log p(x|ζ,𝔷), -E(z) and log p(𝔷|ζ) of every draw, shape (3, n), nats."""
        model, z, latents = self.model, draws.z, draws.latents
        log_p_z = torch.addmv((z @ model.couplings).mul_(z).sum(-1), z, model.biases)
        log_p_layers = torch.zeros_like(log_p_z)
        for m, network in enumerate(model.layer_priors):
            mean, log_std = _gaussian(network(model.context(latents, m)))
            start = model.n_units + m * model.n_continuous
            log_p_layers += _log_normal(latents[:, start : start + model.n_continuous], mean, log_std)
        log_p_layers -= HALF_LOG_2_PI * (latents.shape[1] - model.n_units)
        return torch.stack((self.log_p_x(model.context(latents, model.n_layers)), log_p_z, log_p_layers))

    def log_p_x(self, context: Tensor) -> Tensor:
        """Return log p(x|ζ,𝔷) = Σ_i log σ((2 x_i - 1) logit_i), shape (n,), computed in blocks that fit the cache.

        log σ(t) = min(t, 0) + log σ(|t|), and σ(|t|) lies in [1/2, 1), so that one logarithm serves a whole block.
        """
        h = self.model.decoder.hidden(context)
        total = torch.zeros_like(h[:, 0])
        for block in self.pixel_blocks:
            t = _affine(h, *block)
            total += t.clamp(max=0).sum(-1)
            total += t.abs_().sigmoid_().prod(-1).log_()
        return total

    def weight_parts(self, rho: Tensor, eps: Tensor) -> Tensor:
        """Return log w + log Z in the three parts of `DVAE.weight_parts`, shape (3, n)."""
        return self.log_weight_parts(self.sample(rho, eps))

    def log_weight_parts(self, draws: Draws) -> Tensor:
        """Return log w + log Z of any draws in the same three parts, shape (3, n)."""
        parts = self.log_joint_parts(draws)
        parts[1] -= draws.log_q_discrete
        parts[2] -= draws.log_q_layers
        return parts


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid tf32 for CUDA's float32 matrix products within the block."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _log_normal(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return log N(value; mean, std²) summed over the last axis, without its constant, shape (n,)."""
    standardised = (value - mean).mul_((-log_std).exp_())
    return -torch.add(log_std, standardised.square_(), alpha=0.5).sum(-1)


def _gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the bounded log standard deviation in a network's output (n, 2 n_continuous)."""
    mean, log_std = output.chunk(2, dim=-1)
    return mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
