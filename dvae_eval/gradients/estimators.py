"""Estimators of the gradient of the bound in the logits of the RBM's posterior (Section 3, App. B and F).

The bound of one image is the expectation under q(z, ζ|x) = Π_j r(ζ_j|z_j) q(z_j|ζ_<j, x) of f = f_rbm + f_rest,

    f_rbm = -E(z) - log Z - Σ_j log q(z_j|ζ_<j, x),    f_rest = log p(x|ζ, 𝔷) - Σ_m KL[q(𝔷_m|·) || p(𝔷_m|·)],

whose two terms are reported separately.  The gradient is with respect to an offset δ of the logits, g(ζ_<, x) +
δ, one per unit and image: all weights of q(z|x) receive their gradient through the logits, and a single backward
pass serves any number of independent draws.  The derivative is total: the logits of later groups depend on the
earlier ζ.

    reparameterised   ζ as a function of ρ (Eq. 8), entropy and energy by Eq. 26, 12 and 31, as in the paper
    reinforce         f · ∂ Σ_j log q(z_j|ζ_<j, x)                                  (Eq. 18, B = 0)
    reinforce-mean    (f - B(x)) · ∂ Σ_j log q(z_j|ζ_<j, x),  B(x) = mean of f      (Eq. 18)
    nvil              Σ_j (f_j - B_j(x, z_<j, ζ_<j)) · ∂ log q(z_j|ζ_<j, x)         (App. F.3; Mnih & Gregor, 2014)
    without-factor    the paper's with (1 - z)/(1 - q) of Eq. 31 left out: biased if there are several groups
    straight-through  ∂f/∂z · q(1 - q) ∂g                                (Bengio et al., 2013, arXiv:1308.3432)
    reinmax           ∂f/∂z · (2 J((q + z)/2) - J(q)/2) ∂g, J(q) = q(1 - q)  (Liu et al., 2023, arXiv:2304.08612)

The last two are biased.  They differentiate f at the drawn z, with ζ = z s and a draw s of r(ζ|1), as if z were
continuous.  For f linear in z both are exact.  For one unit ReinMax's factor is |z - q|/2, so that its mean is
q(1 - q) times the average of ∂f/∂z at z = 0 and at z = 1: the trapezoidal rule (Heun's method) for f(1) - f(0),
exact for quadratic f, where straight-through takes the average at weights q and 1 - q.

In the score-function estimators (z, ζ) is a fixed draw, with ζ from r(ζ|z), which does not depend on δ: no
gradient flows through ζ, neither into the decoder nor into later logits.  f_j omits the terms of f that groups
from j on do not change: the energy of the units before j among themselves, and log q of the earlier groups.  B_j
is fitted by ridge regression to separate draws and for each image separately, which favours it over the network
of Mnih and Gregor.  They also divide the signal by its standard deviation; this is omitted, since it only scales
the step and changes neither the signal-to-noise ratio nor the direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from dvae_core.model.dvae import DVAE
from dvae_core.model.posterior import DiscretePosterior
from dvae_core.model.smoothing import DiscreteSample, Spike
from dvae_core.model.smoothing.base import bounded_logits, shared

PARTS = ("rbm", "rest")
# Penalty of the ridge regression, for features of variance at most 1/4.
RIDGE = 1e-2


@dataclass(frozen=True, slots=True)
class Draw:
    """Images and the noise of n draws for each.

    Attributes
    ----------
    x : float, shape (n_images, n_pixels)
    rho : float, shape (n, n_images, n_units), uniform on [0, 1)
    eps : float, shape (n, n_images, n_layers * n_continuous), standard normal
    """

    x: Tensor
    rho: Tensor
    eps: Tensor


@dataclass(frozen=True, slots=True)
class Baselines:
    """Constants of the score-function estimators: log Z, and the fitted baselines.

    Attributes
    ----------
    log_z : float
        A rough value suffices, since a constant changes no expectation.
    mean : float, shape (2, n_images), nats
        B(x) of every term.
    weights : list of float, shape (n_images, n_features, 2)
        B_j of every group as a linear function of (1, z_<j, ζ_<j).
    """

    log_z: float
    mean: Tensor
    weights: list[Tensor]


@dataclass(frozen=True, slots=True)
class Estimator:
    """An estimator, defined by a surrogate: terms (2, n, n_images) whose gradients in the offset it returns."""

    name: str
    is_unbiased: bool
    surrogate: Callable[[DVAE, Draw, Baselines], Tensor]


def gradients(model: DVAE, estimator: Estimator, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the estimates of every draw, shape (2, n, n_images, n_units), nats."""
    offset = torch.zeros_like(draw.rho, requires_grad=True)
    with offset_logits(model.posterior, offset):
        terms = estimator.surrogate(model, draw, baselines)
    return torch.stack([torch.autograd.grad(term.sum(), offset, retain_graph=True)[0] for term in terms])


