"""Priors from the course of a training, at equal distances: a path to the last one, for estimates of log Z.

Training starts from nearly independent units and passes the points where the modes of the prior separate.  A copy
is kept when the exchange rate between the prior and the previous copy falls below one half (Béreux et al., ICLR
2025, whose schedules also follow the training).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.prior import Prior

# Updates between two checks, exchange rate below which a prior is kept, and number of states kept with it.
LOOK_EVERY, ACCEPTANCE, N_STATES = 10, 0.5, 64
# Limit of the kept priors in bytes; largest and smallest limit on their number that may follow from it.
MOST_BYTES, MOST, FEWEST = 32 << 20, 200, 8

Entry = tuple[int, dict[str, Tensor], Tensor]


class PriorTrajectory:
    """Priors from the course of a training, each with states of the persistent chains.

    Recording draws no random numbers and does not affect training.  When there are too many entries, every second
    one is dropped, and from then on only every second one is kept, so that their distances stay equal.

    Attributes
    ----------
    entries : list of (int, dict of tensors, uint8 tensor)
        Updates before it, the parameters of the prior, and states, shape (n_states, n_units); oldest first.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        # `mark`: the last prior that was far enough from the previous mark, kept or not.  `n_marks`: their number,
        # including the first.  One in `stride` of them is kept.
        self.mark: Entry | None = None
        self.n_marks, self.stride = 0, 1

    @torch.no_grad()
    def look(self, prior: Prior, states: Tensor, step: int) -> None:
        """Keep the present prior if it has moved far enough; checked every `LOOK_EVERY` updates.

        Parameters
        ----------
        prior : Prior
        states : float, shape (n_chains, n_units)
            States of the persistent chains after the last update.
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
        """Return the exchange rate of the marked prior and the present one, averaged over all pairs of states.

        For v from one prior, u from the other, and f the log of their unnormalised probabilities, the mean of
        min(1, exp(f_1(u) + f_2(v) - f_1(v) - f_2(u))).
        """
        past = mark[2].to(states)
        kept = {f"prior.{name}": value.to(states.device) for name, value in mark[1].items()}
        both = torch.cat((past, states))
        rise = torch.func.functional_call(_FreeEnergy(prior), kept, (both,)) - prior.free_energy(both)
        of_past, of_present = rise[: len(past)].double(), rise[len(past) :].double()
        return float((of_past[:, None] - of_present).clamp(max=0).exp().mean())

    def _thin_out(self) -> None:
        """If there are too many entries, keep the first and every second one after it."""
        if len(self.entries) > _most(self.entries[0]):
            self.entries, self.stride = self.entries[::2], 2 * self.stride

    def arrays(self, steps_per_epoch: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the file.

        `steps` (n,) are the updates before each prior, `steps_per_epoch` those per epoch, `states` (n, n_states,
        n_units) uint8; the other arrays are the parameters of the priors, float32, with n as the first axis.
        """
        steps, parameters, states = zip(*self.entries, strict=True)
        return {
            "steps": np.array(steps, np.int64),
            "steps_per_epoch": np.array(steps_per_epoch, np.int64),
            **{name: torch.stack([p[name] for p in parameters]).numpy() for name in parameters[0]},
            "states": torch.stack(states).numpy(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state that `load_state_dict` restores: tensors and plain values."""
        return {"entries": self.entries, "mark": self.mark, "n_marks": self.n_marks, "stride": self.stride}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.entries = [_restored(entry) for entry in state["entries"]]
        self.mark = None if state["mark"] is None else _restored(state["mark"])
        self.n_marks, self.stride = int(state["n_marks"]), int(state["stride"])


class _FreeEnergy(torch.nn.Module):
    """A prior's free energy as a module's forward, for `functional_call` with other parameters."""

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
    """Return an entry from its form in a checkpoint."""
    step, parameters, states = entry
    return int(step), {name: value.cpu() for name, value in parameters.items()}, states.cpu()


def _most(entry: Entry) -> int:
    """Return the largest number of entries of this size."""
    n_bytes = sum(value.nbytes for value in (*entry[1].values(), entry[2]))
    return max(FEWEST, min(MOST, math.floor(MOST_BYTES / n_bytes)))
