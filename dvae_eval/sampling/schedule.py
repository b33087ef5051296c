"""Schedules of inverse temperatures whose neighbours exchange replicas at equal rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from dvae_core.errors import ConfigError
from dvae_core.types import Float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Inverse temperatures 0 = β_0 < ... < β_K = 1.

    Attributes
    ----------
    betas : float64, shape (K + 1,)
    """

    betas: Float

    def __post_init__(self) -> None:
        """Validate the schedule."""
        b = np.asarray(self.betas, dtype=np.float64)
        if b.ndim != 1 or len(b) < 2 or b[0] != 0 or b[-1] != 1 or not (np.diff(b) > 0).all():
            raise ConfigError("betas: a schedule must increase strictly from 0 to 1; sort it and add the ends")
        object.__setattr__(self, "betas", b)

    @property
    def n_steps(self) -> int:
        """Number K of pairs of neighbours."""
        return len(self.betas) - 1

    @classmethod
    def uniform(cls, n_steps: int) -> Schedule:
        """Return `n_steps` equal steps."""
        return cls(np.linspace(0, 1, n_steps + 1))

    def equalised(self, rejection_rates: Float, exchange_rate: float, max_steps: int = 1000) -> Schedule:
        """Return a schedule whose neighbours should all exchange at `exchange_rate`.

        The sum of the rejection rates up to β is the communication barrier Λ(β), which hardly depends on the
        schedule on which it was measured.  Rungs equally spaced in Λ have equal rates, and K = Λ(1) / (1 - rate)
        steps have the requested rate (Syed et al., 2022).

        Parameters
        ----------
        rejection_rates : float64, shape (K,)
            1 minus the mean acceptance of an exchange, for every pair of neighbours.
        """
        # A floor keeps Λ strictly increasing where every exchange is accepted.
        barrier = np.concatenate(([0.0], np.cumsum(np.maximum(rejection_rates, 1e-4))))
        n_steps = min(max_steps, max(1, math.ceil(barrier[-1] / (1 - exchange_rate) - 1e-9)))
        inverse = PchipInterpolator(barrier, self.betas)
        betas = inverse(np.linspace(0, barrier[-1], n_steps + 1))
        betas[0], betas[-1] = 0.0, 1.0
        return Schedule(betas)
