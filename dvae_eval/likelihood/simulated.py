"""The gap of the bound, bracketed from both sides on images simulated from the model.

The latents h_0 of an image x drawn from the model are a draw from its posterior.  With K draws from q,

    L = log (1/K) Σ_{k=1..K} w_k,    U = log (1/(K+1)) Σ_{k=0..K} w_k,    E[L | x] <= log p(x) <= E[U | x].

If one of the weights belongs to a draw from the posterior, 1/mean(w) is unbiased for 1/p(x); both bounds then
follow from Jensen's inequality (Grosse, Ghahramani & Adams, Sandwiching the marginal likelihood using
bidirectional Monte Carlo, 2015).  So the mean over images of

    U - L = log(1 + w_0 / Σ_{k=1..K} w_k) - log(1 + 1/K)

is, in expectation, at least the mean gap between L and log p(x).  If q never proposes latents like h_0, w_0
exceeds the whole sum.  Both bounds share the K proposals: no image's difference is below -1/K, only the tail of
large differences makes the mean noisy, and the cost is that of the lower bound.  log Z cancels.

For weights with heavy tails, U is much looser than L: U - L is two to five times the gap.  The gap itself follows
from bridge sampling between q and the posterior (Bennett, 1976; Meng & Wong, 1996): for any κ, E_q[w / (w + κ)] =
p(x) E[1 / (w_0 + κ)].  With κ = S = Σ w_k, which is K p(x) up to the gap, and with the same gap γ in all images,

    exp(-γ) = mean of S / (S + w_0) over images / mean of Σ_k w_k / (w_k + S) over images.

If the gaps differ, γ is less than their mean (Jensen); U - L is then the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvae_core.model.dvae import DVAE
from dvae_core.model.prior_states import draw_states
from dvae_core.rng import torch_generator
from dvae_core.types import Float

from ..numbers import std_err_of_mean
from .importance import ImageWeights, ImportanceTask, draw_weights
from .protocol import GenerativeModel, WeightSource


@dataclass(frozen=True, slots=True)
class Simulated:
    """Images drawn from a model, with their latents.

    Attributes
    ----------
    images : shape (n, ...)
    latents : sequence of n
        Latents of each image, in the form that `WeightSource.log_weight` takes.
    states : str
        How the states of the prior's Boltzmann machine were drawn.
    """

    images: NDArray[Any]
    latents: Sequence[Any]
    states: str


@torch.no_grad()
def simulate(model: DVAE, n: int, seed: int) -> Simulated:
    """Draw n images from a model in evaluation mode, with their latents (z; ζ and the continuous layers).

    If the prior is too large for enumeration, its states come from separate Markov chains (`draw_states`).
    """
    generator = torch_generator(seed, "simulated", device=model.groups.device)
    z, states = draw_states(model.prior, n, generator)

    def uniform(size: int) -> Tensor:
        return z.new_empty(n, size).uniform_(generator=generator)

    zeta = model.smoothing.sample(z, uniform(model.prior.n_units))
    eps = z.new_empty(n, model.n_noise[1]).normal_(generator=generator)
    layers = model.continuous_prior.sample(zeta, eps)
    x = uniform(model.n_pixels) < model.decode(zeta, layers).sigmoid()
    # Copies: pickling a view for another process would send the whole array.
    rows = zip(z.cpu(), torch.cat((zeta, *layers), -1).cpu(), strict=True)
    latents = [(units.clone(), others.clone()) for units, others in rows]
    return Simulated(x.to(torch.uint8).cpu().numpy(), latents, states)


@torch.no_grad()
def simulate_own(model: GenerativeModel, n: int, seed: int) -> Simulated:
    """Draw n images from a user's model."""
    drawn = [model.sample_joint(torch_generator(seed, "simulated", i)) for i in range(n)]
    return Simulated(np.stack([x.cpu().numpy() for x, _ in drawn]), [h for _, h in drawn], "the model's own")


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """Compare the importance weights of an image with the weight of its true latents; an `image_tasks.ImageTask`.

    The `ImageWeights` are those of the K proposals, except that `parts` is [U - L, Σ_k w_k / (w_k + S)].
    """

    phase: ClassVar[str] = "simulated"

    source: WeightSource
    latents: Sequence[Any]
    n_samples: int
    seed: int
    n_kept: int = 0

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.source.device

    def keeping(self, n_kept: int) -> SimulatedTask:
        """Return the task that keeps `n_kept` weights per image."""
        return replace(self, n_kept=n_kept)

    @torch.no_grad()
    def __call__(self, x: NDArray[Any], index: int, earlier: ImageWeights | None = None) -> ImageWeights:
        """Return the weights of an image, starting with those that an earlier estimate kept."""
        drawn = draw_weights(self.source, x, index, self.n_samples, self.seed, "proposals", earlier)
        true = self.source.log_weight(torch.from_numpy(x), self.latents[index]).double().sum()
        weights = ImageWeights.of(drawn.log_w, gap_terms(float(true), drawn.log_w))
        return drawn.kept_by(weights, self.n_kept)

    def seconds(self, x: NDArray[Any], index: int) -> float:
        """Return the expected seconds per image, estimated from its first samples."""
        return ImportanceTask(self.source, self.n_samples, self.seed).seconds(x, index)


