"""Moments of units 0 and 1 in a model's own convention: values of units, their order, the constant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvae_core.types import Float, Index

from ..exact.moments import Moments

SCALARS = ("log_z", "energy", "specific_heat", "entropy", "magnetisation")
ARRAYS = ("unit_means", "correlations")


@dataclass(frozen=True, slots=True)
class Point:
    """Values at one β by name, each with its standard error."""

    values: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class View:
    """Conversion of moments of units 0 and 1 to the model's own convention and order.

    Attributes
    ----------
    constant : float
        E = -(A + constant).
    is_spin : bool
    order : int, shape (n_units,)
        Index among the moments of every unit of the model.
    bonds : int, shape (n_bonds, 2)
        Pairs of the model's units, i < j, sorted.
    ends : int, shape (n_bonds, 2)
        The same pairs as indices among the moments.
    place : int, shape (n_bonds,)
        Index among the moments of every bond.
    """

    constant: float
    is_spin: bool
    order: Index
    bonds: Index
    ends: Index
    place: Index

    @classmethod
    def of(cls, numbers: Index, ends: Index, constant: float, is_spin: bool) -> View:
        """Return the view for moments of units with these indices in the model, and of these bonds."""
        bonds = np.sort(numbers[ends], axis=1)
        place = np.lexsort(bonds.T[::-1])
        return cls(constant, is_spin, np.argsort(numbers), bonds[place], ends[place], place)

    def without_bonds(self) -> View:
        """Return the view without bonds."""
        return dataclasses.replace(self, bonds=self.bonds[:0], ends=self.ends[:0], place=self.place[:0])

    @property
    def scale(self) -> int:
        """Difference between the two values of a unit."""
        return 2 if self.is_spin else 1

    def exact_point(self, moments: Moments, beta: float) -> Point:
        """Return exact observables at one β."""
        energy = -(moments.mean + self.constant)
        log_z = moments.log_z + beta * self.constant
        i, j = self.ends.T
        units = self.in_convention(moments.units[self.order])
        pairs = moments.pairs[self.place] - moments.units[i] * moments.units[j]
        values = {
            "log_z": log_z,
            "energy": energy,
            "specific_heat": beta**2 * moments.variance,
            "entropy": moments.log_z - beta * moments.mean,
            "magnetisation": float(units.mean()) if len(units) else math.nan,
            "unit_means": units,
            "correlations": self.scale**2 * pairs,
        }
        return Point({name: (value, np.zeros_like(value)) for name, value in values.items()})

    def in_convention(self, means: Float) -> Float:
        """Return means of units 0 and 1 as means of the model's values."""
        return 2 * means - 1 if self.is_spin else means


def fields_of(points: Sequence[Point], betas: Sequence[float]) -> dict[str, Any]:
    """Return fields of the result: values at β = 1, and along β."""
    along: dict[str, list[Any]] = {"beta": list(betas)}
    at_one: dict[str, Any] = {}
    one = list(betas).index(1.0)
    for name in (*SCALARS, *ARRAYS):
        for suffix, part in (("", 0), ("_std_err", 1)):
            values = [np.asarray(point.values[name][part]).tolist() for point in points]
            along[f"{name}{suffix}"], at_one[f"{name}{suffix}"] = values, values[one]
    return {**at_one, "along_beta": along}
