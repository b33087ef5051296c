"""Exact answers by brute force: obviously right, slow, and written without the code that they judge."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvae_core.config import ModelConfig
from dvae_core.model import DVAE
from dvae_core.rbm import RBM


def all_states(n: int) -> Tensor:
    """Return all binary states of n units, float64, shape (2^n, n)."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


def naive_log_z(W, b_left, b_right) -> float:
    """Return log Z by visiting every joint state of both sides, one at a time, in Python floats."""
    W, b_left, b_right = (np.asarray(a, dtype=float) for a in (W, b_left, b_right))
    exponents = []
    for v in itertools.product((0, 1), repeat=len(b_left)):
        for h in itertools.product((0, 1), repeat=len(b_right)):
            exponents.append(np.dot(v, W @ h) + np.dot(b_left, v) + np.dot(b_right, h))
    top = max(exponents)
    return float(top + np.log(np.sum(np.exp(np.array(exponents) - top))))


def brute_log_z(J, b, beta=1.0) -> float:
    """Return log Σ_z exp(β (Σ_{i<j} J_ij z_i z_j + b'z)) by visiting every state, in Python floats."""
    J, b, n = np.asarray(J).tolist(), np.asarray(b).tolist(), len(b)
    pairs = [(i, j, J[i][j]) for i in range(n) for j in range(i + 1, n) if J[i][j]]
    exponents = [
        beta * (sum(w for i, j, w in pairs if z[i] and z[j]) + sum(b[i] for i in range(n) if z[i]))
        for z in itertools.product((0, 1), repeat=n)
    ]
    top = max(exponents)
    return float(top + np.log(np.sum(np.exp(np.array(exponents) - top))))


def tiny_model(n_left=2, n_right=2, n_groups=2, n_layers=0, n_pixels=3, seed=0, scale=1.0, **settings) -> DVAE:
    """Return a small model with networks smooth enough for quadrature, in evaluation mode and float64.

    `settings` go to the configuration.  Couplings, posterior weights and biases are large, so that an error in a
    gradient has nowhere to hide.
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
        for network in (*model.continuous_posterior.networks, *model.continuous_prior.networks):
            # Standard deviations that vary, but never reach the model's limits.
            network.linears[-1].weight[1:] *= 0.3
        for network in model.continuous_posterior.networks:
            # Wider than the prior: importance weights with a variance.
            network.linears[-1].bias[1:] += 0.6
    return model


@dataclass(frozen=True)
class Grid:
    """Every unit is off, or on at one of `n` values of ζ: a product quadrature rule over z and ζ."""

    z: Tensor  # (n_points, n_units)
    zeta: Tensor  # (n_points, n_units)
    r: Tensor  # (n_points,), r(ζ|z) times the quadrature weights; differentiable in the sharpness


def grid(n_units: int, sharpness: Tensor, n: int = 8) -> Grid:
    """Return the product over units of {off} and Gauss-Legendre nodes of ζ under the exponential density."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    points = [(0.0, 0.0, 1.0), *((1.0, (x + 1) / 2, w / 2) for x, w in zip(nodes, weights, strict=True))]
    z, zeta, weight = torch.tensor(list(itertools.product(points, repeat=n_units)), dtype=torch.float64).unbind(-1)
    density = sharpness * torch.exp(sharpness * zeta) / (torch.exp(sharpness) - 1)
    return Grid(z, zeta, (weight * torch.where(z > 0, density, torch.ones_like(z))).prod(-1))


