"""The training objective: the warmed-up bound or its importance-weighted version, with the negative phase."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..model.dvae import DVAE, Bound


def kl_weights(t: TrainConfig, epoch: float) -> tuple[float, float]:
    """Return the weight of all KL terms, and the additional weight of the RBM's, at a (fractional) epoch.

    The paper does not state the formula of its warm-up ("strength 20 for 5 epochs, and additional warm-up of
    strength 2 on the RBM alone for 20 epochs", App. H).  Here a weight starts at 1/strength and rises linearly
    to 1 over the given epochs.
    """

    def weight(strength: float, epochs: int) -> float:
        return 1.0 if epoch >= epochs else 1 / strength + (1 - 1 / strength) * epoch / epochs

    return weight(t.warmup_strength, t.warmup_epochs), weight(t.rbm_warmup_strength, t.rbm_warmup_epochs)


class Objective:
    """The loss of a minibatch and its gradients.

    With one sample per image all parameters ascend the evidence lower bound.  With K > 1 there are two objectives.

    The generative parameters θ, those of the prior, the continuous prior and the decoder, ascend the
    importance-weighted bound L_K = E[log 1/K Σ_k w_k] (Burda et al., 2016).  No sample depends on θ, so that

        ∂L_K/∂θ = E[Σ_k (w_k / Σ_l w_l) ∂/∂θ log p(x, z_k, 𝔷_k)]

    is estimated without bias: the wake phase of Bornschein & Bengio (2015).  Its part in log Z is again the
    negative phase of Eq. 11, since the normalised weights sum to one.

    All other parameters, φ, ascend the evidence lower bound averaged over the K samples, not L_K.  z jumps as φ
    changes, and Eq. 31 is the gradient only of expectations that are linear in z, which log Σ w_k is not.
    Differentiating it along the samples, as Burda et al. do for continuous latents, would omit the jumps and bias
    the gradient.  The sharpness of the smoothing also moves the samples, and belongs to φ.  The two updates
    together are not the gradient of a single function: θ ascends the tighter bound while KL[q || p] keeps the
    posterior close.

    During the warm-up of the KL terms, the same weights multiply the logarithms of the ratios p/q in w.

    Parameters
    ----------
    model : DVAE
    n_importance : int
        K, samples per image.
    compile : bool
        Compile the bound and the weights with torch.compile.
    """

    def __init__(self, model: DVAE, n_importance: int = 1, compile: bool = False) -> None:
        self.model, self.n_importance = model, n_importance
        generative = nn.ModuleList((model.prior, model.continuous_prior, model.decoder))
        self.theta = [p for p in generative.parameters() if p.requires_grad]
        ids = set(map(id, self.theta))
        self.phi = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
        self.bound = torch.compile(model.bound) if compile else model.bound
        self.weight_parts = torch.compile(model.weight_parts) if compile else model.weight_parts

    def noise(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return (ρ, ε) for n images on the generator's device: shape (n, .), or (K, n, .) if K > 1."""
        return noise_of(self.model, (n,) if self.n_importance == 1 else (self.n_importance, n), generator)

    def backward(
        self, x: Tensor, noise: tuple[Tensor, Tensor], log_z: Tensor, weights: tuple[float, float], n_images: int
    ) -> Bound:
        """Set the gradients of this process's share of the loss, and return the parts of the bound, shape (n,).

        Parameters
        ----------
        x : float, shape (n, n_pixels)
            The images of this process.
        noise : (ρ, ε)
            The part of the result of `noise` for these images.
        log_z : float, shape ()
            A scalar whose gradient is this process's share of the gradient of log Z: the negative phase.
        weights : (float, float)
            The result of `kl_weights`.
        n_images : int
            Images in the minibatch, over all processes.
        """
        negative_phase = weights[0] * weights[1] * log_z
        bound = self.bound(x, *noise)
        loss = _weighted_loss(bound, weights) / n_images
        if self.n_importance == 1:
            torch.autograd.backward(loss + negative_phase)
            return bound
        torch.autograd.backward(loss / self.n_importance, inputs=self.phi)
        log_w = self._log_w(x, noise, weights)
        wake = (math.log(self.n_importance) - log_w.logsumexp(0)).sum() / n_images
        torch.autograd.backward(wake + negative_phase, inputs=self.theta)
        return Bound(
            bound.reconstruction.mean(0), bound.kl_rbm.mean(0), [kl.mean(0) for kl in bound.kl_continuous]
        )

    def _log_w(self, x: Tensor, noise: tuple[Tensor, Tensor], weights: tuple[float, float]) -> Tensor:
        """Return the warmed-up log importance weights + log Z, shape (K, n)."""
        reconstruction, rbm, continuous = self.weight_parts(x, *noise)
        log_w: Tensor = reconstruction + weights[0] * (weights[1] * rbm + continuous)
        return log_w


def noise_of(model: DVAE, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return (ρ, ε), shape (*shape, .), for draws of the latents, on the device of the generator."""
    n_uniform, n_normal = model.n_noise
    rho = torch.rand((*shape, n_uniform), generator=generator, device=generator.device)
    return rho, torch.randn((*shape, n_normal), generator=generator, device=generator.device)


def _weighted_loss(bound: Bound, weights: tuple[float, float]) -> Tensor:
    """Return minus the warmed-up bound, without log Z, summed over images and samples."""
    kl = weights[1] * bound.kl_rbm.sum() + sum(layer.sum() for layer in bound.kl_continuous)
    return weights[0] * kl - bound.reconstruction.sum()
