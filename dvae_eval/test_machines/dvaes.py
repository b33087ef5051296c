"""Small DVAEs with random weights, and changes that make them hard for estimators of log p(x)."""

from __future__ import annotations

from typing import Any

import torch

from dvae_core.config import ModelConfig
from dvae_core.model.dvae import DVAE
from dvae_core.model.smoothing.base import TrainableSharpness


def random_model(
    n_left: int = 2,
    n_right: int = 2,
    n_groups: int = 2,
    n_layers: int = 0,
    n_pixels: int = 3,
    seed: int = 0,
    scale: float = 1.0,
    **settings: Any,
) -> DVAE:
    """Return a small model with networks smooth enough for quadrature, in evaluation mode and float64.

    `settings` are passed to the configuration.  Couplings, posterior weights and biases are large, so that an
    error in the code has a visible effect.
    """
    config = ModelConfig(
        n_left=n_left,
        n_right=n_right,
        n_groups=n_groups,
        n_layers=n_layers,
        n_continuous=1,
        encoder_hidden=(),
        prior_hidden=(),
        decoder_hidden=(),
        **settings,
    )
    model = DVAE(config, n_pixels).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "smoothing" in name:
                continue
            size = 0.4 if "continuous" in name else scale
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for layer in _last_layers(model.continuous_posterior.networks, model.continuous_prior.networks):
            # Standard deviations vary, but never reach the limits of the model.
            layer.weight[1:] *= 0.3
        for layer in _last_layers(model.continuous_posterior.networks):
            # Wider than the prior, so that the importance weights vary.
            layer.bias[1:] += 0.6
        if config.smoothing == "spike-and-gaussian":
            _tame_gaussians(model)
        if isinstance(model.smoothing, TrainableSharpness):
            # Quadrature is then accurate for ζ^(1/s).
            model.smoothing.set_sharpness(2.0)
    return model


def _last_layers(*networks: Any) -> list[Any]:
    """Return the last linear map of every network."""
    return [network.linears[-1] for part in networks for network in part]


def _tame_gaussians(model: DVAE) -> None:
    """Give the Gaussians of ζ moderate means, and a larger standard deviation than the prior's.

    Since ζ can lie outside [0, 1], its effect on later groups is reduced, so that logits do not reach their
    limits.
    """
    for layer, size in zip(_last_layers(model.posterior.networks), model.posterior.sizes, strict=True):
        layer.weight[size:] *= 0.3
        layer.weight[:, model.n_pixels :] *= 0.3
        layer.bias[size : 2 * size] = 0.5
        layer.weight[2 * size :] *= 0.3
        layer.bias[2 * size :] = 0.15


def moderate(model: DVAE) -> DVAE:
    """Return the model with prior standard deviations near 1; with others, quadrature has errors of 1e-3."""
    with torch.no_grad():
        for layer in _last_layers(model.continuous_prior.networks):
            layer.bias[1:] = 0.0
            layer.weight[1:] *= 0.2
    return model


# --- changes that make a model hard -----------------------------------------------------------------------------


def contrary(model: DVAE) -> DVAE:
    """Return the model with the logits of its posterior over z negated."""
    with torch.no_grad():
        for layer in _last_layers(model.posterior.networks):
            layer.weight *= -1
            layer.bias *= -1
    return model


def wide(model: DVAE, log_factor: float = 1.5) -> DVAE:
    """Return the model with a wider posterior over continuous variables: log standard deviation + `log_factor`."""
    with torch.no_grad():
        for layer in _last_layers(model.continuous_posterior.networks):
            layer.bias[1:] += log_factor
    return model


def missing(model: DVAE) -> DVAE:
    """Return the model with a first unit that is on with probability 1/2 in p(z|x), and about exp(-8) in q.

    The unit has no couplings and almost no effect on the pixels, so that samples either miss all of its mass or
    none.
    """
    with torch.no_grad():
        prior: Any = model.prior
        prior.W[0] = 0.0
        prior.b_left[0] = 0.0
        _last_layers([model.decoder])[0].weight[:, 0] *= 0.1
        layer = _last_layers(model.posterior.networks)[0]
        layer.weight[0], layer.bias[0] = 0.0, -3.2  # a logit of -8 after the batch norm
    return model
