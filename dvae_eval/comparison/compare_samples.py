"""Samples made elsewhere, compared with a Boltzmann machine: effective β, KL, moments and weights of basins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from dvae_core.environment import Effort
from dvae_core.errors import DataError
from dvae_core.keywords import configured, with_settings
from dvae_core.progress import ProgressCallback
from dvae_core.types import Float

from ..machine import real_array
from ..observables.run import scaled
from ..readers import Reading
from ..results import ComparisonResult
from ..runtime.compute import available_cores
from ..states.config import StatesConfig
from ..states.sample_states import as_reading, sample_states
from ..verdict import Check
from .basins import BasinWeights, basin_weights
from .beta import Beta, by_energy, by_pseudo_likelihood, difference, spread_of_energies
from .config import CompareConfig
from .entropy import Entropy, entropy_of
from .law import ExactLaw, Law, LawPoint, law_of
from .moments import Deviations, deviations_of
from .reads import Reads, reads_of

PACKAGES = ("numpy", "scipy", "numba", "torch")
# Probability that sound reads fail a check.
FALSE_ALARM = 1e-4
N_STATES, N_BINS = 4000, 40
METHODS: dict[str, Literal["auto", "exact", "pt-bar"]] = {"auto": "auto", "exact": "exact", "pt": "pt-bar"}
# Remedies for reads that are not from a Boltzmann distribution of the machine.
TEMPERATURES = "possibly a mixture of temperatures; give classes of the reads (--classes) to compare their β"
SIGN = "the sign of the energies may be wrong, or all reads are the ground state; check the sign convention"
DEVIATIONS = "look up the units and pairs that deviate most, and check their order and the model's couplings"
BASINS = "the sampler prefers some basins, whose weights are listed; sample longer, or from other starts"
# Raise this when the same settings and seed give other digits; tests/eval/test_environment.py checks it.
ESTIMATOR_VERSION = 1


@with_settings(CompareConfig)
def compare_samples(
    model: Any,
    states: Any,
    weights: Any = None,
    config: CompareConfig | None = None,
    *,
    labels: Sequence[str] = (),
    classes: Any = None,
    source: dict[str, Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> ComparisonResult:
    """Compare samples of all units, made elsewhere, with a Boltzmann machine.

    Parameters
    ----------
    model : Reading, or what `estimate_log_z` takes
    states : array, shape (n, n_units)
        Independent reads of 0 and 1, or of -1 and +1, in the model's own order unless `labels` are given.
    weights : array, shape (n,), optional
        Number of times that each read occurred, or its weight.
    config : CompareConfig, optional
    labels : sequence of str
        Name of each column's unit; units without a name are numbered from 0.
    classes : int array, shape (n,), optional
        Class of each read, such as its number of broken chains; β and mean energy are reported per class.
    source : dict, optional
        Description of the samples' origin for the result.
    device, threads, progress
        As for `estimate_log_z`.
    **settings
        Fields of CompareConfig, such as seed=3 or method="pt".

    Returns
    -------
    ComparisonResult

    Raises
    ------
    ConfigError
        If a setting is invalid, or requested exact values take too long.
    DataError
        If the model does not define a machine, or the samples are not states of it.
    OverlapError
        If two neighbouring rungs of a tempered run share no mass.

    Examples
    --------
    >>> import numpy as np
    >>> from dvae_eval import sample_states
    >>> rng = np.random.default_rng(0)
    >>> W, b, c = rng.normal(size=(8, 6)), rng.normal(size=8), rng.normal(size=6)
    >>> reads = sample_states((W / 2, b / 2, c / 2), 1000).states  # of β = 0.5
    >>> found = compare_samples((W, b, c), reads)
    >>> found.is_boltzmann, abs(found.effective_beta - 0.5) < 0.1
    (True, True)
    """
    effort = Effort()
    config = configured(CompareConfig, config, settings, compare_samples)
    reading = model if isinstance(model, Reading) else as_reading(model)
    reads = reads_of(reading, states, weights, labels)
    how = {"device": device, "threads": threads or available_cores(), "progress": progress}
    task = _Task(reading, reads, config, how)
    pl = by_pseudo_likelihood(reads, reading.machine)
    law = law_of(reading.machine, config, pl.value, how)
    energy = by_energy(reads, law, pl.value)
    run_checks = list(law.checks)
    at_one, at_beta = _points(law, energy)
    found = _Found(task, law, pl, energy, at_one, at_beta)
    drawn = found.draw() if at_beta is not None and config.basins else None
    checks = [*found.law_checks(drawn), *run_checks, *law.checks, *(drawn.checks if drawn else ())]
    checks += [*found.warnings(weights is None)]
    return ComparisonResult.of(
        config,
        checks,
        **found.fields(drawn, _class_rows(classes, states, weights)),
        model={**reading.description, **reading.machine.description()},
        settings={"device": device, "samples": {**(source or {}), "n_rows": len(np.asarray(states))}},
        diagnostics=found.diagnostics(drawn),
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=PACKAGES,
    )


def _class_rows(classes: Any, states: Any, weights: Any) -> NDArray[np.int64] | None:
    """Return the class of every read with a positive weight."""
    if classes is None:
        return None
    values = real_array("classes", classes)
    if values.shape != (len(states),) or (values != np.round(values)).any():
        raise DataError(f"classes have shape {values.shape}; give an integer per read, for {len(states)} reads")
    return values[... if weights is None else np.asarray(weights) > 0].astype(np.int64)


def _points(law: Law, energy: Beta) -> tuple[LawPoint, LawPoint | None]:
    """Return p_β at β = 1 and at the effective β; None for the latter if it is not positive and finite."""
    beta = energy.value
    if not (math.isfinite(beta) and beta > 0):
        return law.points((1.0,))[0], None
    points = {point.beta: point for point in law.points(sorted({1.0, beta}))}
    return points[1.0], points[beta]


@dataclass(frozen=True, slots=True)
class _Task:
    """What to compare, with which settings, and on which device."""

    reading: Reading
    reads: Reads
    config: CompareConfig
    how: dict[str, Any]

    @property
    def is_spin(self) -> bool:
        return bool(self.reading.description["units"] == "pm1")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Samples of the machine at the effective β: A of each, their checks, and weights of basins."""

    a: Float
    checks: list[Check]
    weights: BasinWeights


