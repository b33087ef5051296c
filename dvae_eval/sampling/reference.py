"""The path of distributions from independent units, β = 0, to a Boltzmann machine, β = 1.

p_β(v, h) ∝ exp(β (v'Wh + v'Jv / 2 + b'v + c'h) + (1 - β) (b_0'v + c_0'h)), a geometric path.  With h summed out

    log p~_β(v) = β v'Jv / 2 + b_β'v + Σ_j log(1 + exp(c_βj + β (v'W)_j)),

where b_β = β b + (1 - β) b_0, and c_β equally.  log p~_β is not linear in β: a ratio needs both ends of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.errors import ConfigError, DataError

from ..couplings import Table, entries, is_full
from ..machine import Machine, Reduced

Float = NDArray[np.float64]


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
        self, machine: Machine, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> Path:
        """Return the path from this reference to a machine, as tensors."""
        return Path(machine, self, device, dtype)

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


def times_columns(v: Tensor, J: Tensor, columns: slice) -> Tensor:
    """Return v @ J[:, columns]; a sparse J cannot be sliced, so it is multiplied whole."""
    return (v @ J)[:, columns] if J.is_sparse else v @ J[:, columns]


class Path:
    """A machine's path from a reference, as tensors.

    Parameters
    ----------
    machine : BipartiteMachine or GeneralMachine
    reference : Reference, optional
        Uniform by default.
    device, dtype
        Device and floating-point type of the tensors.

    Raises
    ------
    ConfigError
        If the reference does not fit the machine.
    """

    def __init__(
        self,
        machine: Machine,
        reference: Reference | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        reduced, reference = machine.reduced(), reference or Reference.uniform(machine)
        if (reference.b.shape, reference.c.shape) != (reduced.b.shape, reduced.c.shape):
            raise ConfigError(
                f"the reference has {reference.b.size} kept and {reference.c.size} summed-out units, the machine "
                f"has {reduced.b.size} and {reduced.c.size}; fit it to this machine"
            )
        self.reduced, self.reference = reduced, reference
        self.W, self.b, self.c, self.b_0, self.c_0 = (
            as_tensor(a).to(device, dtype) for a in (reduced.W, reduced.b, reduced.c, reference.b, reference.c)
        )
        self.J = None if reduced.J is None else as_tensor(reduced.J).to(device, dtype)

    @property
    def log_z_0(self) -> float:
        """Log Z at β = 0, nats."""
        return self.reference.log_z

    def field(self, v: Tensor, beta: float, vW: Tensor) -> Tensor:
        """Return the logits of the summed-out units given v: c_β + β v'W."""
        return torch.add(torch.lerp(self.c_0, self.c, beta), vW, alpha=beta)

    def kept_field(self, beta: float) -> Tensor:
        """Return b_β."""
        return torch.lerp(self.b_0, self.b, beta)

    def log_p(self, v: Tensor, beta: float, vW: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
        """Return log p~_β(v) of states (n, n_kept), float64, shape (n,); pass v'W and v'Jv / 2 if known."""
        vW = v @ self.W if vW is None else vW
        pairs = self.pairs(v) if pairs is None else pairs
        hidden = softplus(self.field(v, beta, vW), threshold=40).sum(-1, dtype=torch.float64)
        return hidden + v.double() @ self.kept_field(beta).double() + beta * pairs

    def pairs(self, v: Tensor) -> Tensor:
        """Return v'Jv / 2, float64, shape (n,)."""
        if self.J is None:
            return v.new_zeros(len(v), dtype=torch.float64)
        return (v @ self.J * v).sum(-1, dtype=torch.float64) / 2

    def log_ratio(self, v: Tensor, vW: Tensor, old: float, new: float) -> Tensor:
        """Return log p~_new(v) - log p~_old(v), float64, shape (n,).

        Differences are taken per unit before summation, which keeps their digits.
        """
        hidden = softplus(self.field(v, new, vW)).sub_(softplus(self.field(v, old, vW)))
        kept = v @ (self.b - self.b_0)
        return hidden.sum(-1, dtype=torch.float64) + (new - old) * (kept.double() + self.pairs(v))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states of the kept units drawn at β = 0, (n, n_kept)."""
        return bernoulli(torch.sigmoid(self.kept_field(0.0)).expand(n, -1), generator)

    def sweep(
        self, v: Tensor, vW: Tensor, beta: float, blocks: tuple[slice, ...], generator: torch.Generator
    ) -> Tensor:
        """Draw the summed-out units given the kept ones, then these given all others, class by class."""
        h = bernoulli(self.field(v, beta, vW).sigmoid_(), generator)
        return self.draw_kept(v, h @ self.W.T, self.kept_field(beta), beta, blocks, generator)

    def draw_kept(
        self,
        v: Tensor,
        hW: Tensor,
        own: Tensor,
        beta: float,
        blocks: tuple[slice, ...],
        generator: torch.Generator,
    ) -> Tensor:
        """Draw the kept units, class by class, whose fields are own + β (hW + vJ)."""
        field = torch.add(own, hW, alpha=beta)
        if self.J is None:
            return bernoulli(field.sigmoid_(), generator)
        v = v.clone()
        for block in blocks:
            p = torch.add(field[:, block], times_columns(v, self.J, block), alpha=beta).sigmoid_()
            v[:, block] = bernoulli(p, generator)
        return v


def bernoulli(p: Tensor, generator: torch.Generator) -> Tensor:
    """Draw 0 or 1 with probabilities p."""
    return torch.rand(p.shape, generator=generator, device=p.device).lt_(p)
