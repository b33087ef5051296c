"""Priors along a training, equally far from one another: a path to the last one, for estimates of log Z.

Training leads a prior from nearly independent units to where it is, and through the places where its modes part.
A prior is kept whenever it has moved so far that it and the one kept before would exchange states in less than
half of all attempts (Béreux et al., ICLR 2025, whose ladders go along a training).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.prior import Prior

# Updates between two looks, the acceptance below which a prior is kept, and the states that are kept with it.
LOOK_EVERY, ACCEPTANCE, N_STATES = 10, 0.5, 64
# Of all priors that are kept, and how many there may be, however small they are, and are at least, however large.
MOST_BYTES, MOST, FEWEST = 32 << 20, 200, 8

Entry = tuple[int, dict[str, Tensor], Tensor]


class PriorTrajectory:
    """Priors that were passed on the way, and states of the persistent chains under each of them.

    It draws no random numbers, and training goes on as it would without it.  When there are too many, every second
    one is dropped, and from then on every second one is not kept: they stay equally far apart.

    Attributes
    ----------
    entries : list of (int, dict of tensors, uint8 tensor)
        Updates before it, the prior's own parameters, and states, shape (n_states, n_units), oldest first.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        # The last prior that was far enough from the one before, whether it was kept or not; how many there were
        # with the first; and which of them are kept: every so many.
        self.mark: Entry | None = None
        self.n_marks, self.stride = 0, 1

    @torch.no_grad()
    def look(self, prior: Prior, states: Tensor, step: int) -> None:
        """Keep the present prior if it has moved far enough, which is found out every `LOOK_EVERY` updates.

        Parameters
        ----------
        prior : Prior
        states : float, shape (n_chains, n_units)
            Of the persistent chains, as the last update left them.
        step : int
            Updates before this one.
        """
        if step % LOOK_EVERY or not prior.W.numel():
            return
        states = states[:N_STATES]
        if self.mark is None:
            self.mark = _entry(prior, states, step)
            self.entries, self.n_marks = [self.mark], 1
        elif self._acceptance(self.mark, prior, states) < ACCEPTANCE:
            self.mark, self.n_marks = _entry(prior, states, step), self.n_marks + 1
            if (self.n_marks - 1) % self.stride == 0:
                self.entries.append(self.mark)
            self._thin_out()

    def _acceptance(self, mark: Entry, prior: Prior, states: Tensor) -> float:
        """Return how often the marked prior and the present one would exchange states, on average over all pairs.

        With v from the one, u from the other and f their log p~: the mean of min(1, exp(f_1(u) + f_2(v) - f_1(v) -
        f_2(u))).
        """
        past = mark[2].to(states)
        kept = {f"prior.{name}": value.to(states.device) for name, value in mark[1].items()}
        both = torch.cat((past, states))
        rise = torch.func.functional_call(_FreeEnergy(prior), kept, (both,)) - prior.free_energy(both)
        of_past, of_present = rise[: len(past)].double(), rise[len(past) :].double()
        return float((of_past[:, None] - of_present).clamp(max=0).exp().mean())

    def _thin_out(self) -> None:
        """Drop every second entry but the first if there are too many."""
        if len(self.entries) > _most(self.entries[0]):
            self.entries, self.stride = self.entries[::2], 2 * self.stride

    def arrays(self, steps_per_epoch: int) -> dict[str, NDArray[Any]]:
        """Return what the file holds.

        `steps` (n,) are updates before each prior, `steps_per_epoch` those of an epoch, `states` (n, n_states,
        n_units) uint8; the others are the prior's parameters, float32, an entry each.
        """
        steps, parameters, states = zip(*self.entries, strict=True)
        return {
            "steps": np.array(steps, np.int64),
            "steps_per_epoch": np.array(steps_per_epoch, np.int64),
            **{name: torch.stack([p[name] for p in parameters]).numpy() for name in parameters[0]},
            "states": torch.stack(states).numpy(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on, plain data."""
        return {"entries": self.entries, "mark": self.mark, "n_marks": self.n_marks, "stride": self.stride}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self.entries = [_restored(entry) for entry in state["entries"]]
        self.mark = None if state["mark"] is None else _restored(state["mark"])
        self.n_marks, self.stride = int(state["n_marks"]), int(state["stride"])


class _FreeEnergy(torch.nn.Module):
    """A prior's free energy as a module's call, so that it can be had with other parameters."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, z: Tensor) -> Tensor:
        """Return the free energy."""
        return self.prior.free_energy(z)


def _entry(prior: Prior, states: Tensor, step: int) -> Entry:
    """Return copies of a prior's parameters and of states, on the CPU."""
    kept = {name: value.detach().cpu().clone() for name, value in prior.named_parameters()}
    return step, kept, states.cpu().to(torch.uint8)


def _restored(entry: Any) -> Entry:
    """Return an entry from what a checkpoint holds of it."""
    step, parameters, states = entry
    return int(step), {name: value.cpu() for name, value in parameters.items()}, states.cpu()


def _most(entry: Entry) -> int:
    """Return how many such entries there may be."""
    n_bytes = sum(value.nbytes for value in (*entry[1].values(), entry[2]))
    return max(FEWEST, min(MOST, math.floor(MOST_BYTES / n_bytes)))
