"""The path of distributions from a mixture of products, t = 0, to a Boltzmann machine, t = 1.

A mixture whose components are at the machine's modes relieves the path of moving mass between basins, as one from
a uniform reference must.  A categorical unit k is added, which selects the component:

    p~_t(v, h, k) = exp(t (v'Wh + v'Jv/2 + b'v + c'h) + (1 - t) (log π_k - A_k + a_k'v + d_k'h)) / K,

with A_k the log normaliser of the k-th product.  Given k this is a machine with other biases, so block Gibbs still
applies.  At t = 0 it is the mixture, with Z_0 = 1 / K, and is drawn directly; at t = 1, k is uniform and
independent, and Z_1 = Z.  Separate basins of weights w_k have weights π_k^(1-t) w_k^t in between, which are
constant if π = w. (With π_k kept at t = 1, where Z_1 = Z as well, they would be π_k w_k^t.)

Both h and k are summed out in potentials, and k is drawn again in every sweep, so that v is the whole state.

    log p~_t(v) = log Σ_k exp L_k(t),
    L_k(t) = t (v'Jv/2 + b'v) + (1 - t) (log π_k - A_k + a_k'v)
             + Σ_j softplus(t (c + W'v)_j + (1 - t) d_kj) - log K
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.model.tempered import Beta, Classes, Tempered, bernoulli
from dvae_core.types import Float

from ..machine import Reduced
from .reference import Reference, parts_of_path
from .trajectory import TrajectoryReference


@dataclass(frozen=True, slots=True)
class MixtureReference:
    """A mixture of products over all units, the start of a path.

    Attributes
    ----------
    weights : float64, shape (K,)
        π, positive, with sum 1.
    b, c : float64, shape (K, n_kept), (K, n_summed)
        Logits a_k and d_k of the components, with the units in the order of `Machine.reduced`.
    """

    weights: Float
    b: Float
    c: Float

    @property
    def log_z(self) -> float:
        """Log Z_0 = -log K: add it to log Z_1 / Z_0 to obtain log Z, nats."""
        return -math.log(len(self.weights))

    @property
    def log_constants(self) -> Float:
        """Return log π_k - A_k, shape (K,)."""
        constants: Float = np.log(self.weights) - np.logaddexp(0, self.b).sum(1) - np.logaddexp(0, self.c).sum(1)
        return constants

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
        """Return n states of the kept units, (n, n_kept)."""
        logits = self.b[rng.choice(len(self.weights), n, p=self.weights)]
        is_on: NDArray[np.bool_] = rng.random(logits.shape) < np.exp(-np.logaddexp(0, -logits))
        return is_on

    def path(
        self, reduced: Reduced, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> MixturePath:
        """Return the path from this mixture to a machine; ConfigError if it does not fit the machine."""
        parts = parts_of_path(reduced, self.b, self.c, device, dtype)
        weights, constants, a, d = map(torch.from_numpy, (self.weights, self.log_constants, self.b, self.c))
        a, d = a.to(device, dtype), d.to(device, dtype)
        return MixturePath(*parts, weights=weights.to(device), log_constants=constants.to(device), a=a, d=d)

    def state_dict(self) -> dict[str, Float]:
        """Return the parameters as plain arrays."""
        return {"weights": self.weights, "b": self.b, "c": self.c}


AnyReference = Reference | MixtureReference | TrajectoryReference


@dataclass(frozen=True, slots=True, kw_only=True)
class MixturePath(Tempered):
    """A machine's path from a mixture.

    Attributes
    ----------
    weights, log_constants : float64, shape (K,)
    a, d : shape (K, n_kept), (K, n_summed)
        Logits of the components.
    """

    weights: Tensor
    log_constants: Tensor
    a: Tensor
    d: Tensor

    def at_zero(self, v: Tensor) -> Tensor:
        """Return log π_k - A_k + a_k'v, float64, shape (n, K)."""
        return self.log_constants + v.double() @ self.a.double().T

    def log_weights(
        self, v: Tensor, beta: Beta, field: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """Return L_k(t), float64, shape (n, K), of states (n, n_kept) at t, a number or (n, 1)."""
        field = (self.field(v) if field is None else field).double()
        beta = beta.double() if isinstance(beta, Tensor) else beta
        shared = v.double() @ self.b.double() + (self.pairs(v, torch.float64) if pairs is None else pairs)
        # One component at a time, because all at once would need K times the memory of anything else.
        hidden = [softplus(torch.lerp(d, field, beta), threshold=40).sum(-1) for d in self.d.double()]
        shared = beta * shared[:, None] - math.log(len(self.weights))
        return shared + (1 - beta) * self.at_zero(v) + torch.stack(hidden, -1)

    def log_p(
        self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """Return log p~_t(v), float64, shape (n,)."""
        return self.log_weights(v, beta, field, pairs).logsumexp(-1)

    def log_ratio(self, v: Tensor, field: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (n,)."""
        return self.log_p(v, new, field) - self.log_p(v, old, field)

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn from the mixture, (n, n_kept)."""
        k = torch.multinomial(self.weights.float(), n, True, generator=generator)
        return bernoulli(self.a[k].sigmoid(), generator)

    def sweep(
        self, v: Tensor, field: Tensor, beta: Beta, generator: torch.Generator, classes: Classes
    ) -> tuple[Tensor, Tensor]:
        """Draw the component given v, or from the weights at t = 0, then h and v given the component."""
        p = self.log_weights(v, beta, field).softmax(-1)
        if isinstance(beta, Tensor):
            p = torch.where(beta == 0, self.weights, p)
        k = torch.multinomial(p.float(), 1, generator=generator)[:, 0]
        given = Tempered(self.W, self.b, self.c, self.J, self.blocks, self.a[k], self.d[k])
        return given.sweep(v, field, beta, generator, classes)
