"""log p(x) of small DVAEs: a sum over the states of the binary units and quadrature over all continuous variables.

Only the networks of the package are used.  The prior, r(ζ|z) and the order of the layers are written again here,
and nothing is sampled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvae_core.model.dvae import DVAE
from dvae_core.model.rbm import RBM


def _rule(name: str, s: Any, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return z, ζ and r(ζ|z) dζ of a quadrature rule for one unit, each of shape (n_nodes,).

    For the Gaussian, ζ is in standard deviations from its mean.  The power function's singular densities are
    uniform in ζ^(1/s), and in (1-ζ)^(1/s) for z = 1.  Everything is differentiable in s.
    """
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(n))
    u, w = (nodes + 1) / 2, weights / 2
    one = torch.ones(1, dtype=torch.float64)
    rules: dict[str, Callable[[], Any]] = {
        "spike-and-exponential": lambda: ((0 * one, one), (u, w * s * (s * u).exp() / (s.exp() - 1))),
        "spike-and-slab": lambda: ((0 * one, one), (u, w)),
        "none": lambda: ((0 * one, one), (one, one)),
        "gumbolt": lambda: ((0 * one, one), (one, one)),
        "spike-and-gaussian": lambda: ((0 * one, one), tuple(a.squeeze(-1) for a in hermite(1, 2 * n))),
        "mixture-of-ramps": lambda: ((u, w * 2 * (1 - u)), (u, w * 2 * u)),
        "overlapping-exponential": lambda: (
            (u, w * s * (-s * u).exp() / (1 - (-s).exp())),
            (u, w * s * (s * (u - 1)).exp() / (1 - (-s).exp())),
        ),
        "power-function": lambda: ((u**s, w), (1 - u**s, w)),
    }
    off, on = rules[name]()
    z = torch.cat((torch.zeros(len(off[0])), torch.ones(len(on[0])))).double()
    return z, torch.cat((off[0], on[0])), torch.cat((off[1], on[1]))


@dataclass(frozen=True)
class Grid:
    """A product quadrature rule over z and ζ: every unit is off or on, at one of several values of ζ."""

    z: Tensor  # (n_points, n_units)
    zeta: Tensor  # (n_points, n_units)
    r: Tensor  # (n_points,), r(ζ|z) times the quadrature weights; differentiable in the sharpness


def grid(model: DVAE, n: int = 8) -> Grid:
    """Return the product of the rule of one unit over all units of a model."""
    z, zeta, r = _rule(model.config.smoothing, getattr(model.smoothing, "sharpness", None), n)
    points = torch.cartesian_prod(*[torch.arange(len(z))] * model.prior.n_units)
    return Grid(z[points], zeta[points], r[points].prod(-1))


def hermite(n_layers: int, n: int = 20) -> tuple[Tensor, Tensor]:
    """Return points and weights for expectations over n_layers standard normals; fewer points for many layers."""
    n = n if n_layers < 3 else 10
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    weights = weights / weights.sum()
    eps = torch.tensor(list(itertools.product(nodes, repeat=n_layers)), dtype=torch.float64)
    w = torch.tensor(list(itertools.product(weights, repeat=n_layers)), dtype=torch.float64).prod(-1)
    return eps.reshape(len(w), n_layers), w


def prior_network(model: DVAE, m: int, zeta: Tensor, layers: list[Tensor]) -> tuple[int, Tensor]:
    """Return the index and input of layer m's prior network (App. H); for m = n_layers, the decoder's input."""
    n, n_layers = model.config.n_sharing_groups, model.config.n_layers
    if not n:
        return m, torch.cat((zeta, *layers[:m]), -1)
    sizes = [n_layers // n + (g < n_layers % n) for g in range(n)]
    group = [g for g in range(n) for _ in range(sizes[g])][min(m, n_layers - 1)]
    M = model.continuous_prior.maps[group].weight
    return group, torch.einsum("ij,...j->...i", M, zeta) + sum(layers[:m], torch.zeros((), dtype=zeta.dtype))


def log_p_x_given(model: DVAE, x: Tensor, zeta: Tensor, layers: list[Tensor]) -> Tensor:
    """Return log p(x|ζ,𝔷) of images x, shape (..., n_pixels)."""
    logits: Tensor = model.decoder(prior_network(model, model.config.n_layers, zeta, layers)[1])
    return (x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits)).sum(-1)


def dense(prior: Any) -> tuple[Tensor, Tensor]:
    """Return J (strictly upper triangular) and b of any prior as dense, differentiable tensors."""
    J = torch.zeros(prior.n_units, prior.n_units, dtype=prior.W.dtype)
    if isinstance(prior, RBM):
        J[: prior.n_left, prior.n_left :] = prior.W
        return J, torch.cat((prior.b_left, prior.b_right))
    for (i, j), w in zip(prior.edges.T.tolist(), prior.W, strict=True):
        J[i, j] = w
    return J, prior.b


def energy(model: DVAE, z: Tensor) -> Tensor:
    """Return the energy of Eq. 6, computed with the dense triangular matrix."""
    J, b = dense(model.prior)
    return -(torch.einsum("...i,ij,...j->...", z, J, z) + z @ b)


@torch.no_grad()
def exact_log_z(model: DVAE) -> float:
    """Return log Z of the prior, from a sum over all states."""
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=model.prior.n_units)), dtype=torch.float64)
    return float(torch.logsumexp(-energy(model, states), 0))


@torch.no_grad()
def exact_log_p(model: DVAE, x: Tensor) -> Tensor:
    """Return log p(x) of images, summed over z and integrated over ζ and 𝔷.

    Parameters
    ----------
    model : DVAE
        In float64 and evaluation mode, with linear networks; others have kinks that need a finer rule.
    x : float64, shape (n_images, n_pixels)

    Returns
    -------
    float64, shape (n_images,)
        Nats.
    """
    g = grid(model)
    zeta = g.zeta
    log_z = exact_log_z(model)
    p_x = torch.zeros(len(x), len(g.z), dtype=torch.float64)
    points, weights = hermite(model.config.n_layers, n=24)
    for eps, w in zip(points, weights, strict=True):
        layers: list[Tensor] = []
        for m in range(model.config.n_layers):
            number, context = prior_network(model, m, zeta, layers)
            mean, log_std = model.continuous_prior.networks[number](context).chunk(2, -1)
            layers.append(mean + log_std.exp() * eps[m])
        p_x += w * log_p_x_given(model, x[:, None], zeta, layers).exp()
    return torch.log((torch.exp(-energy(model, g.z) - log_z) * g.r * p_x).sum(-1))
