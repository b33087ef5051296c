"""Bounds and log p(x) of small models by sums over z and quadrature over ζ and 𝔷; densities of the smoothings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvae_core.model.dvae import DVAE
from dvae_eval.test_machines.quadrature import (
    Grid,
    energy,
    exact_log_p,
    grid,
    hermite,
    log_p_x_given,
    prior_network,
)


def densities(name: str, s: float):
    """Return the textbook densities r(ζ|0), None for a spike at 0, and r(ζ|1), as functions of a number."""
    return {
        "spike-and-exponential": (None, lambda t: s * np.exp(s * t) / (np.exp(s) - 1)),
        "spike-and-slab": (None, lambda t: 1.0),
        "spike-and-gaussian": (None, lambda t: np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)),
        "mixture-of-ramps": (lambda t: 2 * (1 - t), lambda t: 2 * t),
        "overlapping-exponential": (
            lambda t: s * np.exp(-s * t) / (1 - np.exp(-s)),
            lambda t: s * np.exp(s * (t - 1)) / (1 - np.exp(-s)),
        ),
        "power-function": (lambda t: t ** (1 / s - 1) / s, lambda t: (1 - t) ** (1 / s - 1) / s),
    }[name]


def _prior_log_prob(model: DVAE, m: int, zeta: Tensor, layers: list[Tensor]) -> Tensor:
    number, context = prior_network(model, m, zeta, layers)
    mean, log_std = model.continuous_prior.networks[number](context).chunk(2, -1)
    return torch.distributions.Normal(mean, log_std.exp()).log_prob(layers[m]).sum(-1)


def _gaussian_log_prob(network, inputs: list[Tensor], value: Tensor) -> Tensor:
    mean, log_std = network(*inputs).chunk(2, -1)
    return torch.distributions.Normal(mean, log_std.exp()).log_prob(value).sum(-1)


def _posterior(model: DVAE, x: Tensor, g: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Return ζ at the points of a grid, log q(z|ζ_<, x), and log p(ζ|z) - log q(ζ|z, x)."""
    parts: list[Tensor] = []
    log_q, ratio = torch.zeros(2, len(g.z), dtype=torch.float64)
    start = 0
    for network, size in zip(model.posterior.networks, model.posterior.sizes, strict=True):
        earlier = torch.cat(parts, -1) if parts else g.zeta[:, :0]
        output = network(x.expand(len(g.z), -1), earlier)
        z, zeta = (a[:, start : start + size] for a in (g.z, g.zeta))
        log_q = log_q + (z * logsigmoid(output[:, :size]) + (1 - z) * logsigmoid(-output[:, :size])).sum(-1)
        if model.config.smoothing == "spike-and-gaussian":
            normal = torch.distributions.Normal(output[:, size : 2 * size], output[:, 2 * size :].exp())
            zeta = normal.mean + normal.stddev * zeta
            prior = torch.distributions.Normal(0.0, 1.0)
            ratio = ratio + (z * (prior.log_prob(zeta) - normal.log_prob(zeta))).sum(-1)
            zeta = z * zeta
        parts.append(zeta)
        start += size
    return torch.cat(parts, -1), log_q, ratio


def exact_bound(model: DVAE, x: Tensor) -> Tensor:
    """Return the evidence lower bound less log Z of one image x (n_pixels,): differentiable, by quadrature.

    E over z, ζ and 𝔷 of log p(x|ζ,𝔷) - E(z) - log q(z|x) + log p(ζ|z) - log q(ζ|z,x) + Σ log p(𝔷) - Σ log q(𝔷),
    nothing analytic.
    """
    g = grid(model)
    zeta, log_q, ratio = _posterior(model, x, g)
    value = -energy(model, g.z) - log_q + ratio
    continuous = torch.zeros(len(g.z), dtype=torch.float64)
    points, weights = hermite(model.config.n_layers)
    for eps, w in zip(points, weights, strict=True):
        layers: list[Tensor] = []
        term = torch.zeros(len(g.z), dtype=torch.float64)
        for m in range(model.config.n_layers):
            context = torch.cat((zeta, *layers), -1)
            q_net = model.continuous_posterior.networks[m]
            mean, log_std = q_net(x.expand(len(zeta), -1), context).chunk(2, -1)
            layers.append(mean + log_std.exp() * eps[m])
            term = term + _prior_log_prob(model, m, zeta, layers)
            term = term - _gaussian_log_prob(q_net, [x.expand(len(zeta), -1), context], layers[-1])
        continuous = continuous + w * (term + log_p_x_given(model, x, zeta, layers))
    return (log_q.exp() * g.r * (value + continuous)).sum()


def exact_log_p_x(model: DVAE, x: Tensor) -> float:
    """Return log p(x) of one image (n_pixels,), by summing over z and integrating over ζ and 𝔷."""
    return float(exact_log_p(model, x[None])[0])
