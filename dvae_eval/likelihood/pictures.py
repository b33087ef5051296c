"""Which images a likelihood is shown by, and how the model reconstructs them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import TrainedModel

from ..results import LikelihoodResult
from .images import LikelihoodImages

__all__ = ["picture_images"]

N_WORST, N_TYPICAL = 20, 20
# Draws of the latents that a mean reconstruction is the mean of.
N_DRAWS = 100


def picture_images(result: LikelihoodResult, trained: TrainedModel, images: NDArray[np.uint8]) -> LikelihoodImages:
    """Return the images of a result: all numbers, and pictures of the worst and of some from worst to best.

    Parameters
    ----------
    result : LikelihoodResult
    trained : TrainedModel
        The model that it is of.
    images : uint8, shape (n, n_pixels)
        The data set that it was made on.
    """
    columns = {name: np.asarray(values) for name, values in result.per_image.items()}
    order = np.argsort(columns["log_likelihood"])
    spread = np.linspace(0, len(order) - 1, min(N_TYPICAL, len(order))).round().astype(np.int64)
    shown = np.concatenate((order[:N_WORST], order[spread]))
    x = images[columns["index"][shown]]
    draws, means = _reconstructions(trained, x, result.seed)
    shape = (len(x), *trained.image_shape)
    originals, draws, means = (array.reshape(shape) for array in (x * np.uint8(255), draws, means))
    meta = {"model": result.model, "seed": result.seed}
    return LikelihoodImages(columns, shown, len(order[:N_WORST]), originals, draws, means, meta)


@torch.no_grad()
def _reconstructions(
    trained: TrainedModel, images: NDArray[np.uint8], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the reconstruction of each image by one draw from q, and its mean over many, as grey levels."""
    model = trained.model
    x = torch.from_numpy(images).to(model.groups.device, model.prior.W.dtype)
    generator = torch_generator(seed, "samples", 1, device=x.device)
    rho, eps = (x.new_empty(N_DRAWS, len(x), n) for n in model.n_noise)
    latents = model.sample_posterior(x, rho.uniform_(generator=generator), eps.normal_(generator=generator))
    p = model.decode(latents.discrete.zeta, latents.layers).sigmoid()
    draw, mean = ((255 * grey).round().to(torch.uint8).cpu().numpy() for grey in (p[0], p.mean(0)))
    return draw, mean
