"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..model.dvae import DVAE


class WeightAverage:
    """A model whose weights follow those of another with a delay: often better, and always smoother.

    The running statistics of the batch norms are averaged like the weights that they belong to: over the
    1/(1 - decay) steps that the average looks back on, both change little.

    Parameters
    ----------
    source : DVAE
        The model to follow.
    decay : float
        Share of the average that each step keeps.  Early on it is less, (n + 1)/(n + 10) after n steps, so that
        the initial weights are forgotten.
    """

    def __init__(self, source: DVAE, decay: float) -> None:
        self.source, self.decay = source, decay
        self.model = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self, n_steps: int) -> None:
        """Move towards the weights that the source has after step number `n_steps`, counted from 0."""
        weight = max(1 - self.decay, 9 / (n_steps + 10))
        torch._foreach_lerp_(_floats(self.model), _floats(self.source), weight)


def _floats(model: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers that are floating point numbers."""
    return [value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()]
