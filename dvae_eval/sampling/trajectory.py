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
from dvae_core.model.tempered import Beta, Classes, Tempered, bernoulli
from dvae_core.types import Float

from ..couplings import as_array
from ..machine import BipartiteMachine, Reduced
from .reference import parts_of_path


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
        self, reduced: Reduced, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> TrajectoryPath:
        """Return the path to a machine, the last one of the trajectory; ConfigError if it does not fit."""
        if reduced.J is not None or self.W.shape[1:] != reduced.W.shape:
            raise ConfigError(
                f"the trajectory has machines of {self.b.shape[1]} and {self.c.shape[1]} units, the "
                f"machine has {reduced.b.size} and {reduced.c.size}; use machines of the same training"
            )
        return TrajectoryPath(*parts_of_path(reduced, self.b, self.c, device, dtype), trajectory=self)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return its length only: to resume a run, the caller passes the machines again."""
        return {"trajectory": np.array(float(len(self.W)))}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryPath(Tempered):
    """A path along a training, which is another machine at every t."""

    trajectory: TrajectoryReference

    def field(self, v: Tensor) -> Tensor:
        """Return an empty tensor: fields at t = 1 are of no use elsewhere."""
        return v.new_empty(0)

    def at(self, t: float) -> Tempered:
        """Return the machine at t."""
        return self.tensors(*(a[0] for a in self.trajectory.at([t])))

    def tensors(self, W: Float, b: Float, c: Float) -> Tempered:
        """Return a machine of these parameters, or of several with a leading axis."""
        tensors = [torch.from_numpy(a).to(self.W) for a in (W, b, c)]
        return Tempered(tensors[0], tensors[1], tensors[2])

    def log_p(
        self, v: Tensor, beta: Beta = 1.0, field: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """Return log p~_t(v), shape (n,)."""
        assert not isinstance(beta, Tensor)  # one machine for all states
        return self.at(beta).log_p(v)

    def log_ratio(self, v: Tensor, field: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (n,), with differences taken per unit."""
        before, after = self.at(old), self.at(new)
        hidden = softplus(v @ after.W + after.c).sub_(softplus(v @ before.W + before.c))
        return hidden.sum(-1, dtype=torch.float64) + (v @ (after.b - before.b)).double()

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn at t = 0, (n, n_kept)."""
        return bernoulli(self.at(0.0).b.sigmoid().expand(n, -1), generator)

    def sweep(
        self, v: Tensor, field: Tensor, beta: Beta, generator: torch.Generator, classes: Classes
    ) -> tuple[Tensor, Tensor]:
        """Draw h given v, then v given h, with the machine at t."""
        assert not isinstance(beta, Tensor)  # one machine for all states
        machine = self.at(beta)
        return machine.sweep(v, machine.field(v), 1.0, generator, ())
