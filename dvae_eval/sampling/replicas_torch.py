"""Replicas in torch tensors: for CUDA, and for CPUs without numba."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvae_core.model.tempered import Tempered, softplus_step
from dvae_core.rng import torch_generator
from dvae_core.types import Float

from ..machine import Reduced
from .mixture import AnyReference, MixturePath
from .replicas import Replicas, Works
from .schedule import Schedule
from .trajectory import TrajectoryPath, TrajectoryReference

Bits = NDArray[np.uint8]


class TorchReplicas(Replicas):
    """Replicas run by torch, with the distributions and works of `CompiledReplicas`."""

    engine: ClassVar[Literal["numba", "torch"]] = "torch"

    def __init__(
        self,
        reduced: Reduced,
        reference: AnyReference,
        schedule: Schedule,
        v: Bits,
        seed: int,
        round: int,
        exchange: str,
        joint: bool,
        device: str,
    ) -> None:
        self.joint, self.is_random = joint, exchange == "random"
        self.path = reference.path(reduced, device, torch.float32)
        self.classes = self.path.classes()
        self.generator = torch_generator(seed, "tempering", round, device=device)
        self.schedule = schedule
        self.betas = torch.from_numpy(schedule.betas).to(device, torch.float32)[:, None]
        self._v = torch.from_numpy(v).to(device, torch.float32)
        self.h = self._v.new_zeros((*v.shape[:2], len(self.path.c)))
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
        return torch.rand(shape, generator=self.generator, device=self._v.device)

    def _flat(self, betas: Tensor) -> Tensor:
        """Return the β of every chain, shape (n_replicates * n_rungs, 1), from those of the rungs (n_rungs, 1)."""
        return betas.repeat(len(self._v), 1)

    def _sweep(self, betas: Tensor) -> None:
        """Draw the summed-out units given the kept ones, then these given all others, each chain at its β."""
        v = self._v.flatten(0, 1)
        v, h = self.path.sweep(v, self.path.field(v), self._flat(betas), self.generator, self.classes)
        self._v, self.h = v.view_as(self._v), h.view_as(self.h)

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        path, v = self.path, self._v.flatten(0, 1)
        c_0 = torch.zeros_like(path.c) if path.c_0 is None else path.c_0
        slope = path.field(v).sub_(c_0).view_as(self.h)
        kept = path.kept_slope(v).view(slope.shape[:2])
        step = (self.betas[1:, 0] - self.betas[:-1, 0]).double()
        if self.joint:
            energy = kept + (self.h * slope).sum(-1, dtype=torch.float64)
            return -step * energy[:, :-1], step * energy[:, 1:], energy
        x = c_0 + self.betas * slope
        energy = kept + (x.sigmoid() * slope).sum(-1, dtype=torch.float64)
        size = self.betas.diff(dim=0)
        up = softplus_step(x[:, :-1], size * slope[:, :-1]) + step * kept[:, :-1]
        down = softplus_step(x[:, 1:], -size * slope[:, 1:]) - step * kept[:, 1:]
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
        self._v = torch.from_numpy(state["v"]).to(self._v)
        self.generator.set_state(torch.from_numpy(state["generator"]))
        self.replica, self.last_end, self.trips = (
            torch.from_numpy(state[name].copy()).to(self._v.device)
            for name in ("replica", "last_end", "round_trips")
        )
        self.n_iterations = int(state["n_iterations"])


class MixtureTorchReplicas(TorchReplicas):
    """Replicas on the path from a mixture; works and energies are those of the kept units."""

    path: MixturePath

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        path, v, betas = self.path, self._v.flatten(0, 1), self._flat(self.betas)
        field, pairs = path.field(v), path.pairs(v, torch.float64)
        own = path.log_weights(v, betas, field, pairs)
        ends = [self._flat(self.betas.roll(shift, 0)) for shift in (-1, 1)]
        up, down = (path.log_p(v, end, field, pairs) - own.logsumexp(-1) for end in ends)
        means = [
            (torch.lerp(d, field, betas).sigmoid() * (field - d)).sum(-1, dtype=torch.float64) for d in path.d
        ]
        slopes = path.kept_slope(v)[:, None] - path.at_zero(v) + torch.stack(means, -1)
        energies = (own.softmax(-1) * slopes).sum(-1)
        up, down, energies = (x.view(self._v.shape[:2]) for x in (up, down, energies))
        return -up[:, :-1], -down[:, 1:], energies


class TrajectoryTorchReplicas(TorchReplicas):
    """Replicas on the path along a training; every rung has its own couplings.

    Energies are difference quotients between a rung's neighbours, because the path's slope jumps at every machine.
    """

    path: TrajectoryPath

    def __init__(self, reduced: Reduced, reference: TrajectoryReference, schedule: Schedule, *rest: Any) -> None:
        super().__init__(reduced, reference, schedule, *rest)
        tables = self.path.trajectory.at(schedule.betas)
        self.machines = self._machines(*tables)
        # Differences of parameters between neighbours: their fields are the steps of fields.
        self.steps = self._machines(*(np.diff(table, axis=0) for table in tables))
        self.sizes = torch.from_numpy(np.diff(schedule.betas)).to(self._v.device)

    def _machines(self, W: Float, b: Float, c: Float) -> Tempered:
        """Return the machines of all rungs, b and c with an axis for replicates."""
        return self.path.tensors(W, b[:, None], c[:, None])

    def _sweep(self, betas: Tensor) -> None:
        """Draw the summed-out units given the kept ones, then these given all others, on every rung."""
        machines, v = self.machines, self._v.transpose(0, 1)
        if betas is not self.betas:
            machines = self._machines(*self.path.trajectory.at(betas[:, 0].cpu().numpy()))
        v, h = machines.sweep(v, machines.field(v), 1.0, self.generator, ())
        self._v, self.h = v.transpose(0, 1), h.transpose(0, 1)

    def _works(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return forward and reverse works and energies, float64."""
        steps, v = self.steps, self._v.transpose(0, 1)
        field = self.machines.field(v)
        up = softplus_step(field[:-1], steps.field(v[:-1])) + (v[:-1] * steps.b).sum(-1, dtype=torch.float64)
        down = softplus_step(field[1:], -steps.field(v[1:])) - (v[1:] * steps.b).sum(-1, dtype=torch.float64)
        zero = up.new_zeros(1)
        sizes = torch.cat((self.sizes, zero)) + torch.cat((zero, self.sizes))
        row = up.new_zeros(1, up.shape[1])
        energies = (torch.cat((up, row)) - torch.cat((row, down))) / sizes[:, None]
        return -up.T, -down.T, energies.T
