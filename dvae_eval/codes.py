"""Codes of images: binary units z drawn from a trained model's posterior."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.model.dvae import DVAE
from dvae_core.rng import torch_generator


@torch.no_grad()
def codes_of_images(model: DVAE, images: NDArray[np.uint8], seed: int = 0) -> NDArray[np.uint8]:
    """Return one draw of z from q(z|x) per image, shape (n, n_units), with units in the order of the prior.

    Draws are computed in float64, so that they do not depend on the number of threads.

    Parameters
    ----------
    model : DVAE
        In evaluation mode, on the CPU; its parameters become float64.
    images : {0, 1}, shape (n, n_pixels)
    seed : int
        Determines the draws.
    """
    n_noise = model.n_noise[0]
    generator = torch_generator(seed, "log_z", 11)
    rho = torch.rand((len(images), n_noise), generator=generator, dtype=torch.float64)
    x = torch.from_numpy(images).double()
    codes: NDArray[np.uint8] = model.double().posterior(x, rho).z.numpy().astype(np.uint8)
    return codes
