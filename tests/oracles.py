"""Exact answers by brute force: obviously right, slow, and written without the code that they judge."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvae_core.config import ModelConfig
from dvae_core.model.dvae import DVAE
from dvae_core.model.rbm import RBM


def all_states(n: int) -> Tensor:
    """Return all binary states of n units, float64, shape (2^n, n)."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)


def enumerate_states(n: int) -> np.ndarray:
    """Return all binary states of n units, float64, shape (2^n, n), the first unit changing fastest."""
    return ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


def order_cost(bonds, n_units: int, order) -> int:
    """Return the entries of all tables together when the units of a graph are summed out in this order."""
    neighbours = {unit: set() for unit in range(n_units)}
    for i, j in np.asarray(bonds).tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    cost = 0
    for unit in order:
        others = neighbours.pop(unit)
        cost += 2 ** (1 + len(others))
        for other in others:
            neighbours[other] = (neighbours[other] | others) - {other, unit}
    return cost


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
    J, b = (torch.as_tensor(a).detach().tolist() for a in (J, b))
    n = len(b)
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
        if config.smoothing == "spike-and-gaussian":
            _tame_gaussians(model)
        if hasattr(model.smoothing, "sharpness"):
            # ζ^(1/s) is then no trouble for quadrature.
            model.smoothing.set_sharpness(2.0)
    return model


def _tame_gaussians(model: DVAE) -> None:
    """Give the Gaussians of ζ moderate means, and a standard deviation that is wider than the prior's.

    ζ goes beyond [0, 1] here: its effect on later groups is made smaller, or logits reach their limits.
    """
    for network, size in zip(model.posterior.networks, model.posterior.sizes, strict=True):
        layer = network.linears[-1]
        layer.weight[size:] *= 0.3
        layer.weight[:, model.n_pixels :] *= 0.3
        layer.bias[size : 2 * size] = 0.5
        layer.weight[2 * size :] *= 0.3
        layer.bias[2 * size :] = 0.15


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


