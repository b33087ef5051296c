"""Annealed importance sampling (Neal, 2001) from q to the posterior, in the noise from which latents are drawn.

A draw of the latents from q is a function of uniform noise ρ and normal noise ε, and log w is a function f of (ρ,
ε).  The path

    π_β(ρ, ε) ∝ U(ρ) N(ε) exp(β f(ρ, ε)),     E_q[w] = Z_1 / Z_0 = p(x),

leads from q, at β = 0, to the posterior.  Every move is a Metropolis step whose proposal leaves U(ρ) N(ε)
invariant, so that it is accepted with probability min(1, exp(β (f' - f))).  No gradient is needed, and f may jump
where a unit changes.  The mean of the chains' weights is unbiased for p(x), as for importance weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvae_core.io.memory import require_memory
from dvae_core.rng import torch_generator

from .folded import FoldedDVAE
from .importance import ImageWeights

# Smallest step of the proposals.  Every proposal draws its own step size, so that some fit any β.
SMALLEST_STEP = 0.03


@dataclass(frozen=True, slots=True)
class AnnealingTask:
    """Anneal chains for an image; an `image_tasks.ImageTask`.

    Attributes
    ----------
    model : FoldedDVAE
    n_samples : int
        Number of chains.
    n_steps : int
        Number of equally spaced temperatures, with one move of the uniform and one of the normal noise at each.
    seed : int
    """

    phase: ClassVar[str] = "annealing"

    model: FoldedDVAE
    n_samples: int
    n_steps: int
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def keeping(self, n_kept: int) -> AnnealingTask:
        """Return the task unchanged: chains are annealed together, so that none can be added later."""
        return self

    def __call__(self, x: NDArray[np.uint8], index: int, earlier: ImageWeights | None = None) -> ImageWeights:
        """Return the weights of an image's chains."""
        log_w = self.log_weights(x, index).cpu().numpy()
        return ImageWeights.of(log_w, np.array([log_w.mean()]))

    def seconds(self, x: NDArray[np.uint8], index: int) -> float:
        """Return the expected seconds per image, estimated from a few steps."""
        self._refuse_too_many()
        n = min(self.n_steps, 10)
        self._anneal(x, index, 1)
        started = time.perf_counter()
        self._anneal(x, index, n)
        return (time.perf_counter() - started) * self.n_steps / n

    def _refuse_too_many(self) -> None:
        """Raise ConfigError if the noise and latents of the chains alone exceed the memory."""
        model = self.model
        numbers = 3 * sum(model.n_noise) + 3 * model.n_units + model.n_layers * model.n_continuous
        what = f"annealing {self.n_samples} chains"
        if model.device.type == "cpu":
            require_memory(4 * numbers * self.n_samples, "--ais-chains", what, "give fewer")

    def log_weights(self, x: NDArray[np.uint8], index: int) -> Tensor:
        """Return log w + log Z of every chain, shape (n_samples,), float64, nats."""
        return self._anneal(x, index, self.n_steps)

    @torch.no_grad()
    def _anneal(self, x: NDArray[np.uint8], index: int, n_steps: int) -> Tensor:
        image = self.model.image(torch.from_numpy(x))
        generator = torch_generator(self.seed, "annealing", index, device=self.model.device)
        rho, eps = self.model.noise(self.n_samples, generator)
        return anneal(lambda *noise: image.weight_parts(*noise).sum(0), rho, eps, n_steps, generator)


def anneal(
    log_w: Callable[[Tensor, Tensor], Tensor], rho: Tensor, eps: Tensor, n_steps: int, generator: torch.Generator
) -> Tensor:
    """Return the log weights of annealed chains, shape (n_chains,), float64.

    Parameters
    ----------
    log_w : callable
        f(ρ, ε), shape (n_chains,).
    rho, eps : shape (n_chains, n_uniform), (n_chains, n_normal)
        Start of the chains, drawn from q; overwritten.
    n_steps : int
        Number of intervals of β.
    generator : torch.Generator
    """
    f = log_w(rho, eps)
    total = torch.zeros_like(f, dtype=torch.float64)
    for step in range(n_steps):
        total += f.double() / n_steps
        beta = (step + 1) / n_steps
        if step + 1 == n_steps:
            break  # moves after the last weight would have no effect
        for propose in (_other_rho, _other_eps):
            candidate = propose(rho, eps, generator)
            f_candidate = log_w(*candidate)
            log_u = torch.empty_like(f).exponential_(generator=generator).neg_()
            accepted = log_u < beta * (f_candidate - f)
            for state, new in zip((rho, eps), candidate, strict=True):
                torch.where(accepted[:, None], new, state, out=state)
            f = torch.where(accepted, f_candidate, f)
    return total


def _other_rho(rho: Tensor, eps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Redraw part of ρ: in every chain a random share, on average at least one number."""
    share = _steps(rho, 1 / rho.shape[1], generator)
    chosen = torch.empty_like(rho).uniform_(generator=generator) < share
    return torch.where(chosen, torch.empty_like(rho).uniform_(generator=generator), rho), eps


def _other_eps(rho: Tensor, eps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move ε by a preconditioned Crank-Nicolson step, √(1 - s²) ε + s ξ, with a random s per chain."""
    s = _steps(eps, SMALLEST_STEP, generator)
    return rho, (1 - s**2).sqrt() * eps + s * torch.empty_like(eps).normal_(generator=generator)


def _steps(like: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Return a step per chain, shape (n_chains, 1), log-uniform between `smallest` and 1."""
    return smallest ** like.new_empty(len(like), 1).uniform_(generator=generator)
