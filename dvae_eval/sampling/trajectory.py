"""The path of distributions along a training, from independent units, t = 0, to the machine, t = 1.

Scaling up all couplings of a machine trained on data leads through abrupt transitions, at which modes appear all
at once.  Training itself went through smooth ones, so its earlier states, where known, are a better path (Béreux,
Decelle, Furtlehner, Rosset and Seoane, ICLR 2025).  With θ = (W, b, c) of machines 0 ... T along the training, the
first one without couplings,

    log p~_t(v) = b(t)'v + Σ_j softplus(c(t)_j + (v'W(t))_j),    θ(t) = (1 - x) θ_k + x θ_{k+1},  x = T t - k,

the geometric path between neighbours.  Machines recorded at equal acceptance are equally spaced in t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.errors import ConfigError
from dvae_core.types import Float

from ..couplings import as_array
from ..machine import BipartiteMachine, Machine, Reduced
from .reference import Path, bernoulli


@dataclass(frozen=True, slots=True)
class TrajectoryReference:
    """Machines along a training, the first without couplings, with units in the order of `Machine.reduced`.

    Attributes
    ----------
    W : float64, shape (T + 1, n_kept, n_summed)
        Couplings; zeros for the first machine.
    b, c : float64, shape (T + 1, n_kept), (T + 1, n_summed)
    """

    W: Float
    b: Float
    c: Float

    @classmethod
    def of(cls, machines: Sequence[BipartiteMachine]) -> TrajectoryReference:
        """Return the path through one or more machines of equal shape, oldest first.

        If the first machine has couplings, one with its biases alone is placed before it.
        """
        parts = [machine.reduced() for machine in machines]
        W, b, c = (np.stack([as_array(getattr(part, name)) for part in parts]) for name in ("W", "b", "c"))
        if W[0].any() or len(W) == 1:
            W, b, c = (np.concatenate((first[None], x)) for first, x in ((0 * W[0], W), (b[0], b), (c[0], c)))
        return cls(W, b, c)

    @property
    def knots(self) -> Float:
        """The t of every machine, equally spaced from 0 to 1, shape (T + 1,)."""
        return np.linspace(0, 1, len(self.W))

    @property
    def log_z(self) -> float:
        """Exact log Z of the independent units at t = 0, nats."""
        return float(np.logaddexp(0, self.b[0]).sum() + np.logaddexp(0, self.c[0]).sum())

    def at(self, t: ArrayLike) -> tuple[Float, Float, Float]:
        """Return W, b and c of the machines at t in [0, 1], shape (n,): (n, n_kept, n_summed) and so on."""
        place = np.asarray(t, np.float64) * (len(self.W) - 1)
        k = np.minimum(place.astype(np.int64), len(self.W) - 2)
        x = place - k
        W, b, c = (a[k] + x.reshape(-1, *[1] * (a.ndim - 1)) * (a[k + 1] - a[k]) for a in (self.W, self.b, self.c))
        return W, b, c

    def machines(self) -> list[Reduced]:
        """Return the machines, each in the form of `Machine.reduced`."""
        blocks = (slice(0, self.b.shape[1]),)
        return [Reduced(W, b, c, None, blocks) for W, b, c in zip(self.W, self.b, self.c, strict=True)]

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
        """Return n states of the kept units at t = 0, (n, n_kept)."""
        is_on: NDArray[np.bool_] = rng.random((n, self.b.shape[1])) < np.exp(-np.logaddexp(0, -self.b[0]))
        return is_on

    def path(
        self, machine: Machine, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> TrajectoryPath:
        """Return the path to a machine, the last one of the trajectory, as tensors."""
        return TrajectoryPath(machine, self, device, dtype)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return its length only: to resume a run, the caller passes the machines again."""
        return {"trajectory": np.array(float(len(self.W)))}


class TrajectoryPath(Path):
    """A path along a training, as tensors; see `Path`.  Precomputed fields at β = 1 are of no use here."""

    def __init__(
        self,
        machine: Machine,
        trajectory: TrajectoryReference,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(machine, None, device, dtype)
        reduced = self.reduced
        if self.J is not None or trajectory.W.shape[1:] != reduced.W.shape:
            raise ConfigError(
                f"the trajectory has machines of {trajectory.b.shape[1]} and {trajectory.c.shape[1]} units, the "
                f"machine has {reduced.b.size} and {reduced.c.size}; use machines of the same training"
            )
        self.trajectory = trajectory

    @property
    def log_z_0(self) -> float:
        """Log Z at t = 0, nats."""
        return self.trajectory.log_z

    def _at(self, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return W, b and c at t."""
        W, b, c = (torch.from_numpy(a[0]).to(self.W) for a in self.trajectory.at([t]))
        return W, b, c

    def log_p(self, v: Tensor, beta: float, vW: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
        """Return log p~_t(v), float64, shape (n,)."""
        W, b, c = self._at(beta)
        hidden = softplus(v @ W + c, threshold=40).sum(-1, dtype=torch.float64)
        return hidden + v.double() @ b.double()

    def log_ratio(self, v: Tensor, vW: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (n,), with differences taken per unit."""
        (W_old, b_old, c_old), (W, b, c) = self._at(old), self._at(new)
        hidden = softplus(v @ W + c).sub_(softplus(v @ W_old + c_old))
        return hidden.sum(-1, dtype=torch.float64) + (v @ (b - b_old)).double()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn at t = 0, (n, n_kept)."""
        return bernoulli(self._at(0.0)[1].sigmoid().expand(n, -1), generator)

    def sweep(
        self, v: Tensor, vW: Tensor, beta: float, blocks: tuple[slice, ...], generator: torch.Generator
    ) -> Tensor:
        """Draw the summed-out units given the kept ones, then these given the others."""
        W, b, c = self._at(beta)
        h = bernoulli(torch.addmm(c, v, W).sigmoid_(), generator)
        return bernoulli(torch.addmm(b, h, W.T).sigmoid_(), generator)
