"""Reference distributions of independent units, in which a path to a machine starts; see `Tempered`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from torch import Tensor

from dvae_core.errors import ConfigError, DataError
from dvae_core.model.tempered import Tempered
from dvae_core.types import Float

from ..couplings import Table, entries, is_full
from ..machine import Machine, Reduced


@dataclass(frozen=True, slots=True)
class Reference:
    """Independent units, the start of a path: p_0(v, h) ∝ exp(b'v + c'h).

    Attributes
    ----------
    b, c : float64, shape (n_kept,), (n_summed,)
        Biases in nats, with the units in the order of `Machine.reduced`.
    """

    b: Float
    c: Float

    @classmethod
    def uniform(cls, machine: Machine) -> Reference:
        """Return the reference of the paper's schedule: all states have equal probability, Z_0 = 2^n."""
        reduced = machine.reduced()
        return cls(np.zeros_like(reduced.b), np.zeros_like(reduced.c))

    @property
    def log_z(self) -> float:
        """The reference's exact log Z = Σ log(1 + exp(bias)), nats."""
        return float(np.logaddexp(0, self.b).sum() + np.logaddexp(0, self.c).sum())

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
        """Return n states of the kept units, (n, n_kept)."""
        is_on: NDArray[np.bool_] = rng.random((n, len(self.b))) < np.exp(-np.logaddexp(0, -self.b))
        return is_on

    def path(
        self, reduced: Reduced, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> Tempered:
        """Return the path from this reference to a machine; ConfigError if it does not fit the machine."""
        start = (torch.from_numpy(logits).to(device, dtype) for logits in (self.b, self.c))
        return Tempered(*parts_of_path(reduced, self.b, self.c, device, dtype), *start)

    def state_dict(self) -> dict[str, Float]:
        """Return the parameters as plain arrays."""
        return {"b": self.b, "c": self.c}


def fitted_reference(machine: Machine, v: ArrayLike, *, pseudo_count: float = 1.0) -> Reference:
    """Return the independent units, of both sides, with the mean activations of samples.

    If the samples missed a mode, estimates from this reference can be wrong while their error bars are small;
    compare them with estimates from the uniform reference.

    Parameters
    ----------
    v : {0, 1}, shape (n, n_kept)
        Samples of the machine's kept units.  Means of the summed-out units are Rao-Blackwellised: they are means
        of p(h_j = 1 | v).
    pseudo_count : float
        Imagined samples of either value of every unit, which keep all probabilities away from 0 and 1.

    Raises
    ------
    DataError
        If `v` does not consist of binary states of the kept units.
    """
    reduced = machine.reduced()
    states = binary_states(reduced, v).astype(np.float64)
    if not pseudo_count > 0:
        raise ConfigError(f"pseudo_count is {pseudo_count}; use a number above 0")

    def biases(p: Float) -> Float:
        values: Float = logit((p.sum(0) + pseudo_count) / (len(p) + 2 * pseudo_count))
        return values

    return Reference(biases(states), biases(expit(states @ reduced.W + reduced.c)))


def binary_states(reduced: Reduced, v: ArrayLike) -> NDArray[np.uint8]:
    """Return states of the kept units as uint8, shape (n, n_kept), n >= 1; DataError if they are not binary."""
    states = np.asarray(v)
    if states.ndim != 2 or states.shape[1] != len(reduced.b) or not len(states):
        raise DataError(f"states have shape {states.shape}; use (n, {len(reduced.b)}), states of the kept units")
    if not ((states == 0) | (states == 1)).all():
        raise DataError("states contain values other than 0 and 1; use binary states of the kept units")
    return states.astype(np.uint8)


def as_tensor(table: Table) -> Tensor:
    """Return couplings or biases as a tensor; compressed rows become a sparse one."""
    if is_full(table):
        return torch.from_numpy(table)
    places, values = entries(table)
    ends = torch.from_numpy(places.T.copy())
    found = torch.sparse_coo_tensor(ends, torch.from_numpy(values), table.shape, check_invariants=True)
    return found.coalesce()


def parts_of_path(
    reduced: Reduced, b_0: Float, c_0: Float, device: torch.device | str, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, tuple[slice, ...]]:
    """Return W, b, c, J and blocks of a path; ConfigError if its start, (..., n_units), does not fit."""
    sizes = b_0.shape[-1], c_0.shape[-1]
    if sizes != reduced.W.shape:
        raise ConfigError(
            f"the reference has {sizes[0]} kept and {sizes[1]} summed-out units, the machine "
            f"has {reduced.b.size} and {reduced.c.size}; fit it to this machine"
        )
    W, b, c = (as_tensor(a).to(device, dtype) for a in (reduced.W, reduced.b, reduced.c))
    return W, b, c, None if reduced.J is None else as_tensor(reduced.J).to(device, dtype), reduced.blocks
