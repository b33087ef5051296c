"""An exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..model.dvae import DVAE


class WeightAverage:
    """A model whose weights are an exponential moving average of those of another.

    The running statistics of the batch norms are averaged in the same way: over the 1/(1 - decay) steps of the
    average, weights and statistics change little.

    Parameters
    ----------
    source : DVAE
        The model whose weights are averaged.
    decay : float
        Weight of the previous average in each step; at most (n + 1)/(n + 10) after n steps, so that the average
        forgets the initial weights.
    """

    def __init__(self, source: DVAE, decay: float) -> None:
        self.source, self.decay = source, decay
        self.model = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self, n_steps: int) -> None:
        """Update the average with the weights of the source after step number `n_steps`, counted from 0."""
        weight = max(1 - self.decay, 9 / (n_steps + 10))
        torch._foreach_lerp_(_floats(self.model), _floats(self.source), weight)


def _floats(model: nn.Module) -> list[Tensor]:
    """Return the floating-point parameters and buffers."""
    return [value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()]
