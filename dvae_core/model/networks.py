"""Feedforward networks with the paper's L1 batch normalisation (Section 5, App. H.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .. import distributed
from .closed_form import is_usable, l1_normalise, linear_of_parts


class L1BatchNorm(nn.Module):
    """Batch normalisation by the mean absolute deviation: y = x - mean(x); y / (mean|y| + ε) s + o (App. H.2).

    Training uses the statistics of the minibatch and updates their running means; evaluation uses the running
    means.

    Parameters
    ----------
    n : int
        Number of features, the last axis.
    bounded : bool
        Keep 2 <= s <= 3 and -s <= o <= s, as the paper does for the posterior over the RBM units, by the
        parameterisation s = 2 + σ(a), o = s tanh(c).
    n_uses : int
        Number of places in the model that apply this layer.  They share s and o.  Each has its own running
        statistics, because the distributions of their inputs differ.
    """

    running_mean: Tensor
    running_spread: Tensor

    def __init__(
        self, n: int, bounded: bool = False, n_uses: int = 1, momentum: float = 0.1, eps: float = 1e-3
    ) -> None:
        super().__init__()
        self.bounded, self.n_uses, self.momentum, self.eps = bounded, n_uses, momentum, eps
        self.raw_scale = nn.Parameter(torch.zeros(n) if bounded else torch.ones(n))
        self.raw_offset = nn.Parameter(torch.zeros(n))
        # A flat vector, one use after another; with one use, the plain statistics.
        self.register_buffer("running_mean", torch.zeros(n_uses * n))
        self.register_buffer("running_spread", torch.ones(n_uses * n))

    @property
    def scale(self) -> Tensor:
        """The scale s, shape (n,)."""
        return 2 + self.raw_scale.sigmoid() if self.bounded else self.raw_scale

    @property
    def offset(self) -> Tensor:
        """The offset o, shape (n,)."""
        return self.scale * self.raw_offset.tanh() if self.bounded else self.raw_offset

    def affine(self, use: int = 0) -> tuple[Tensor, Tensor]:
        """Return (a, c), shape (n,) each, of the map a x + c that evaluation applies in place `use`."""
        mean = self.running_mean.view(self.n_uses, -1)[use]
        scale = self.scale / (self.running_spread.view(self.n_uses, -1)[use] + self.eps)
        return scale, self.offset - mean * scale

    def forward(self, x: Tensor, use: int = 0) -> Tensor:
        """Normalise x, shape (..., n), over all leading axes, with the running statistics of place `use`."""
        running_mean = self.running_mean.view(self.n_uses, -1)[use]
        running_spread = self.running_spread.view(self.n_uses, -1)[use]
        if not self.training:
            return (x - running_mean) / (running_spread + self.eps) * self.scale + self.offset
        scale, offset = self.scale, self.offset
        if is_usable(x):
            normalised, mean, spread = l1_normalise(x, scale, offset, self.eps)
        else:
            axes = tuple(range(x.dim() - 1))
            mean = _batch_mean(x, axes)
            spread = _batch_mean((x - mean).abs(), axes)
            normalised = (x - mean) / (spread + self.eps) * scale + offset
        with torch.no_grad():
            running_mean.lerp_(mean, self.momentum)
            running_spread.lerp_(spread, self.momentum)
        return normalised


def _batch_mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the mean of x over `axes` and over all processes, in float32 or wider."""
    if distributed.size() == 1:
        return x.mean(axes, dtype=_wide(x.dtype))
    n = x.new_full((1,), x[..., 0].numel(), dtype=_wide(x.dtype))
    sums = distributed.all_reduce(torch.cat((x.sum(axes, dtype=_wide(x.dtype)), n)))
    return sums[:-1] / sums[-1]


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return `dtype`, or float32 if that is wider."""
    return torch.promote_types(dtype, torch.float32)


def _maybe_mixed_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make an MLP's `forward` multiply matrices in bfloat16 if its `mixed_precision` is set."""

    @wraps(forward)
    def wrapped(self: MLP, *inputs: Tensor, **more: Any) -> Tensor:
        if not (self.mixed_precision and self.training):
            return forward(self, *inputs, **more)
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            return forward(self, *inputs, **more).float()

    return wrapped


class Linear(nn.Linear):
    """A linear map; in training with its derivative in closed form."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W' + bias, shape (..., n_out)."""
        return (
            linear_of_parts(self.weight, self.bias, (x,)) if self.training and is_usable(x) else super().forward(x)
        )


class MLP(nn.Module):
    """Hidden layers (linear map, L1 batch norm, ReLU), then a linear map; the inputs are concatenated.

    The leading axes of the inputs need only broadcast: the product with an input without a samples axis is
    computed once for all samples of the others.

    Parameters
    ----------
    sizes : sequence of int
        Widths of the inputs.
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear network.
    n_out : int
        Width of the output.
    bounded_norm : bool
        Normalise the output by a bounded `L1BatchNorm`; used for the logits of the RBM units.
    n_uses : int
        Number of places in the model that share this network (App. H); see `L1BatchNorm`.
    n_free : int
        Number of additional outputs, after these, which are not normalised.

    Attributes
    ----------
    mixed_precision : bool
        Multiply matrices in bfloat16 during training; False by default.  Statistics and outputs stay float32.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        hidden: Sequence[int],
        n_out: int,
        bounded_norm: bool = False,
        n_uses: int = 1,
        n_free: int = 0,
    ) -> None:
        super().__init__()
        self.sizes = [size for size in sizes if size]
        self.n_free = n_free
        widths = (sum(self.sizes), *hidden, n_out + n_free)
        self.linears = nn.ModuleList(Linear(a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(L1BatchNorm(width, n_uses=n_uses) for width in hidden)
        self.output_norm = L1BatchNorm(n_out, bounded=True) if bounded_norm else nn.Identity()
        self.mixed_precision = False

    @_maybe_mixed_precision
    def forward(self, *inputs: Tensor, use: int = 0) -> Tensor:
        """Return the output, shape (..., n_out + n_free), for inputs of shapes (..., size) that broadcast."""
        h = self._first([x for x in inputs if x.shape[-1]])
        for linear, norm in zip(list(self.linears)[1:], self.norms, strict=True):
            h = linear(norm(h, use).relu())
        if not self.n_free:
            output: Tensor = self.output_norm(h)
            return output
        h, free = h[..., : -self.n_free], h[..., -self.n_free :]
        return torch.cat((self.output_norm(h), free), -1)

    def freeze_redundant_biases(self) -> None:
        """Freeze biases that a batch norm cancels: their gradient is rounding noise, which Adam would amplify."""
        normed = len(self.norms) + (isinstance(self.output_norm, L1BatchNorm) and not self.n_free)
        for linear in self.linears[:normed]:
            linear.bias.requires_grad_(False)

    def _first(self, inputs: list[Tensor]) -> Tensor:
        """Return the first layer's linear map of all inputs."""
        layer = self.linears[0]
        assert isinstance(layer, nn.Linear)  # for the type checker
        if self.training and is_usable(inputs[0]) and len({x.shape[:-1] for x in inputs}) == 1:
            return linear_of_parts(layer.weight, layer.bias, inputs)
        first, *rest = torch.split(layer.weight, self.sizes, dim=1)
        h = nn.functional.linear(inputs[0], first, layer.bias)
        for x, weight in zip(inputs[1:], rest, strict=True):
            h = h + nn.functional.linear(x, weight)
        return h
