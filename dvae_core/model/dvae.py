"""The discrete variational autoencoder: prior, posterior, decoder, and the two quantities that they are for.

`DVAE.bound` is the evidence lower bound for training (Eq. 14); `DVAE.weight_parts` is the importance weight for
evaluation.  Both leave out log Z, which neither can know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..cards import Card, HasCard
from ..config import ModelConfig
from ..errors import ConfigError
from ..text import count
from .boltzmann import make_prior
from .hierarchy import ContinuousPosterior, ContinuousPrior, Gaussian
from .networks import MLP
from .posterior import DiscretePosterior, expected_energy
from .smoothing import DiscreteSample, make_smoothing

__all__ = ["DVAE", "Bound", "Latents", "without_smoothing"]


@dataclass(frozen=True, slots=True)
class Latents:
    """One draw of all latents given x: the RBM's units, the continuous layers and their distributions."""

    discrete: DiscreteSample
    layers: list[Tensor]
    gaussians: list[Gaussian]


@dataclass(frozen=True, slots=True)
class Bound:
    """The parts of the evidence lower bound (Eq. 14) for every image, shape (...), nats.

    `kl_rbm` is KL[q(z,ζ|x) || p(z,ζ)] less log Z: that of z, and for a smoothing that depends on x the last term
    of Eq. 22.  `kl_continuous` is one term a layer.
    """

    reconstruction: Tensor
    kl_rbm: Tensor
    kl_continuous: list[Tensor]

    def elbo(self, log_z: float) -> Tensor:
        """Return the bound in nats, given the log partition function of the prior."""
        return sum((-kl for kl in self.kl_continuous), self.reconstruction - self.kl_rbm - log_z)


class DVAE(HasCard, nn.Module):
    """A discrete variational autoencoder (Rolfe, 2017), Sections 2-4.

    Its `repr` is a card of its sizes; `print(model)` lists its modules, as torch does.

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
        """Return torch's list of modules."""
        return nn.Module.__repr__(self)

    def _card(self) -> Card:
        """Return sizes."""
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
        """How many uniform and how many normal numbers one draw of the latents takes."""
        return self.smoothing.n_uniform * self.prior.n_units, self.config.n_layers * self.config.n_continuous

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, pixel_mean: Tensor) -> None:
        """Set all weights from `generator`, and the decoder's bias to the pixels' log odds.

        Parameters
        ----------
        pixel_mean : float, shape (n_pixels,)
            Mean of every pixel over the training set, in [0, 1].
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                limit = math.sqrt(3 / module.in_features)
                module.weight.uniform_(-limit, limit, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        # The prior starts nearly independent, with enough disorder to break its symmetry.
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
            The leading axes of rho and eps may go beyond those of x: several draws for each image, for which
            the share of x in every network is computed once.
        """
        discrete = self.posterior(x, rho)
        layers, gaussians = self.continuous_posterior(x, discrete.zeta, eps)
        return Latents(discrete, layers, gaussians)

    def bound(self, x: Tensor, rho: Tensor, eps: Tensor) -> Bound:
        """Return the parts of the evidence lower bound for one draw of the latents (Eq. 14).

        Their sum is an unbiased estimate with unbiased gradients, but for log Z (see `sample_posterior`).
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
        + Σ_m [log p(𝔷_m|·) - log q(𝔷_m|·)], in this order; a shared r(ζ|z) cancels.  The mean of w is p(x)
        (Burda et al., 2016).

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


def without_smoothing(model: DVAE) -> DVAE:
    """Return a copy of a trained model with ζ = z, its limit of infinite sharpness (footnote 5), to evaluate.

    Raises
    ------
    ConfigError
        If the smoothing depends on x: ζ then carries more than z, and there is no such limit.
    """
    if model.smoothing.n_outputs > 1:
        raise ConfigError(f"--no-smoothing: {model.config.smoothing} cannot be taken away; leave the option out")
    plain = DVAE(replace(model.config, smoothing="none"), model.n_pixels).to(model.prior.W)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "smoothing." not in k})
    return plain.eval().requires_grad_(False)


def _widths(hidden: tuple[int, ...]) -> str:
    """Return the widths of hidden layers in words."""
    return f"hidden layers of {', '.join(map(str, hidden))}" if hidden else "linear"


def _last_linear(network: nn.Module) -> nn.Linear:
    """Return the output layer of an `MLP`."""
    layer = network.linears[-1]  # type: ignore[index]
    assert isinstance(layer, nn.Linear)  # for the type checker
    return layer
