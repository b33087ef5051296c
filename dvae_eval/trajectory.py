"""The training of an RBM as a sequence of machines, which defines a path to the last of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvae_core.cards import Card, HasCard
from dvae_core.errors import ConfigError, DataError

from .couplings import n_entries
from .machine import BipartiteMachine, Machine

if TYPE_CHECKING:
    from .sampling.trajectory import TrajectoryReference


@dataclass(frozen=True, slots=True, repr=False)
class Trajectory(HasCard):
    """Machines along a training, oldest first.

    Attributes
    ----------
    machines : tuple of BipartiteMachine
        Machines of equal shape.
    steps : tuple of int
        Number of updates at each machine, or its index if that is unknown.
    constants : tuple of float
        Nats to add to each machine's log Z, for files with another convention.
    """

    machines: tuple[BipartiteMachine, ...]
    steps: tuple[int, ...]
    constants: tuple[float, ...]

    @classmethod
    def of(
        cls,
        machines: Sequence[Machine],
        steps: Sequence[int] | None = None,
        constants: Sequence[float] | None = None,
    ) -> Trajectory:
        """Return the trajectory of machines, oldest first.

        Raises
        ------
        ConfigError
            If there are no machines, or one is not an RBM.
        DataError
            If their shapes differ.
        """
        if not machines:
            raise ConfigError("trajectory: is empty; give the earlier machines of a training, oldest first")
        for number, machine in enumerate(machines, 1):
            if not isinstance(machine, BipartiteMachine):
                raise ConfigError(
                    f"trajectory: machine {number} is not an RBM; a path along a training is for RBMs only"
                )
            if machine.W.shape != (shape := machines[-1].W.shape):  # type: ignore[union-attr]
                raise DataError(
                    f"trajectory: machine {number} has shape {_sizes(machine.W.shape)}, the last one "
                    f"{_sizes(shape)}; give machines of one training"
                )
        n = len(machines)
        return cls(
            tuple(machine for machine in machines if isinstance(machine, BipartiteMachine)),
            tuple(steps or range(1, n + 1)),
            tuple(constants or (0.0,) * n),
        )

    def _card(self) -> Card:
        """Return the number of machines and their steps."""
        last = self.machines[-1]._card()
        rows = (("steps", f"{self.steps[0]} ... {self.steps[-1]}"), ("last", last.title), *last.rows)
        return Card(type(self).__name__, f"{len(self.machines)} machines of one training", rows)

    def ending_with(self, machine: Machine, constant: float) -> Trajectory:
        """Return the trajectory with this machine at its end, unless it is there already; errors as `of`."""
        if self.machines[-1].sha256 == machine.sha256:
            return self
        steps = (*self.steps, self.steps[-1] + 1)
        return Trajectory.of((*self.machines, machine), steps, (*self.constants, constant))

    @property
    def sha256(self) -> str:
        """Digest of all machines in order."""
        return hashlib.sha256("".join(machine.sha256 for machine in self.machines).encode()).hexdigest()

    def path(self) -> TrajectoryReference:
        """Return the path through the machines."""
        from .sampling.trajectory import TrajectoryReference

        return TrajectoryReference.of(self.machines)

    @property
    def starts_independent(self) -> bool:
        """Whether the first machine has no couplings, so that the path begins with it."""
        return len(self.machines) > 1 and not n_entries(self.machines[0].W)


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
