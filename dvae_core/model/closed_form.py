"""Linear map and L1 batch norm with derivatives in closed form: fewer passes over memory than by autograd.

`MLP` and `L1BatchNorm` in `networks` define both by formulas, and call these functions in training if `is_usable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from .. import distributed


def is_usable(x: Tensor) -> bool:
    """Return whether these functions apply: one process, no autocast, and no torch.compile, which fuses itself."""
    compiling = torch.compiler.is_compiling()
    return not (compiling or torch.is_autocast_enabled(x.device.type)) and distributed.size() == 1


def linear_of_parts(weight: Tensor, bias: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Return the linear map of the concatenation of several inputs, shape (..., n_out).

    Parameters
    ----------
    weight : float, shape (n_out, n_in)
    bias : float, shape (n_out,)
    inputs : sequence of float, shape (..., size) each
        Their sizes sum to `n_in`, and their leading axes are the same.
    """
    result: Tensor = _LinearOfParts.apply(weight, bias, *inputs)  # type: ignore[no-untyped-call]
    return result


def l1_normalise(x: Tensor, scale: Tensor, offset: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x by the mean absolute deviation over all leading axes (App. H.2).

    Parameters
    ----------
    x : float, shape (..., n)
    scale, offset : float, shape (n,)
    eps : float

    Returns
    -------
    normalised : float, shape (..., n)
    mean, spread : float, shape (n,)
        The statistics of the minibatch, without gradient.
    """
    found: tuple[Tensor, Tensor, Tensor] = _L1Normalise.apply(x, scale, offset, eps)  # type: ignore[no-untyped-call]
    return found


class _LinearOfParts(torch.autograd.Function):
    """Implements `linear_of_parts` for the concatenated inputs X: one product per result and gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *inputs: Tensor) -> Tensor:
        """Return X W' + bias."""
        joined = torch.cat(inputs, -1) if len(inputs) > 1 else inputs[0].contiguous()
        rows = joined.view(-1, joined.shape[-1])
        ctx.save_for_backward(weight, rows)
        ctx.sizes = [x.shape[-1] for x in inputs]
        return product(rows, weight, bias).view(*joined.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return g'X, Σ g, and for each input with a gradient g times its columns of W."""
        weight, rows = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1]).contiguous()
        columns = weight.split(ctx.sizes, 1)
        grads = [
            product(g, part.contiguous().T).view(*grad.shape[:-1], -1) if needed else None
            for part, needed in zip(columns, ctx.needs_input_grad[2:], strict=True)
        ]
        grad_bias = g.sum(0) if ctx.needs_input_grad[1] else None
        return product(g.T, rows.T), grad_bias, *grads


def _onednn() -> Any:
    """Return oneDNN's matrix product, or None if it is absent or not known to be faster."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    fast = built and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None) if fast else None


# torch's default in float32, MKL, takes twice as long on AMD's processors, where it does not use AVX-512.
_ONEDNN = _onednn()


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return a b' + bias, or its positive part with `relu`.

    Parameters
    ----------
    a, b : float, shapes (n, n_in), (n_out, n_in)
        With one of the strides 1.
    bias : float, shape (n_out,), optional
    relu : bool
        Set negative numbers to 0.
    """
    # oneDNN refuses empty matrices.
    if _ONEDNN is None or a.device.type != "cpu" or a.dtype != torch.float32 or not a.numel():
        return linear(a, b, bias).relu_() if relu else linear(a, b, bias)
    result: Tensor = _ONEDNN(a, b, bias, "relu" if relu else "none", [], "")
    return result


class _L1Normalise(torch.autograd.Function):
    """Implements `l1_normalise`: y / d s + o, with y = x - mean(x) and d = mean|y| + ε."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised x, and the statistics."""
        axes = tuple(range(x.dim() - 1))
        mean = x.mean(axes)
        y = x - mean
        spread = y.abs().mean(axes)
        d = spread + eps
        slope = scale / d
        ctx.save_for_backward(y, d, slope)
        ctx.mark_non_differentiable(mean, spread)
        return torch.addcmul(offset, y, slope), mean, spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients in x, s and o for g, that of the result.

        With a = s / d and k = a / d mean(g y),

            dL/dx = a (g - mean(g)) - k (sign(y) - mean(sign(y))),   dL/ds = Σ g y / d,   dL/do = Σ g.
        """
        y, d, slope = ctx.saved_tensors
        axes, n = tuple(range(y.dim() - 1)), y[..., 0].numel()
        sign = y.sign()
        sum_g, sum_gy, sum_sign = grad.sum(axes), (grad * y).sum(axes), sign.sum(axes)
        k = slope / d * sum_gy / n
        grad_x = torch.addcmul((k * sum_sign - slope * sum_g) / n, grad, slope).addcmul_(sign, k, value=-1)
        return grad_x, sum_gy / d, sum_g, None