@dataclass(frozen=True, slots=True)
class _Found:
    """Estimates from the reads, and p_β at β = 1 and at the effective β."""

    task: _Task
    law: Law
    pl: Beta
    energy: Beta
    at_one: LawPoint
    at_beta: LawPoint | None

    def draw(self) -> _Drawn:
        """Draw samples of p_β at the effective β, and compute weights of basins."""
        assert self.at_beta is not None
        task, beta = self.task, self.at_beta.beta
        machine, config = scaled(task.reading.machine, beta), task.config
        settings = StatesConfig(
            N_STATES,
            METHODS[config.method],
            n_sweeps=config.n_sweeps,
            n_replicates=config.n_replicates,
            seed=config.seed,
        )
        found = sample_states(machine, config=settings, **task.how)
        x = found.states.view(np.uint8)
        n = float(found.diagnostics.get("states", {}).get("effective_states", len(x)))
        weights = basin_weights(machine, task.reads, x, n, config.seed)
        return _Drawn((found.log_p + found.log_z) / beta, list(found.checks), weights)

    def deviations(self, point: LawPoint) -> Deviations:
        return deviations_of(self.task.reads, point, self.law.bonds, self.task.is_spin)

    def law_checks(self, drawn: _Drawn | None) -> list[Check]:
        """Return the checks that reads of any p_β pass, each with probability 1 - FALSE_ALARM."""
        apart = abs(difference(self.task.reads, self.pl, self.energy))
        found = [("β by pseudo-likelihood and by energy differ, in standard errors", apart, TEMPERATURES)]
        point = self.at_beta
        if point is None:
            below = -self.energy.value / self.energy.std_err if math.isfinite(self.energy.value) else math.inf
            found.append(("effective β is below 0 or not finite, in standard errors", below, SIGN))
        else:
            spread = spread_of_energies(self.task.reads, point.variance, point.variance_std_err)
            found.append(
                ("spread of energies differs from that at β, in standard errors", abs(spread), TEMPERATURES)
            )
            least = max(self.deviations(point).least, 1e-300)
            name = "largest deviation of a unit or pair at β, all counted, in standard errors"
            found.append((name, float(norm.isf(least / 2)), DEVIATIONS))
        if drawn is not None:
            found.append(("weights of basins differ at β, in standard errors", drawn.weights.z, BASINS))
        return [Check.at_most(name, value, self.limit, remedy) for name, value, remedy in found]

    @property
    def limit(self) -> float:
        """Standard errors that a sound difference exceeds with probability FALSE_ALARM (Student's t)."""
        return float(student.isf(FALSE_ALARM / 2, max(self.task.reads.n_effective - 1, 1.0)))

    def warnings(self, in_order: bool) -> list[Check]:
        """Return checks whose failure is a warning."""
        off = abs(self.energy.value - 1) / self.energy.std_err if self.energy.std_err > 0 else math.inf
        remedy = "the samples are of another temperature; read the file with that --beta, or scale the machine"
        checks = [
            Check.at_most("effective β differs from 1, in standard errors", off, self.limit, remedy, warning=True)
        ]
        if in_order:
            checks.append(
                Check.at_most(
                    "correlation of energies of neighbouring reads, in standard errors",
                    _memory(self.task.reads.a),
                    self.limit,
                    "neighbouring reads are correlated, so that errors are too small; give every k-th read",
                    warning=True,
                )
            )
        return checks

    def fields(self, drawn: _Drawn | None, classes: NDArray[np.int64] | None) -> dict[str, Any]:
        """Return the result's own fields."""
        reads, constant = self.task.reads, self.task.reading.constant
        entropy = entropy_of(reads, self.law.bonds, self.task.config.seed)
        beta = self.at_beta
        return {
            "n_reads": reads.n_effective,
            "n_distinct": len(reads.distinct()[1]),
            "is_boltzmann": all(check.passed for check in self.law_checks(drawn)),
            "effective_beta": self.energy.value,
            **_of_beta("beta_energy", self.energy),
            **_of_beta("beta_pl", self.pl),
            "energy": -(float(reads.mean(reads.a)) + constant),
            "energy_std_err": reads.std_err(reads.a),
            "entropy": entropy.ci95,
            "at_one": self._against(self.at_one, entropy),
            "at_beta": None if beta is None else self._against(beta, entropy),
            "basins": drawn.weights.basins if drawn else [],
            "classes": []
            if classes is None
            else [self._of_class(classes, k) for k in np.unique(classes).tolist()],
            "method": "exact" if isinstance(self.law, ExactLaw) else "pt",
        }

    def _against(self, point: LawPoint, entropy: Entropy) -> dict[str, Any]:
        """Return the machine's values at a β, and the deviations of the reads from them."""
        reading, reads = self.task.reading, self.task.reads
        error = math.hypot(math.sqrt(point.variance / reads.n_effective), point.mean_std_err)
        away = float(point.mean - reads.mean(reads.a))
        names = reading.labels or tuple(map(str, range(reading.n_units)))
        worst = self.deviations(point).worst(self.task.config.n_worst, names, reading.free)
        return {
            "beta": point.beta,
            "log_z": point.log_z + point.beta * reading.constant,
            "log_z_std_err": point.log_z_std_err,
            "energy": -(point.mean + reading.constant),
            "energy_std_err": point.mean_std_err,
            "energy_z": away / error if error > 0 else None,
            "kl": entropy.kl(point),
            "deviations": worst,
        }

    def _of_class(self, classes: NDArray[np.int64], k: int) -> dict[str, Any]:
        """Return β and mean energy of the reads in one class."""
        reads, reading = self.task.reads.part(classes == k), self.task.reading
        pl = by_pseudo_likelihood(reads, reading.machine)
        return {
            "class": k,
            "n_reads": reads.n_effective,
            "share": reads.n / self.task.reads.n,
            "energy": -(float(reads.mean(reads.a)) + reading.constant),
            "energy_std_err": reads.std_err(reads.a),
            **_of_beta("beta_pl", pl),
            **_of_beta("beta_energy", by_energy(reads, self.law, pl.value)),
        }

    def diagnostics(self, drawn: _Drawn | None) -> dict[str, Any]:
        """Return arrays for figures: histograms of energies, means of units."""
        reads, point = self.task.reads, self.at_beta or self.at_one
        found = self.deviations(point)
        n_units = len(found.p) - len(found.bonds)
        return {
            "energies": _histograms(reads, drawn, self.task.reading.constant),
            "unit_means": {"samples": found.seen[:n_units], "machine": found.expected[:n_units]},
            "bonds": {"samples": found.seen[n_units:], "machine": found.expected[n_units:]},
            "shares_are_of": "units that are on; pairs that " + ("agree" if found.is_spin else "are both on"),
            "beta": point.beta,
        }


def _of_beta(name: str, beta: Beta) -> dict[str, Any]:
    """Return an estimate of β as fields of a result."""
    return {name: beta.value, f"{name}_std_err": beta.std_err, f"{name}_ci95": beta.ci95}


def _histograms(reads: Reads, drawn: _Drawn | None, constant: float) -> dict[str, Any]:
    """Return shares of energies per bin, for the reads and the machine's samples at the effective β."""
    own = -(drawn.a + constant) if drawn else np.empty(0)
    e = -(reads.a + constant)
    edges = np.histogram_bin_edges(np.concatenate((e, own)), N_BINS)
    samples = np.histogram(e, edges, weights=reads.w / reads.n)[0]
    machine = np.histogram(own, edges)[0] / max(1, len(own))
    return {"edges": edges, "samples": samples, "machine": machine if drawn else []}


def _memory(a: Float) -> float:
    """Return the correlation of neighbours in standard errors of 1 / sqrt(n)."""
    deviation = a - a.mean()
    square = float((deviation**2).sum())
    return float(deviation[1:] @ deviation[:-1]) / square * math.sqrt(len(a)) if square > 0 else 0.0
