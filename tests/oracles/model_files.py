"""log p(x) of a model by sums and quadrature, in NumPy and from its file alone.

Written from the paper's formulas, without any code of the project: Eq. 6 (prior), Eq. 9, D.1, D.2, E.1 and DVAE++
(r(ζ|z)), Eq. 13 and App. G (layers), App. H (sharing), App. H.2 (batch norm with running statistics).
"""

import itertools

import numpy as np
import torch
from scipy.special import logsumexp

from tests.oracles.enumeration import enumerate_states, numbers


def legendre(low, high, n, n_panels):
    """Return nodes and weights of Gauss and Legendre's rule on panels: ReLU has kinks."""
    x, w = np.polynomial.legendre.leggauss(n)
    edges = np.linspace(low, high, n_panels + 1)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (x + 1)).ravel(), (half * w).ravel()


def normal(n, n_panels):
    """Return nodes and weights of the expectation over a standard normal number."""
    t, w = legendre(-8, 8, n, n_panels)
    return t, w * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def unit(name, s, n, n_panels):
    """Return z, ζ and r(ζ|z) dζ at the nodes of one unit."""
    t, w = legendre(0, 1, n, n_panels)
    spike = np.zeros(1), np.ones(1)
    c = None if s is None else s / (1 - np.exp(-s))
    off, on = {
        "none": lambda: (spike, (np.ones(1), np.ones(1))),
        "gumbolt": lambda: (spike, (np.ones(1), np.ones(1))),
        "spike-and-exponential": lambda: (spike, (t, w * s * np.exp(s * t) / (np.exp(s) - 1))),
        "spike-and-slab": lambda: (spike, (t, w)),
        "spike-and-gaussian": lambda: (spike, normal(n, 2 * n_panels)),
        "mixture-of-ramps": lambda: ((t, w * 2 * (1 - t)), (t, w * 2 * t)),
        "overlapping-exponential": lambda: ((t, w * c * np.exp(-s * t)), (t, w * c * np.exp(s * (t - 1)))),
        # r(ζ|0) = ζ^(1/s - 1)/s has no singularity in ζ^(1/s).
        "power-function": lambda: ((t**s, w), (1 - t**s, w)),
    }[name]()
    return tuple(np.concatenate(pair) for pair in ((0 * off[0], 1 + 0 * on[0]), *zip(off, on, strict=True)))


def network(state, name, n_hidden, h, use=0):
    """Return the output of linear maps with batch norms and ReLU between them."""
    layer = lambda i, h: h @ state[f"{name}.linears.{i}.weight"].T + state[f"{name}.linears.{i}.bias"]  # noqa: E731
    for i in range(n_hidden):
        h, norm = layer(i, h), f"{name}.norms.{i}"
        place = slice(use * h.shape[1], (use + 1) * h.shape[1])
        mean, spread = (state[f"{norm}.running_{kind}"][place] for kind in ("mean", "spread"))
        h = (h - mean) / (spread + 1e-3) * state[f"{norm}.raw_scale"] + state[f"{norm}.raw_offset"]
        h = np.maximum(h, 0)
    return layer(n_hidden, h)


def log_prior(config, state):
    """Return all states z of the units, and log p(z) of each."""
    n_left, n_right = config["n_left"], config["n_right"]
    n = n_left + n_right
    states = enumerate_states(n)
    if config["prior"] == "rbm":
        edges = itertools.product(range(n_left), range(n_left, n))
        b = np.concatenate((state["prior.b_left"], state["prior.b_right"]))
    else:
        ring = sorted(sorted((i, (i + 1) % n)) for i in range(n))
        edges = {"complete": itertools.combinations(range(n), 2), "ring": ring, "0-2": [(0, 2)], "": []}
        edges, b = edges[config["graph"]], state["prior.b"]
    minus_energy = states @ b
    for (i, j), w in zip(edges, state["prior.W"].ravel(), strict=True):
        minus_energy = minus_energy + w * states[:, i] * states[:, j]
    return states, minus_energy - logsumexp(minus_energy)


def context(config, state, m, zeta, layers):
    """Return which network layer m has, which of its uses, and its input; m = n_layers is that of the pixels."""
    n_groups = config["n_sharing_groups"]
    if not n_groups:
        return m, 0, np.concatenate((zeta, *layers), 1)
    groups = np.concatenate(
        [
            [(g, i) for i in range(len(part))]
            for g, part in enumerate(np.array_split(np.arange(config["n_layers"]), n_groups))
        ]
    )
    g, use = groups[min(m, config["n_layers"] - 1)]
    return g, use, zeta @ state[f"continuous_prior.maps.{g}.weight"].T + sum(layers)


def log_p_from_file(path, images, smoothing=True, units=(12, 4), layers=(12, 6)):
    """Return log p(x) of images (n_images, n_pixels) under the model in a file.

    `units` and `layers` are numbers of nodes and panels for every ζ and every continuous variable.
    """
    content = torch.load(path, weights_only=True)
    config = content["config"]["model"]
    state = {name: value.double().numpy() for name, value in content["state_dict"].items()}
    name = config["smoothing"] if smoothing else "none"
    s = None
    if "smoothing.raw" in state:
        floor = float(name == "power-function")
        s = floor + (state["smoothing.bound"] - floor) / (1 + np.exp(-state["smoothing.raw"]))
    states, log_p_z = log_prior(config, state)
    z, zeta, r = unit(name, s, *units)
    points = np.array(list(itertools.product(range(len(z)), repeat=states.shape[1])))
    start = log_p_z[numbers(z[points])] + np.log(r[points]).sum(1)
    zeta, total = zeta[points], np.full(len(images), -np.inf)
    for nodes in itertools.product(zip(*normal(*layers), strict=True), repeat=config["n_layers"]):
        drawn, log_w = [], start
        for m, (eps, weight) in enumerate(nodes):
            which, use, seen = context(config, state, m, zeta, drawn)
            out = network(state, f"continuous_prior.networks.{which}", len(config["prior_hidden"]), seen, use)
            drawn.append(out[:, :1] + np.exp(out[:, 1:]) * eps)
            log_w = log_w + np.log(weight)
        _, _, seen = context(config, state, config["n_layers"], zeta, drawn)
        logits = network(state, "decoder", len(config["decoder_hidden"]), seen)
        log_p = images @ logits.T - np.logaddexp(0, logits).sum(1)
        total = np.logaddexp(total, logsumexp(log_p + log_w, axis=1))
    return total