def _rule(name: str, s: Tensor | None, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return z, ζ and r(ζ|z) dζ of a quadrature rule for one unit, each of shape (n_nodes,).

    For the Gaussian, ζ is in standard deviations from its mean.  The power function's singular densities are
    uniform in ζ^(1/s), and in (1-ζ)^(1/s) for z = 1.  All is differentiable in s.
    """
    nodes, weights = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(n))
    u, w = (nodes + 1) / 2, weights / 2
    one = torch.ones(1, dtype=torch.float64)
    off, on = {
        "spike-and-exponential": lambda: ((0 * one, one), (u, w * s * (s * u).exp() / (s.exp() - 1))),
        "spike-and-slab": lambda: ((0 * one, one), (u, w)),
        "none": lambda: ((0 * one, one), (one, one)),
        "spike-and-gaussian": lambda: ((0 * one, one), tuple(a.squeeze(-1) for a in _hermite(1, 2 * n))),
        "mixture-of-ramps": lambda: ((u, w * 2 * (1 - u)), (u, w * 2 * u)),
        "overlapping-exponential": lambda: (
            (u, w * s * (-s * u).exp() / (1 - (-s).exp())),
            (u, w * s * (s * (u - 1)).exp() / (1 - (-s).exp())),
        ),
        "power-function": lambda: ((u**s, w), (1 - u**s, w)),
    }[name]()
    z = torch.cat((torch.zeros(len(off[0])), torch.ones(len(on[0])))).double()
    return z, torch.cat((off[0], on[0])), torch.cat((off[1], on[1]))


@dataclass(frozen=True)
class Grid:
    """Every unit is off or on, at one of several values of ζ: a product quadrature rule over z and ζ."""

    z: Tensor  # (n_points, n_units)
    zeta: Tensor  # (n_points, n_units)
    r: Tensor  # (n_points,), r(ζ|z) times the quadrature weights; differentiable in the sharpness


def grid(model: DVAE, n: int = 8) -> Grid:
    """Return the product over the model's units of one unit's rule."""
    z, zeta, r = _rule(model.config.smoothing, getattr(model.smoothing, "sharpness", None), n)
    points = torch.cartesian_prod(*[torch.arange(len(z))] * model.prior.n_units)
    return Grid(z[points], zeta[points], r[points].prod(-1))


def _hermite(n_layers: int, n: int = 20) -> tuple[Tensor, Tensor]:
    """Return points and weights of the expectation over n_layers standard normals, with fewer points for many."""
    n = n if n_layers < 3 else 10
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    weights = weights / weights.sum()
    eps = torch.tensor(list(itertools.product(nodes, repeat=n_layers)), dtype=torch.float64)
    w = torch.tensor(list(itertools.product(weights, repeat=n_layers)), dtype=torch.float64).prod(-1)
    return eps.reshape(len(w), n_layers), w


def _prior_network(model: DVAE, m: int, zeta: Tensor, layers: list[Tensor]) -> tuple[int, Tensor]:
    """Return the number of layer m's prior network and its input (App. H); for m = n_layers, of the pixels'."""
    n, n_layers = model.config.n_sharing_groups, model.config.n_layers
    if not n:
        return m, torch.cat((zeta, *layers[:m]), -1)
    sizes = [n_layers // n + (g < n_layers % n) for g in range(n)]
    group = [g for g in range(n) for _ in range(sizes[g])][min(m, n_layers - 1)]
    M = model.continuous_prior.maps[group].weight
    return group, torch.einsum("ij,...j->...i", M, zeta) + sum(layers[:m], torch.zeros((), dtype=zeta.dtype))


def _prior_log_prob(model: DVAE, m: int, zeta: Tensor, layers: list[Tensor]) -> Tensor:
    number, context = _prior_network(model, m, zeta, layers)
    mean, log_std = model.continuous_prior.networks[number](context).chunk(2, -1)
    return torch.distributions.Normal(mean, log_std.exp()).log_prob(layers[m]).sum(-1)


def _gaussian_log_prob(network, inputs: list[Tensor], value: Tensor) -> Tensor:
    mean, log_std = network(*inputs).chunk(2, -1)
    return torch.distributions.Normal(mean, log_std.exp()).log_prob(value).sum(-1)


def _log_p_x(model: DVAE, x: Tensor, zeta: Tensor, layers: list[Tensor]) -> Tensor:
    logits = model.decoder(_prior_network(model, model.config.n_layers, zeta, layers)[1])
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
    value = -_energy(model, g.z) - log_q + ratio
    continuous = torch.zeros(len(g.z), dtype=torch.float64)
    points, weights = _hermite(model.config.n_layers)
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
        continuous = continuous + w * (term + _log_p_x(model, x, zeta, layers))
    return (log_q.exp() * g.r * (value + continuous)).sum()


@torch.no_grad()
def exact_log_p_x(model: DVAE, x: Tensor) -> float:
    """Return log p(x) of one image (n_pixels,), by summing over z and integrating over ζ and 𝔷."""
    g = grid(model)
    zeta = g.zeta
    log_z = brute_log_z(*(part.detach() for part in dense(model.prior)))
    p_x = torch.zeros(len(g.z), dtype=torch.float64)
    points, weights = _hermite(model.config.n_layers, n=24)
    for eps, w in zip(points, weights, strict=True):
        layers: list[Tensor] = []
        for m in range(model.config.n_layers):
            number, context = _prior_network(model, m, zeta, layers)
            mean, log_std = model.continuous_prior.networks[number](context).chunk(2, -1)
            layers.append(mean + log_std.exp() * eps[m])
        p_x += w * _log_p_x(model, x, zeta, layers).exp()
    return float(torch.log((torch.exp(-_energy(model, g.z) - log_z) * g.r * p_x).sum()))