def gap_terms(true: float, log_w: Float) -> Float:
    """Return U - L and Σ_k w_k / (w_k + S) from the log weight of the true latents and those of K proposals.

    U - L is at least -log(1 + 1/K).  It is inf if all proposals have weight 0, or the true latents' weight is nan.
    """
    top = log_w.max()
    if np.isnan(true) or not np.isfinite(top):
        return np.array([np.inf, 1.0])
    log_sum = top + np.log(np.exp(log_w - top).sum())
    share = np.exp(log_w - log_sum)
    return np.array([np.logaddexp(0, true - log_sum) - np.log1p(1 / len(log_w)), (share / (1 + share)).sum()])


@dataclass(frozen=True, slots=True)
class SimulatedGap:
    """How far the bound lies below the log-likelihood on simulated images, on average.

    Attributes
    ----------
    differences, shares : float64, shape (n_images,)
        U - L of every image in nats, and Σ_k w_k / (w_k + S): see `gap_terms`.
    n_samples : int
        Proposals per image.
    gap_from_proposals : float or None
        The gap estimated from the proposals' weights alone, nats; None if they are too few.
    log_likelihood : float
        Mean of L - log Z over the images, nats.
    states : str
        See `Simulated`.
    """

    differences: Float
    shares: Float
    n_samples: int
    gap_from_proposals: float | None
    log_likelihood: float
    states: str

    @property
    def bound(self) -> float:
        """Upper bound of the mean gap, in expectation: the mean of U - L.  Large values are no outliers."""
        return float(self.differences.mean())

    @property
    def bound_std_err(self) -> float:
        """Standard error of `bound` over these images; nan for one image, or if a difference is infinite."""
        return std_err_of_mean(self.differences)

    @property
    def gap(self) -> float:
        """The gap by bridge sampling, nats; inf if no image's true latents are as likely as any proposal."""
        below = self._true_shares
        return float(np.log(self.shares.mean() / below.mean())) if below.any() else np.inf

    @property
    def std_err(self) -> float:
        """Standard error of `gap` over these images; nan for one image, or for an infinite gap."""
        below = self._true_shares
        return std_err_of_mean(self.shares / self.shares.mean() - below / below.mean()) if below.any() else np.nan

    @property
    def _true_shares(self) -> Float:
        """Every image's S / (S + w_0), shape (n_images,)."""
        shares: Float = np.exp(-self.differences) / (1 + 1 / self.n_samples)
        return shares

    def diagnostics(self) -> dict[str, Any]:
        """Return the numbers that a result reports for the simulated images."""
        return {
            "n_images": len(self.differences),
            "states": self.states,
            "gap": self.gap,
            "std_err": self.std_err,
            "bound": self.bound,
            "bound_std_err": self.bound_std_err,
            "gap_from_proposals": self.gap_from_proposals,
            "log_likelihood": self.log_likelihood,
            "differences": self.differences.tolist(),
        }
