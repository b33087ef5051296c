"""A Boltzmann machine on its path from independent units: fields, reduced potentials and block Gibbs sweeps.

p_β(v, h) ∝ exp(β (v'Wh + v'Jv / 2 + b'v + c'h) + (1 - β) (b_0'v + c_0'h)), a geometric path.  The logits of a unit
at β are between those at the ends: β x + (1 - β) x_0.  With h summed out,

    log p~_β(v) = β (v'Jv / 2 + b'v) + (1 - β) b_0'v + Σ_j log(1 + exp(β (c + W'v)_j + (1 - β) c_0j)),

which is not linear in β: a ratio needs both ends of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Beta = Tensor | float
# Classes of kept units, each with its columns of J.
Classes = Sequence[tuple[slice, Tensor]]


@dataclass(frozen=True, slots=True)
class Tempered:
    """A machine whose units v are kept and whose units h, independent given v, can be summed out.

    Attributes
    ----------
    W : shape (n_kept, n_summed)
        May be sparse, or have a leading axis for several machines, as may b and c.
    b, c : shape (n_kept,), (n_summed,)
    J : shape (n_kept, n_kept), or None
        Symmetric couplings among the kept units, which may be sparse; None if there are none.
    blocks : tuple of slice
        With J: classes of kept units that can be drawn at once.
    b_0, c_0 : shape (n_kept,), (n_summed,), or with one row per chain
        Logits at β = 0; None for uniform units.
    """

    W: Tensor
    b: Tensor
    c: Tensor
    J: Tensor | None = None
    blocks: tuple[slice, ...] = ()
    b_0: Tensor | None = None
    c_0: Tensor | None = None

    def field(self, v: Tensor) -> Tensor:
        """Return the logits of h given v at β = 1: c + v'W."""
        return _affine(self.c, v, self.W)

    def pairs(self, v: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return v'Jv / 2, shape (...)."""
        return v.new_zeros(v.shape[:-1]) if self.J is None else (v @ self.J * v).sum(-1, dtype=dtype) / 2

    def log_p(
        self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """Return log p~_β(v), shape (...), of states (..., n_kept) at β, a number or (..., 1).

        Pass `field` and `pairs` of these states if they are known.
        """
        kept = v @ self.b
        if self.J is not None:
            kept = kept + (self.pairs(v) if pairs is None else pairs)
        x = between(self.c_0, v @ self.W + self.c if field is None else field, beta)
        of_kept = beta.squeeze(-1) if isinstance(beta, Tensor) else beta
        return between(None if self.b_0 is None else v @ self.b_0, kept, of_kept) + _softplus(x).sum(-1)

    def kept_slope(self, v: Tensor) -> Tensor:
        """Return the kept units' part of d log p~_β(v) / dβ, float64, shape (...)."""
        slope = (v @ (self.b if self.b_0 is None else self.b - self.b_0)).double()
        return slope if self.J is None else slope + self.pairs(v, torch.float64)

    def log_ratio(self, v: Tensor, field: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (...).

        Differences are taken per unit before summation, which keeps their digits.
        """
        hidden = _softplus(between(self.c_0, field, new)).sub_(_softplus(between(self.c_0, field, old)))
        return hidden.sum(-1, dtype=torch.float64) + (new - old) * self.kept_slope(v)

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn at β = 0, shape (n, n_kept)."""
        logits = torch.zeros_like(self.b) if self.b_0 is None else self.b_0
        return bernoulli(logits.sigmoid().expand(n, -1), generator)

    def classes(self) -> Classes:
        """Return the classes of `blocks` with their couplings, for many sweeps."""
        if self.J is None:
            return ()
        units = torch.arange(len(self.b), device=self.b.device)
        return tuple((block, self.J.index_select(1, units[block])) for block in self.blocks)

    def sweep(
        self, v: Tensor, field: Tensor, beta: Beta, generator: torch.Generator, classes: Classes
    ) -> tuple[Tensor, Tensor]:
        """Draw h given v, then v given h, class by class; return the new v and h.

        Parameters
        ----------
        v : shape (n_chains, n_kept)
            Not modified.
        field : shape (n_chains, n_summed)
            That of v; overwritten.
        beta : float or shape (n_chains, 1)
            The sweep leaves p_β invariant.
        classes
            Those of `classes`, in any order.
        """
        h = _draw(self.c_0, field, beta, generator)
        x = _affine(self.b, h, self.W.mT)
        if self.J is None:
            return _draw(self.b_0, x, beta, generator), h
        v = v.clone()
        for block, J in classes:
            b_0 = None if self.b_0 is None else self.b_0[..., block]
            _draw(b_0, _affine(x[:, block], v, J), beta, generator, out=v[:, block])
        return v, h


def between(x_0: Tensor | None, x: Tensor, beta: Beta) -> Tensor:
    """Return β x + (1 - β) x_0, with x_0 = 0 if it is None."""
    if x_0 is not None:
        return torch.lerp(x_0, x, beta)
    return x if _is_one(beta) else x * beta


def _is_one(beta: Beta) -> bool:
    """Return whether to skip a multiplication, which takes as long as a sum."""
    return not isinstance(beta, Tensor) and beta == 1


def bernoulli(p: Tensor, generator: torch.Generator, out: Tensor | None = None) -> Tensor:
    """Draw 0 or 1 with probabilities p, with the same random numbers for any strides of p."""
    uniform = torch.empty_like(p, memory_format=torch.contiguous_format).uniform_(generator=generator)
    return torch.lt(uniform, p, out=uniform if out is None else out)


def softplus_step(x: Tensor, step: Tensor) -> Tensor:
    """Return Σ_j softplus(x_j + step_j) - softplus(x_j), float64, without losing digits where x is large.

    Twice the work of the plain difference.
    """
    linear = torch.maximum(step + x.clamp(max=0), -x.clamp(min=0))
    rest = torch.log1p((-(x + step).abs()).exp_()) - torch.log1p((-x.abs()).exp_())
    return (linear + rest).sum(-1, dtype=torch.float64)


def _draw(
    x_0: Tensor | None, x: Tensor, beta: Beta, generator: torch.Generator, out: Tensor | None = None
) -> Tensor:
    """Draw units with logits x at β = 1, which are overwritten, and x_0 at β = 0."""
    if x_0 is not None:
        x = torch.lerp(x_0, x, beta)
    elif not _is_one(beta):
        x.mul_(beta)
    return bernoulli(x.sigmoid_(), generator, out)


def _softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), which is x above a threshold where the difference is below the rounding of x."""
    return functional.softplus(x, threshold=40 if x.dtype == torch.float64 else 20)


def _affine(own: Tensor, states: Tensor, W: Tensor) -> Tensor:
    """Return own + states @ W."""
    return own + states @ W if W.is_sparse or W.ndim > 2 else torch.addmm(own, states, W)
