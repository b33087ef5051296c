"""The options and the result of a reader, and the conversion of conventions to exp(z'Jz + b'z) over {0,1}."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dvae_core.cards import Card, HasCard, rows_of
from dvae_core.config import option, option_name, validate
from dvae_core.errors import ConfigError

from ..bonds import finite, machine_of_bonds
from ..couplings import as_array
from ..machine import BipartiteMachine, GeneralMachine, Machine

# Labels that a card shows.
SHOWN_LABELS = 5
ASSUMED_UNITS = "units 0 and 1; --units pm1 for spins"


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Options for what a file does not determine about its machine."""

    units: str = option(
        "auto",
        "Values of the units, where the file does not state them (auto: 01).",
        choices=("auto", "01", "pm1"),
    )
    rows: str = option(
        "auto",
        "Side whose units are the rows of W (auto: from the lengths of the biases).",
        choices=("auto", "left", "right"),
    )
    beta: float = option(
        1.0, "Inverse temperature for a file of energies E, p ∝ exp(-beta E): dimod, D-Wave.", min=1e-9, max=1e9
    )
    evidence: str = option(
        "", "File of the observed variables of a UAI model (.evid), which are clamped to their values."
    )
    clamp: str = option(
        "",
        "File of units to clamp, one 'unit value' per line: a unit by its label, or by its number from 0; values "
        "as in the model's file.",
    )
    graph: str = option(
        "",
        "File of the edges of a D-Wave state dict that has none, one 'i j' per line, in the order of its "
        "couplings.",
    )
    update: int = option(
        0,
        "Update or epoch to read from an archive of the rbms package or CaloQuVAE (0: the last).",
        min=0,
        max=10**12,
    )

    def __post_init__(self) -> None:
        validate(self)
        if math.isnan(self.beta):
            raise ConfigError("--beta: nan is not allowed; give a positive number")

    def reject_unused(self, format: str, *names: str) -> None:
        """Raise ConfigError if any option except these was given, because the format determines the others."""
        for own in fields(self):
            if own.name not in (*names, "clamp") and getattr(self, own.name) != own.default:
                raise ConfigError(f"{option_name(own.name)}: a file of {format} fixes this; omit the option")


@dataclass(frozen=True, slots=True, repr=False)
class Reading(HasCard):
    """A machine that was read from a file.

    Attributes
    ----------
    machine : BipartiteMachine or GeneralMachine
        Over {0,1}, whatever the units of the file.
    constant : float
        log Z in the file's convention = log Z of the machine + constant, nats.
    description : dict
        JSON values: `file`, `sha256`, `format`, `units`, `dtype`, and further findings, among them `assumed`, a
        list of conventions that the file does not state, and `left_aside`, names of ignored values.
    labels : tuple of str
        Names of the file's units in its order; empty if they are just numbered from 0.
    held : dict
        Values, 0 or 1, of the clamped units, which are not part of the machine, by number in the file's order.
    """

    machine: Machine
    constant: float
    description: dict[str, Any]
    labels: tuple[str, ...] = ()
    held: Mapping[int, int] = field(default_factory=dict)

    def _card(self) -> Card:
        """Return the card: the file, its conventions, what was assumed, and the machine."""
        machine, said = self.machine._card(), self.description
        units = "-1 and +1" if said.get("units") == "pm1" else "0 and 1"
        constant = f"{self.constant:.6g} nats, added to log Z" if self.constant else ""
        rows = (
            *rows_of(
                ("file", ", ".join(str(said[key]) for key in ("file", "format") if key in said)),
                ("units", f"{units}, {len(self.held)} held" if self.held else units),
                (
                    "labels",
                    ", ".join(self.labels[:SHOWN_LABELS]) + ("" if len(self.labels) <= SHOWN_LABELS else ", ..."),
                ),
                ("assumed", "; ".join(map(str, said.get("assumed", [])))),
                ("constant", constant),
            ),
            *machine.rows,
        )
        return Card(type(self).__name__, machine.title, rows)

    @property
    def n_units(self) -> int:
        """Number of units in the file, the clamped ones included."""
        return self.machine.n_units + len(self.held)

    @property
    def free(self) -> NDArray[np.intp]:
        """Numbers of the units that are not clamped, in the file's order."""
        return np.setdiff1d(np.arange(self.n_units), np.fromiter(self.held, np.intp, len(self.held)))

    def states(self, x: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
        """Return states of all units in the file's order and values, shape (n, n_units).

        Parameters
        ----------
        x : {0, 1}, shape (n, n_free)
            States of the units that are not clamped, in the file's order.
        """
        every = np.empty((len(x), self.n_units), np.int8)
        every[:, self.free] = x
        for unit, value in self.held.items():
            every[:, unit] = value
        return every * np.int8(2) - np.int8(1) if self.description["units"] == "pm1" else every


def from_sides(
    W: ArrayLike, b_left: ArrayLike, b_right: ArrayLike, constant: float, description: dict[str, Any]
) -> Reading:
    """Return the reading of p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h + constant), with `description["units"]`."""
    machine = BipartiteMachine.from_arrays(W, b_left, b_right)
    if description["units"] == "pm1":
        with np.errstate(over="ignore", invalid="ignore"):
            W, left, right = as_array(machine.W), machine.b_left, machine.b_right
            constant += float(W.sum() - left.sum() - right.sum())
            W, left, right = 4 * W, 2 * (left - W.sum(1)), 2 * (right - W.sum(0))
        machine = BipartiteMachine.from_arrays(W, left, right)
    return Reading(machine, finite(constant), description)


def from_bonds(
    ends: NDArray[np.integer[Any]],
    J: ArrayLike,
    b: ArrayLike,
    constant: float,
    description: dict[str, Any],
    labels: tuple[str, ...] = (),
) -> Reading:
    """Return the reading of p(s) ∝ exp(Σ_(i,j) J_ij s_i s_j + b's + constant), with `description["units"]`.

    Parameters
    ----------
    ends : int, shape (n_bonds, 2)
        Pairs of different units within 0 .. n_units - 1; the couplings of repeated pairs are added.
    J : shape (n_bonds,)
    b : shape (n_units,)
    labels : tuple of str
        See `Reading`.
    """
    machine, constant = machine_of_bonds(ends, J, b, constant, description["units"])
    return Reading(machine, constant, description, labels)


def of_no_unit(constant: float, description: dict[str, Any]) -> Reading:
    """Return the reading of a model whose variables are all observed: log Z is the constant."""
    machine = GeneralMachine(np.zeros((0, 0)), np.zeros(0), (np.empty(0, np.intp),))
    return Reading(machine, finite(constant), description)
