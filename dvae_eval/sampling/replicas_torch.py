"""Replicas in torch tensors: for CUDA, and for CPUs without numba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.rng import torch_generator

from ..machine import Reduced
from .mixture import MixtureReference
from .reference import Reference, as_tensor, times_columns
from .replicas import Replicas, Works
from .schedule import Schedule
from .trajectory import TrajectoryReference

Float = NDArray[np.float64]
Bits = NDArray[np.uint8]


class TorchReplicas(Replicas):
    """Replicas run by torch, with the distributions and works of `CompiledReplicas`."""

    engine: ClassVar[Literal["numba", "torch"]] = "torch"

    def __init__(
        self,
        reduced: Reduced,
        reference: Reference,
        schedule: Schedule,
        v: Bits,
        seed: int,
        round: int,
        exchange: str,
        joint: bool,
        device: str,
    ) -> None:
        self.blocks, self.joint, self.is_random = reduced.blocks, joint, exchange == "random"
        # Fields are reference + β (own + couplings).
        self.W, self.own_b, self.own_c, self.reference_b, self.reference_c = (
            as_tensor(a).to(device, torch.float32)
            for a in (reduced.W, reduced.b - reference.b, reduced.c - reference.c, reference.b, reference.c)
        )
        self.J = None if reduced.J is None else as_tensor(reduced.J).to(device, torch.float32)
        self.generator = torch_generator(seed, "tempering", round, device=device)
        self.schedule = schedule
        self.betas = torch.from_numpy(schedule.betas).to(device, torch.float32)[:, None]
        self._v = torch.from_numpy(v).to(device, torch.float32)
        self.h = self._v.new_zeros((*v.shape[:2], len(self.reference_c)))
        # The replica on each rung, and the end of the schedule that it visited last: +1 cold, -1 hot, 0 neither.
        self.replica = torch.arange(v.shape[1], device=device).repeat(len(v), 1)
        self.last_end = torch.zeros_like(self.replica)
        self.trips = torch.zeros(len(v), dtype=torch.int64, device=device)
        self.n_iterations = 0

    @property
    def v(self) -> Bits:
        """States of the kept units by rung, shape (n_replicates, n_rungs, n_kept)."""
        states: Bits = self._v.to("cpu", torch.uint8).numpy()
        return states

    @property
    def round_trips(self) -> NDArray[np.int64]:
        """Number of trips of replicas from the cold end to the hot one, shape (n_replicates,)."""
        trips: NDArray[np.int64] = self.trips.cpu().numpy()
        return trips

    @property
    def last_end_of_rung(self) -> NDArray[np.int64]:
        """The end last visited by the replica on a rung: +1 cold, -1 hot, 0 neither; (n_replicates, n_rungs)."""
        ends: NDArray[np.int64] = self.last_end.gather(1, self.replica).cpu().numpy()
        return ends

    @property
    def replica_of_rung(self) -> NDArray[np.int64]:
        """Index of the replica on each rung, shape (n_replicates, n_rungs)."""
        replica: NDArray[np.int64] = self.replica.cpu().numpy()
        return replica

    def sweep(self, betas: Float, n: int) -> None:
        """Sweep every chain n times at `betas` (n_rungs,), without works or exchanges."""
        column = torch.from_numpy(betas).to(self.betas)[:, None]
        for _ in range(n):
            self._sweep(column)

    def run(self, n: int) -> Works:
        """Run n iterations, and return the works of each."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(n):
            self._sweep(self.betas)
            found.append(self._works())
            forward, reverse, _ = found[-1]
            self._exchange(-(forward + reverse))
        return Works(*(torch.stack(part).cpu().numpy() for part in zip(*found, strict=True)))

    def _uniform(self, *shape: int) -> Tensor:
        """Return uniform numbers on [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.W.device)

    def _bernoulli(self, field: Tensor) -> Tensor:
        return (self._uniform(*field.shape) < field.sigmoid()).float()

    def _summed_field(self) -> Tensor:
        """Return the fields of the summed-out units from kept units and biases, minus the reference's."""
        return _fields(self.own_c, self._v.flatten(0, 1), self.W).view_as(self.h)

    def _sweep(self, betas: Tensor) -> None:
        """Draw the summed-out units given the kept ones, then these given all others, each chain at its β."""
        self.h = self._bernoulli(self.reference_c + betas * self._summed_field())
        field = _fields(self.own_b, self.h.flatten(0, 1), self.W.T).view_as(self._v)
        if self.J is None:
            self._v = self._bernoulli(self.reference_b + betas * field)
            return
        for block in self.blocks:
            coupled = field[..., block] + _blocked(self._v, self.J, block)
            self._v[..., block] = self._bernoulli(self.reference_b[block] + betas * coupled)

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        field = self._summed_field()
        kept = (self._v @ self.own_b).double()
        if self.J is not None:
            kept += (_blocked(self._v, self.J, slice(None)) * self._v).sum(-1, dtype=torch.float64) / 2
        step = (self.betas[1:, 0] - self.betas[:-1, 0]).double()
        if self.joint:
            energy = kept + (self.h * field).sum(-1, dtype=torch.float64)
            return -step * energy[:, :-1], step * energy[:, 1:], energy
        x = self.reference_c + self.betas * field
        energy = kept + (x.sigmoid() * field).sum(-1, dtype=torch.float64)
        size = self.betas.diff(dim=0)
        up = _softplus_step(x[:, :-1], size * field[:, :-1]) + step * kept[:, :-1]
        down = _softplus_step(x[:, 1:], -size * field[:, 1:]) - step * kept[:, 1:]
        return -up, -down, energy

    def _exchange(self, log_acceptance: Tensor) -> None:
        """Exchange the states of every other pair of neighbours with probability min(1, exp(log_acceptance))."""
        n_replicates, n_steps = log_acceptance.shape
        device = log_acceptance.device
        parity = torch.full((n_replicates, 1), self.n_iterations % 2, device=device)
        if self.is_random:
            parity = (self._uniform(n_replicates, 1) < 0.5).long()
        self.n_iterations += 1
        pairs = torch.arange(n_steps, device=device) % 2 == parity
        accepted = (pairs & (self._uniform(n_replicates, n_steps).double().log() < log_acceptance)).long()
        source = torch.arange(n_steps + 1, device=device).repeat(n_replicates, 1)
        source[:, :-1] += accepted
        source[:, 1:] -= accepted
        self._v = self._v.gather(1, source[..., None].expand_as(self._v))
        self.replica = self.replica.gather(1, source)
        self._count_round_trips()

    def _count_round_trips(self) -> None:
        """Count a trip when a replica reaches the hot end after the cold one."""
        hot, cold = self.replica[:, :1], self.replica[:, -1:]
        self.trips += (self.last_end.gather(1, hot) == 1).sum(1)
        self.last_end.scatter_(1, hot, -1)
        self.last_end.scatter_(1, cold, 1)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the state needed to continue."""
        return {
            "v": self.v,
            "generator": self.generator.get_state().numpy(),
            "replica": self.replica.cpu().numpy().copy(),
            "last_end": self.last_end.cpu().numpy().copy(),
            "round_trips": self.round_trips.copy(),
            "n_iterations": np.array(self.n_iterations),
        }

    def _load(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._v = torch.from_numpy(state["v"]).to(self.own_b)
        self.generator.set_state(torch.from_numpy(state["generator"]))
        self.replica, self.last_end, self.trips = (
            torch.from_numpy(state[name].copy()).to(self.W.device)
            for name in ("replica", "last_end", "round_trips")
        )
        self.n_iterations = int(state["n_iterations"])


class MixtureTorchReplicas(TorchReplicas):
    """Replicas on the path from a mixture; works and energies are those of the kept units."""

    def __init__(
        self,
        reduced: Reduced,
        mixture: MixtureReference,
        schedule: Schedule,
        v: Bits,
        seed: int,
        round: int,
        exchange: str,
        joint: bool,
        device: str,
    ) -> None:
        zero = Reference(np.zeros_like(reduced.b), np.zeros_like(reduced.c))
        super().__init__(reduced, zero, schedule, v, seed, round, exchange, joint, device)
        self.a, self.d = (torch.from_numpy(x).to(device, torch.float32) for x in (mixture.b, mixture.c))
        self.weights = torch.from_numpy(mixture.weights).to(device)
        self.constants = torch.from_numpy(mixture.log_constants).to(device)

    def _log_weights(self, betas: Tensor, field: Tensor) -> Tensor:
        """Return log p~_t(v, k), float64, (n_replicates, n_rungs, K), of all chains at `betas` (n_rungs, 1)."""
        of_components = self.constants + (self._v @ self.a.T).double()
        hidden = [softplus((d + betas * (field - d)).double(), threshold=40).sum(-1) for d in self.d]
        return betas * self._kept()[..., None] + (1 - betas) * of_components + torch.stack(hidden, -1)

    def _kept(self) -> Tensor:
        """Return b'v + v'Jv / 2, float64, (n_replicates, n_rungs)."""
        kept = (self._v @ self.own_b).double()
        if self.J is None:
            return kept
        return kept + (_blocked(self._v, self.J, slice(None)) * self._v).sum(-1, dtype=torch.float64) / 2

    def _sweep(self, betas: Tensor) -> None:
        """Draw components, summed-out units and kept units; at β = 0, components have the mixture's weights."""
        field = self._summed_field()
        p = self._log_weights(betas, field).softmax(-1)
        p = torch.where(betas == 0, self.weights, p).flatten(0, 1)
        k = torch.multinomial(p, 1, generator=self.generator).view(field.shape[:2])
        self.h = self._bernoulli(torch.lerp(self.d[k], field, betas))
        field = _fields(self.own_b, self.h.flatten(0, 1), self.W.T).view_as(self._v)
        if self.J is None:
            self._v = self._bernoulli(torch.lerp(self.a[k], field, betas))
            return
        for block in self.blocks:
            coupled = field[..., block] + _blocked(self._v, self.J, block)
            self._v[..., block] = self._bernoulli(torch.lerp(self.a[k][..., block], coupled, betas))

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        field = self._summed_field()
        own = self._log_weights(self.betas, field)
        total = own.logsumexp(-1)
        up = self._log_weights(self.betas.roll(-1, 0), field).logsumexp(-1) - total
        down = self._log_weights(self.betas.roll(1, 0), field).logsumexp(-1) - total
        of_components = self.constants + (self._v @ self.a.T).double()
        means = [
            ((d + self.betas * (field - d)).sigmoid() * (field - d)).sum(-1, dtype=torch.float64) for d in self.d
        ]
        slopes = self._kept()[..., None] - of_components + torch.stack(means, -1)
        return -up[:, :-1], -down[:, 1:], (own.softmax(-1) * slopes).sum(-1)