def _hermite(n_layers: int, n: int = 20) -> tuple[Tensor, Tensor]:
    """Return points and weights of the expectation over n_layers standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    weights = weights / weights.sum()
    eps = torch.tensor(list(itertools.product(nodes, repeat=n_layers)), dtype=torch.float64)
    w = torch.tensor(list(itertools.product(weights, repeat=n_layers)), dtype=torch.float64).prod(-1)
    return eps.reshape(len(w), n_layers), w


def _gaussian_log_prob(network, inputs: list[Tensor], value: Tensor) -> Tensor:
    mean, log_std = network(*inputs).chunk(2, -1)
    return torch.distributions.Normal(mean, log_std.exp()).log_prob(value).sum(-1)


def _log_p_x(model: DVAE, x: Tensor, zeta: Tensor, layers: list[Tensor]) -> Tensor:
    logits = model.decoder(torch.cat((zeta, *layers), -1))
    return torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1)


def dense(prior) -> tuple[Tensor, Tensor]:
    """Return J (strictly upper triangular) and b of any prior, differentiable, with the matrix written out."""
    J = torch.zeros(prior.n_units, prior.n_units, dtype=prior.W.dtype)
    if isinstance(prior, RBM):
        J[: prior.n_left, prior.n_left :] = prior.W
        return J, torch.cat((prior.b_left, prior.b_right))
    for (i, j), w in zip(prior.edges.T.tolist(), prior.W, strict=True):
        J[i, j] = w
    return J, prior.b


def _energy(model: DVAE, z: Tensor) -> Tensor:
    """Return the energy of Eq. 6, with the triangular matrix written out."""
    J, b = dense(model.prior)
    return -(torch.einsum("...i,ij,...j->...", z, J, z) + z @ b)


def exact_bound(model: DVAE, x: Tensor) -> Tensor:
    """Return the evidence lower bound less log Z of one image x (n_pixels,): differentiable, by quadrature.

    E over z, ζ and 𝔷 of log p(x|ζ,𝔷) - E(z) - log q(z|x) + Σ log p(𝔷) - Σ log q(𝔷), nothing analytic.
    """
    g = grid(model.prior.n_units, model.smoothing.sharpness)
    zeta = g.zeta
    log_q = torch.zeros(len(g.z), dtype=torch.float64)
    start = 0
    for network, size in zip(model.posterior.networks, model.posterior.sizes, strict=True):
        logits = network(x.expand(len(zeta), -1), zeta[:, :start])
        z = g.z[:, start : start + size]
        log_q = log_q + (z * logsigmoid(logits) + (1 - z) * logsigmoid(-logits)).sum(-1)
        start += size
    value = -_energy(model, g.z) - log_q
    continuous = torch.zeros(len(g.z), dtype=torch.float64)
    points, weights = _hermite(model.config.n_layers)
    for eps, w in zip(points, weights, strict=True):
        layers: list[Tensor] = []
        term = torch.zeros(len(g.z), dtype=torch.float64)
        for m in range(model.config.n_layers):
            context = torch.cat((zeta, *layers), -1)
            q_net, p_net = model.continuous_posterior.networks[m], model.continuous_prior.networks[m]
            mean, log_std = q_net(x.expand(len(zeta), -1), context).chunk(2, -1)
            layers.append(mean + log_std.exp() * eps[m])
            term = term + _gaussian_log_prob(p_net, [context], layers[-1])
            term = term - _gaussian_log_prob(q_net, [x.expand(len(zeta), -1), context], layers[-1])
        continuous = continuous + w * (term + _log_p_x(model, x, zeta, layers))
    return (log_q.exp() * g.r * (value + continuous)).sum()


@torch.no_grad()
def exact_log_p_x(model: DVAE, x: Tensor) -> float:
    """Return log p(x) of one image (n_pixels,), by summing over z and integrating over ζ and 𝔷."""
    g = grid(model.prior.n_units, model.smoothing.sharpness)
    zeta = g.zeta
    log_z = brute_log_z(*(part.detach() for part in dense(model.prior)))
    p_x = torch.zeros(len(g.z), dtype=torch.float64)
    points, weights = _hermite(model.config.n_layers, n=24)
    for eps, w in zip(points, weights, strict=True):
        layers: list[Tensor] = []
        for m in range(model.config.n_layers):
            mean, log_std = model.continuous_prior.networks[m](torch.cat((zeta, *layers), -1)).chunk(2, -1)
            layers.append(mean + log_std.exp() * eps[m])
        p_x += w * _log_p_x(model, x, zeta, layers).exp()
    return float(torch.log((torch.exp(-_energy(model, g.z) - log_z) * g.r * p_x).sum()))
