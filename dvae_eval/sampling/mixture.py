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

from dvae_core.errors import ConfigError
from dvae_core.types import Float

from ..machine import Machine
from .reference import Path, Reference, bernoulli
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
        self, machine: Machine, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> MixturePath:
        """Return the path from this mixture to a machine, as tensors."""
        return MixturePath(machine, self, device, dtype)

    def state_dict(self) -> dict[str, Float]:
        """Return the parameters as plain arrays."""
        return {"weights": self.weights, "b": self.b, "c": self.c}


AnyReference = Reference | MixtureReference | TrajectoryReference


class MixturePath(Path):
    """A machine's path from a mixture, as tensors; see `Path`."""

    def __init__(
        self,
        machine: Machine,
        mixture: MixtureReference,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(machine, None, device, dtype)
        reduced = self.reduced
        if (mixture.b.shape[1:], mixture.c.shape[1:]) != (reduced.b.shape, reduced.c.shape):
            raise ConfigError(
                f"the reference has {mixture.b.shape[1]} kept and {mixture.c.shape[1]} summed-out units, the "
                f"machine has {reduced.b.size} and {reduced.c.size}; fit it to this machine"
            )
        self.mixture, self.weights = mixture, torch.from_numpy(mixture.weights).to(device)
        self.log_constants = torch.from_numpy(mixture.log_constants).to(device)
        self.a, self.d = (torch.from_numpy(x).to(device, dtype) for x in (mixture.b, mixture.c))

    @property
    def log_z_0(self) -> float:
        """Log Z at t = 0, nats."""
        return self.mixture.log_z

    def log_weights(self, v: Tensor, beta: float, vW: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
        """Return L_k(t), float64, shape (n, K), of states (n, n_kept)."""
        pairs = self.pairs(v) if pairs is None else pairs
        field = (self.c + (v @ self.W if vW is None else vW)).double()
        of_components = self.log_constants + v.double() @ self.a.double().T
        shared = beta * (v.double() @ self.b.double() + pairs) + self.mixture.log_z
        # One component at a time, because all at once would need K times the memory of anything else.
        hidden = [
            softplus(torch.lerp(d, field, beta), threshold=40).sum(-1, dtype=torch.float64)
            for d in self.d.double()
        ]
        return shared[:, None] + (1 - beta) * of_components + torch.stack(hidden, -1)

    def log_p(self, v: Tensor, beta: float, vW: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
        """Return log p~_t(v), float64, shape (n,)."""
        return self.log_weights(v, beta, vW, pairs).logsumexp(-1)

    def log_ratio(self, v: Tensor, vW: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (n,)."""
        return self.log_p(v, new, vW) - self.log_p(v, old, vW)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn from the mixture, (n, n_kept)."""
        k = torch.multinomial(self.weights.float(), n, True, generator=generator)
        return bernoulli(self.a[k].sigmoid(), generator)

    def sweep(
        self, v: Tensor, vW: Tensor, beta: float, blocks: tuple[slice, ...], generator: torch.Generator
    ) -> Tensor:
        """Draw the component given the kept units, then the summed-out units, then the kept ones by class."""
        p = self.log_weights(v, beta, vW).softmax(-1).float()
        k = torch.multinomial(p, 1, generator=generator)[:, 0]
        h = bernoulli(torch.lerp(self.d[k], self.c + vW, beta).sigmoid_(), generator)
        own = torch.lerp(self.a[k], self.b, beta)
        return self.draw_kept(v, h @ self.W.T, own, beta, blocks, generator)