class TrajectoryTorchReplicas(TorchReplicas):
    """Replicas on the path along a training; every rung has its own couplings.

    Energies are difference quotients between a rung's neighbours, because the path's slope jumps at every machine.
    """

    def __init__(
        self,
        reduced: Reduced,
        trajectory: TrajectoryReference,
        schedule: Schedule,
        v: Bits,
        seed: int,
        round: int,
        exchange: str,
        joint: bool,
        device: str,
    ) -> None:
        start = Reference(trajectory.b[0], trajectory.c[0])
        super().__init__(reduced, start, schedule, v, seed, round, exchange, False, device)
        self.trajectory = trajectory
        tables = trajectory.at(schedule.betas)
        self.tables = self._tensors(*tables)
        self.steps = self._tensors(*(np.diff(table, axis=0) for table in tables))
        self.sizes = torch.from_numpy(np.diff(schedule.betas)).to(device)

    def _tensors(self, W: Float, b: Float, c: Float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parameters of all rungs as tensors, b and c with an axis for replicates."""
        parts = (torch.from_numpy(a).to(self.W) for a in (W, b[:, None], c[:, None]))
        return next(parts), next(parts), next(parts)

    def _sweep(self, betas: Tensor) -> None:
        """Draw the summed-out units given the kept ones, then these given all others, on every rung."""
        W, b, c = self.tables
        if betas is not self.betas:
            W, b, c = self._tensors(*self.trajectory.at(betas[:, 0].cpu().numpy()))
        self.h = self._bernoulli((self._v.transpose(0, 1) @ W + c).transpose(0, 1))
        self._v = self._bernoulli((self.h.transpose(0, 1) @ W.mT + b).transpose(0, 1))

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        (W, _, c), (step_W, step_b, step_c), v = self.tables, self.steps, self._v.transpose(0, 1)
        field = v @ W + c
        up = _softplus_step(field[:-1], v[:-1] @ step_W + step_c) + (v[:-1] * step_b).sum(-1, dtype=torch.float64)
        down = _softplus_step(field[1:], -(v[1:] @ step_W + step_c))
        down -= (v[1:] * step_b).sum(-1, dtype=torch.float64)
        zero = up.new_zeros(1)
        sizes = torch.cat((self.sizes, zero)) + torch.cat((zero, self.sizes))
        row = up.new_zeros(1, up.shape[1])
        energies = (torch.cat((up, row)) - torch.cat((row, down))) / sizes[:, None]
        return -up.T, -down.T, energies.T


def _fields(own: Tensor, states: Tensor, W: Tensor) -> Tensor:
    """Return own + states @ W, shape (n, n_units)."""
    return own + states @ W if W.is_sparse else torch.addmm(own, states, W)


def _blocked(v: Tensor, J: Tensor, block: slice) -> Tensor:
    """Return v @ J[:, block] for states (n_replicates, n_rungs, n_kept)."""
    if not J.is_sparse:
        return v @ J[:, block]
    return times_columns(v.flatten(0, 1), J, block).view(*v.shape[:2], -1)


def _softplus_step(x: Tensor, step: Tensor) -> Tensor:
    """Return Σ_j softplus(x_j + step_j) - softplus(x_j), float64, without losing digits where x is large."""
    linear = torch.maximum(step + x.clamp(max=0), -x.clamp(min=0))
    rest = torch.log1p((-(x + step).abs()).exp_()) - torch.log1p((-x.abs()).exp_())
    return (linear + rest).sum(-1, dtype=torch.float64)
