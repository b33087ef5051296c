"""The curves of Figures 2a, 7 and 8: the smoothed ζ as a function of q for given noise ρ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dvae_core.config import ModelConfig
from dvae_core.types import Float

if TYPE_CHECKING:
    from dvae_core.model.smoothing import Smoothing


@dataclass(frozen=True, slots=True)
class SmoothingCurves:
    """The inverse CDF of one transformation.

    Attributes
    ----------
    smoothing : str
        Name of the transformation.
    q : float64, shape (n_q,)
        q(z = 1), increasing.
    rho : float64, shape (n_rho,)
    sharpness : list of float, or [None] if the transformation has none
    zeta : float64, shape (n_sharpness, n_rho, n_q)
        ζ = F^-1(ρ).
    """

    smoothing: str
    q: Float
    rho: Float
    sharpness: list[float] | list[None]
    zeta: Float


def smoothing_curves(
    smoothing: str,
    rho: tuple[float, ...] = (0.2, 0.5, 0.8),
    sharpness: tuple[float, ...] = (1.0, 3.0, 5.0),
    n_q: int = 401,
) -> SmoothingCurves:
    """Return the curves of the named transformation; for a Gaussian, those of the prior N(0, 1).

    Values of `sharpness` that the transformation does not allow are left out.
    """
    from dvae_core.model.smoothing import ScheduledSharpness, make_smoothing

    q = np.linspace(0.001, 0.999, n_q)
    transformation = make_smoothing(ModelConfig(smoothing=smoothing, sharpness=80.0)).double()
    if not isinstance(transformation, ScheduledSharpness):
        return SmoothingCurves(smoothing, q, np.array(rho), [None], _zeta(transformation, q, rho)[None])
    allowed = [s for s in sharpness if s > getattr(transformation, "floor", 0.0)]
    zeta = []
    for s in allowed:
        transformation.set_sharpness(s)
        zeta.append(_zeta(transformation, q, rho))
    return SmoothingCurves(smoothing, q, np.array(rho), allowed, np.stack(zeta))


def _zeta(transformation: Smoothing, q: Float, rho: tuple[float, ...]) -> Float:
    """Return ζ, shape (n_rho, n_q)."""
    import torch

    logits = torch.logit(torch.from_numpy(q))
    output = torch.cat((logits, torch.zeros((transformation.n_outputs - 1) * len(q), dtype=torch.float64)))
    noise = torch.tensor(rho, dtype=torch.float64)[:, None].expand(-1, transformation.n_uniform * len(q))
    zeta: Float = transformation(output, noise).zeta.detach().numpy()
    return zeta
