"""p_β of a machine: log Z, energy, means of units and of bonds at any β, exactly or from tempered runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from dvae_core.errors import ConfigError
from dvae_core.text import duration
from dvae_core.types import Float, Index

from ..exact.moments_plan import MomentsPlan, moments_plan
from ..machine import Machine
from ..observables.convention import View
from ..observables.estimate_observables import estimate_observables
from ..verdict import Check
from .config import CompareConfig

# Predicted seconds of one β below which the exact method is the default, and below which it can be requested.
AUTO_SECONDS, EXACT_SECONDS = 12.0, 180.0
# β of the first tempered run, relative to the estimate by pseudo-likelihood.
GRID = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
STEPS, NARROW = 200, 1e-10
Observe = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class LawPoint:
    """p_β: values and their standard errors, with units and bonds numbered in the order the machine was made from.

    `mean` and `variance` are those of A, minus the energy up to a constant, nats; `pairs` are <x_i x_j>.
    """

    beta: float
    log_z: float
    mean: float
    variance: float
    units: Float
    pairs: Float
    log_z_std_err: float = 0.0
    mean_std_err: float = 0.0
    variance_std_err: float = 0.0
    units_std_err: Float | float = 0.0
    pairs_std_err: Float | float = 0.0


@dataclass
class ExactLaw:
    """p_β by exact computation.

    Attributes
    ----------
    plan : MomentsPlan
    view : View
    threads : int, optional
    """

    plan: MomentsPlan
    view: View
    threads: int | None = None
    checks: Sequence[Check] = ()

    @property
    def bonds(self) -> Index:
        """Pairs of units i < j."""
        return self.view.bonds

    def points(self, betas: Sequence[float]) -> list[LawPoint]:
        """Return p_β at several β."""
        return [self.point(beta) for beta in betas]

    def point(self, beta: float) -> LawPoint:
        """Return p_β."""
        found = self.plan.moments(beta, threads=self.threads)
        units, pairs = found.units[self.view.order], found.pairs[self.view.place]
        return LawPoint(beta, found.log_z, found.mean, found.variance, units, pairs)

    def solve(self, mean: float, start: float) -> tuple[float, float, float]:
        """Return the β at which A has this mean, the variance of A there, and the error of its mean, 0.

        β is infinite if no finite one has this mean.  Newton's steps are kept within the known interval.
        """
        beta, low, high = start, -math.inf, math.inf
        widest = self.plan.moments(0.0, threads=self.threads).variance
        if widest <= 0:  # all states are equal
            return math.nan, 0.0, 0.0
        for _ in range(STEPS):
            found = self.plan.moments(beta, threads=self.threads)
            low, high = (beta, high) if found.mean < mean else (low, beta)
            is_frozen = found.variance <= NARROW * widest
            if is_frozen and (mean >= found.mean) == (beta > 0):
                break
            step = (mean - found.mean) / max(found.variance, NARROW * widest)
            if abs(step) <= 1e-10 * max(abs(beta), 1e-3):
                break
            reach = max(abs(beta), 1 / math.sqrt(widest))
            new = beta + max(-reach, min(reach, step))
            beta = new if low < new < high else (low + high) / 2
        return (math.copysign(math.inf, beta), 0.0, 0.0) if is_frozen else (beta, found.variance, 0.0)


@dataclass
class TemperedLaw:
    """p_β from tempered runs: a first one along β, and further ones where values are requested.

    Attributes
    ----------
    observe : callable
        `estimate_observables` with all arguments but betas and correlations.
    machine : BipartiteMachine or GeneralMachine
    betas, means, variances, errors : float64, shape (n_betas,)
        Moments of A along β, starting at 0.
    """

    observe: Observe
    machine: Machine
    betas: Float
    means: Float
    variances: Float
    errors: Float
    checks: list[Check]
    bonds: Index

    @classmethod
    def of(cls, machine: Machine, observe: Observe, guess: float) -> TemperedLaw:
        """Return p_β along β, around a guess."""
        guess = guess if 0 < guess < math.inf else 1.0
        found = observe(betas=tuple(guess * share for share in GRID), correlations=False)
        along = found.along_beta
        betas = np.array(along["beta"])
        heat = np.array(along["specific_heat"])
        middle, spread = _at_zero(machine)
        return cls(
            observe,
            machine,
            np.append(0.0, betas),
            np.append(middle, -np.array(along["energy"])),
            np.append(spread, heat / betas**2),
            np.append(0.0, np.array(along["energy_std_err"])),
            list(found.checks),
            np.empty((0, 2), np.int64),
        )

    def points(self, betas: Sequence[float]) -> list[LawPoint]:
        """Return p_β at several β, from a further run."""
        found = self.observe(betas=tuple(betas), correlations=True)
        self.checks, self.bonds = list(found.checks), np.array(found.bonds, np.int64).reshape(-1, 2)
        along = found.along_beta
        return [_tempered_point(along, along["beta"].index(beta), self.bonds) for beta in betas]

    def solve(self, mean: float, start: float) -> tuple[float, float, float]:
        """Return the β at which A has this mean, its variance there, and the error of the mean.

        β is infinite if it exceeds the largest one of the run; below 0 it is extrapolated by the derivative at 0.
        """
        if mean <= self.means[0]:
            return float((mean - self.means[0]) / self.variances[0]), float(self.variances[0]), 0.0
        if mean > self.means[-1]:
            return math.inf, 0.0, 0.0
        curve = CubicHermiteSpline(self.betas, self.means, self.variances)
        roots = curve.solve(mean, extrapolate=False)
        beta = float(roots[np.abs(roots - start).argmin()]) if len(roots) else math.nan
        variance = float(curve(beta, 1))
        return beta, max(variance, 0.0), float(np.interp(beta, self.betas, self.errors))


Law = ExactLaw | TemperedLaw


def law_of(machine: Machine, config: CompareConfig, guess: float, how: dict[str, Any]) -> Law:
    """Return p_β of a machine: exact if that is quick, else tempered around a guess of β.

    `how` are the arguments of `estimate_observables` for device, threads and progress.
    """
    must = config.method == "exact"
    plan = None
    if config.method != "pt" or machine.without_isolated_units()[0] is None:
        most = EXACT_SECONDS if must else AUTO_SECONDS
        plan = moments_plan(machine, most)
        if plan.seconds <= most:
            ends = machine.reduced().bonds()[0].astype(np.int64)
            return ExactLaw(plan, View.of(machine.reduced_units(), ends, 0.0, False), how.get("threads"))
        if must:
            raise ConfigError(
                f"--method exact: no method found takes less than {duration(most)} per β; use --method pt"
            )
    names = ("n_sweeps", "n_replicates", "seed")
    settings = {name: getattr(config, name) for name in names}
    observe = partial(estimate_observables, machine, method="pt", **settings, **how)
    return TemperedLaw.of(machine, observe, guess)


def _at_zero(machine: Machine) -> tuple[float, float]:
    """Return mean and variance of A for uniform independent units, from its coefficients for spins."""
    reduced = machine.reduced()
    ends, J = reduced.bonds()
    h = reduced.biases / 2 + np.bincount(ends.ravel(), np.repeat(J, 2) / 4, len(reduced.biases))
    return float(reduced.biases.sum() / 2 + J.sum() / 4), float((h**2).sum() + (J**2).sum() / 16)


def _tempered_point(along: dict[str, list[Any]], k: int, bonds: Index) -> LawPoint:
    """Return p_β at the k-th β of a result of observables with units 0 and 1."""
    value = {name: np.array(values[k], np.float64) for name, values in along.items()}
    (i, j), beta = bonds.T, float(along["beta"][k])
    m, error = value["unit_means"], value["unit_means_std_err"]
    pair_error = np.sqrt(value["correlations_std_err"] ** 2 + (m[i] * error[j]) ** 2 + (m[j] * error[i]) ** 2)
    return LawPoint(
        beta,
        float(value["log_z"]),
        -float(value["energy"]),
        float(value["specific_heat"]) / beta**2,
        m,
        value["correlations"] + m[i] * m[j],
        float(value["log_z_std_err"]),
        float(value["energy_std_err"]),
        float(value["specific_heat_std_err"]) / beta**2,
        error,
        pair_error,
    )
