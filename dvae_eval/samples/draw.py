"""Pictures of what a model has learned: samples as in Figure 5, and reconstructions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvae_core.model.prior_states import BURN_IN
from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import TrainedModel

from ..trained import model_description
from .grid import SampleGrid


@torch.no_grad()
def draw_sample_grid(
    trained: TrainedModel,
    images: NDArray[np.uint8],
    *,
    seed: int = 0,
    n_rows: int = 8,
    n_chains: int = 4,
    n_draws: int = 5,
    n_sweeps: int = 100,
) -> SampleGrid:
    """Draw samples from persistent chains on the prior, and reconstruct some images; the latents are stored, too.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    images : uint8, shape (n, n_pixels)
        Binary images to reconstruct.
        Determines the pictures.
        Fixes the pictures.
        Number of rows, and of block Gibbs sweeps of the same chains between two rows.
        Rows, with this many block Gibbs sweeps of the same chains between them.
        Number of chains side by side, and of draws of the continuous latents per state of a chain.
        Chains side by side, and draws of the continuous latents for each state of a chain.
    """
    model = trained.model
    generator = torch_generator(seed, "samples", device=model.groups.device)
    z = model.prior.gibbs(model.prior.initial_state(n_chains, generator), BURN_IN, generator)
    rows: list[Tensor] = []
    kept: dict[str, list[Tensor]] = {"z": [], "zeta": [], "continuous": []}
    for _ in range(n_rows):
        z = model.prior.gibbs(z, n_sweeps, generator)
        rho = _noise(torch.rand, (n_chains, model.prior.n_units), generator)
        eps = _noise(torch.randn, (n_draws, n_chains, model.n_noise[1]), generator)
        # One ζ per RBM state, shared by its draws.
        zeta = model.smoothing.sample(z, rho).expand(n_draws, -1, -1)
        layers = model.continuous_prior.sample(zeta, eps)
        rows.append(model.decode(zeta, layers).sigmoid().transpose(0, 1))
        kept["z"].append(z)
        kept["zeta"].append(zeta.transpose(0, 1))
        kept["continuous"].append(torch.cat([*layers, zeta[..., :0]], -1).transpose(0, 1))
    x = torch.from_numpy(images).to(generator.device).float()
    rho, eps = (
        _noise(f, (len(x), n), generator) for f, n in zip((torch.rand, torch.randn), model.n_noise, strict=True)
    )
    latents = model.sample_posterior(x, rho, eps)
    reconstructions = model.decode(latents.discrete.zeta, latents.layers).sigmoid()
    shape = trained.image_shape
    meta = {"model": model_description(trained), "n_sweeps": n_sweeps, "seed": seed}
    pictures = (_grey(torch.stack(rows), shape), _grey(x, shape), _grey(reconstructions, shape))
    return SampleGrid(*pictures, meta, {name: _array(torch.stack(found)) for name, found in kept.items()})


def _array(values: Tensor) -> NDArray[np.float32]:
    """Return latents as an array."""
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array


def _noise(draw: object, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return noise of `shape` from torch.rand or torch.randn."""
    noise: Tensor = draw(shape, generator=generator, device=generator.device)  # type: ignore[operator]
    return noise


def _grey(p: Tensor, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return probabilities (..., n_pixels) as grey levels 0..255 (..., height, width)."""
    levels: NDArray[np.uint8] = (p * 255).round().to(torch.uint8).cpu().numpy().reshape(*p.shape[:-1], *shape)
    return levels