@contextmanager
def offset_logits(posterior: DiscretePosterior, offset: Tensor) -> Iterator[None]:
    """Add `offset` (..., n_units) to the logits that the posterior's networks return within the block."""

    def adding(part: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        return lambda module, inputs, output: output + part

    parts = torch.split(offset, posterior.sizes, dim=-1)
    networks = zip(posterior.networks, parts, strict=True)
    hooks = [network.register_forward_hook(adding(part)) for network, part in networks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _earlier_units_fixed(posterior: DiscretePosterior) -> Iterator[None]:
    """Stop gradients from the logits of a group to the earlier ζ within the block."""

    def cut(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(value.detach() for value in inputs)

    hooks = [network.register_forward_pre_hook(cut) for network in posterior.networks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# --- through ζ ----------------------------------------------------------------------------------------------


def _reparameterised(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the paper's surrogate, which training differentiates."""
    bound = model.bound(draw.x, draw.rho, draw.eps)
    return torch.stack((-bound.kl_rbm, bound.elbo(0.0) + bound.kl_rbm))


def _without_factor(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the paper's surrogate, but with q_j · dq_i for the share of an earlier unit i in a bond with j."""
    sample = model.sample_posterior(draw.x, draw.rho, draw.eps).discrete
    z, q, J = sample.z, sample.logits.sigmoid(), model.prior.couplings()
    between = J * (model.groups[:, None] != model.groups)
    pairs = ((z @ between + q @ (J - between)) * q).sum(-1)
    earlier = (q * (q @ between.T).detach()).sum(-1)
    rbm = q @ model.prior.biases() + pairs + earlier - sample.negative_entropy
    return torch.stack((rbm, rest_of_bound(model, draw.x, sample.zeta, draw.eps)))


def _straight_through(slope: Callable[[Tensor, Tensor], Tensor]) -> Callable[[DVAE, Draw, Baselines], Tensor]:
    """Return the surrogate that differentiates f in z, with `slope`(q, z) as the derivative of z by its logit."""

    def surrogate(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
        smoothing = model.smoothing
        assert isinstance(smoothing, Spike)  # for the type checker
        samples: list[DiscreteSample] = []
        for network, rho in zip(
            model.posterior.networks, torch.split(draw.rho, model.posterior.sizes, -1), strict=True
        ):
            earlier = torch.cat([s.zeta for s in samples], -1) if samples else draw.x[..., :0]
            logits = bounded_logits(network(draw.x, earlier), rho)
            samples.append(_through_z(smoothing, logits, rho, slope))
        logits, z, zeta = (torch.cat([getattr(s, name) for s in samples], -1) for name in ("logits", "z", "zeta"))
        rbm = -model.prior.energy(z) - shared(z, zeta, logits, z).negative_entropy
        return torch.stack((rbm, rest_of_bound(model, draw.x, zeta, draw.eps)))

    return surrogate


def _through_z(
    smoothing: Spike, logits: Tensor, rho: Tensor, slope: Callable[[Tensor, Tensor], Tensor]
) -> DiscreteSample:
    """Draw z and ζ = z s as the smoothing does, with `slope` as the derivative of z by its logit.

    Given z, ρ rescaled to [0, 1) is uniform and independent of q, so that s is a draw of r(ζ|1) for z = 0 as well.
    """
    q, off = logits.detach().sigmoid(), torch.sigmoid(-logits.detach())
    on = rho >= off
    s = smoothing.quantile(torch.where(on, (rho - off) / q, rho / off).clamp(0, 1)).detach()
    z = on.to(q.dtype)
    z = z + slope(q, z) * (logits - logits.detach())
    return shared(z, z * s, logits, z)


def _sigmoid_slope(q: Tensor) -> Tensor:
    """Return J(q) = q (1 - q), the derivative of the sigmoid where its value is q."""
    return q * (1 - q)


def straight_through_slope(q: Tensor, z: Tensor) -> Tensor:
    """Return straight-through's derivative of z by its logit."""
    return _sigmoid_slope(q)


def reinmax_slope(q: Tensor, z: Tensor) -> Tensor:
    """Return ReinMax's derivative of z by its logit; it equals |z - q| / 2."""
    return 2 * _sigmoid_slope((q + z) / 2) - _sigmoid_slope(q) / 2


def rest_of_bound(model: DVAE, x: Tensor, zeta: Tensor, eps: Tensor) -> Tensor:
    """Return f_rest = log p(x|ζ, 𝔷) - Σ_m KL[q(𝔷_m|·) || p(𝔷_m|·)], shape (...), nats."""
    layers, gaussians = model.continuous_posterior(x, zeta, eps)
    priors = model.continuous_prior(zeta, layers)
    kl = sum((q.kl(p) for q, p in zip(gaussians, priors, strict=True)), torch.zeros_like(zeta[..., 0]))
    return model.log_p_x(x, zeta, layers) - kl


# --- through the score of q ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scored:
    """Draws with the quantities of score-function estimators.

    Attributes
    ----------
    log_q : float, shape (n_groups, n, n_images)
        log q(z_j|ζ_<j, x), differentiable in the offset of group j only.
    signal : float, shape (2, n, n_images)
        (f_rbm, f_rest).
    settled : float, shape (n_groups, n, n_images)
        The part of f_rbm that groups from j on do not change.
    features : list of float, shape (n, n_images, n_features)
        (1, z_<j, ζ_<j) of every group.
    """

    log_q: Tensor
    signal: Tensor
    settled: Tensor
    features: list[Tensor]

    def local(self, group: int) -> Tensor:
        """Return the signal of a group, shape (2, n, n_images)."""
        return self.signal - torch.stack((self.settled[group], torch.zeros_like(self.settled[group])))


def _score(model: DVAE, draw: Draw, log_z: float) -> _Scored:
    """Draw z and ζ, and return the quantities of score-function estimators for this fixed draw."""
    with _earlier_units_fixed(model.posterior):
        sample = model.posterior(draw.x, draw.rho)
    by_unit = sample.z * sample.logits - softplus(sample.logits)
    log_q = torch.stack([part.sum(-1) for part in torch.split(by_unit, model.posterior.sizes, dim=-1)])
    with torch.no_grad():
        z, zeta, constant = sample.z, sample.zeta.detach(), torch.ones_like(sample.z[..., :1])
        rbm = -model.prior.energy(z) - log_q.sum(0) - log_z
        rest = rest_of_bound(model, draw.x, zeta, draw.eps)
        settled, features = [], []
        for j, earlier_log_q in enumerate(log_q.cumsum(0) - log_q):
            earlier = model.groups < j
            settled.append(-model.prior.energy(z * earlier) - earlier_log_q)
            features.append(torch.cat((constant, z[..., earlier], zeta[..., earlier]), -1))
    return _Scored(log_q, torch.stack((rbm, rest)), torch.stack(settled), features)


def _reinforce(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the surrogate of Eq. 18 without a baseline."""
    scored = _score(model, draw, baselines.log_z)
    return scored.signal * scored.log_q.sum(0)


def _reinforce_mean(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the surrogate of Eq. 18 with the mean of every image's signal as its baseline."""
    scored = _score(model, draw, baselines.log_z)
    return (scored.signal - baselines.mean[:, None]) * scored.log_q.sum(0)


def _nvil(model: DVAE, draw: Draw, baselines: Baselines) -> Tensor:
    """Return the surrogate with local signals and fitted baselines."""
    scored = _score(model, draw, baselines.log_z)
    centred = torch.stack(
        [
            scored.local(j) - _predict(features, weights)
            for j, (features, weights) in enumerate(zip(scored.features, baselines.weights, strict=True))
        ]
    )
    return (centred * scored.log_q[:, None]).sum(0)


def _predict(features: Tensor, weights: Tensor) -> Tensor:
    """Return B_j, shape (2, n, n_images)."""
    return torch.einsum("nif,ift->tni", features, weights)


@torch.no_grad()
def fit_baselines(model: DVAE, draw: Draw, log_z: float) -> Baselines:
    """Return baselines fitted to the signals of pilot draws."""
    scored = _score(model, draw, log_z)
    weights = [_ridge(features, scored.local(j)) for j, features in enumerate(scored.features)]
    return Baselines(log_z, scored.signal.mean(1), weights)


def _ridge(features: Tensor, values: Tensor) -> Tensor:
    """Return the weights (n_images, n_features, 2) that predict `values` (2, n, n_images)."""
    a, b = features.double(), values.double()
    gram = torch.einsum("nif,nig->ifg", a, a) / len(a)
    penalty = torch.full((gram.shape[-1],), RIDGE, dtype=gram.dtype, device=gram.device)
    penalty[0] = 0.0  # the constant is not penalised
    gram += penalty.diag()
    weights: Tensor = torch.linalg.solve(gram, torch.einsum("nif,tni->ift", a, b) / len(a))
    return weights.to(features.dtype)


ESTIMATORS = (
    Estimator("reparameterised", True, _reparameterised),
    Estimator("nvil", True, _nvil),
    Estimator("reinforce-mean", True, _reinforce_mean),
    Estimator("reinforce", True, _reinforce),
    Estimator("without-factor", False, _without_factor),
    Estimator("straight-through", False, _straight_through(straight_through_slope)),
    Estimator("reinmax", False, _straight_through(reinmax_slope)),
)
