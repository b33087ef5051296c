"""Results: numbers with their errors, diagnostics and a verdict.

A result file is one JSON object.  Tables, figures and reports are made from such files alone, so this module
imports nothing heavy.  Numbers are in nats; a number that could not be computed is null, with a reason beside it.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dvae_core.cards import Card, HasCard, rows_of
from dvae_core.environment import Effort
from dvae_core.errors import ResultError
from dvae_core.io.files import json_object, read_text, to_utf8, write_text
from dvae_core.text import count, decimals, duration, error_text, estimate, fixed, plain, short
from dvae_core.versions import package_versions

from .card_rows import COLOURS, Rows, per, rows_of_checks, rows_of_run
from .frames import frame_of
from .verdict import LEVELS, MEANINGS, Check, Level, checks_of, claim_of, failures_of, level_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 1
# With more images than this, a result file has only three decimals of each image's numbers.
FEW_IMAGES = 1000
# Smaller gaps, in nats, are not printed.
LEAST_GAP = 0.005
# Keys of earlier versions in these parts of a result, with their present names.
RENAMED = {
    "settings": {"n_ladders": "n_replicates", "base": "reference", "smoothing": "as_trained"},
    "diagnostics": {
        "ladder": "betas",
        "ladder_settled": "schedule_settled",
        "independent_stretches": "independent_blocks",
        "n_stretches": "n_blocks",
    },
    "simulated": {"told": "gap_from_proposals"},
}
# Derived from the rest of a result, and written for programs that read the file.
DERIVED = ("verdict", "warnings")
R = TypeVar("R", bound="Result")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result(HasCard):
    """The fields of every result: model, settings, seed, verdict, versions and time.

    Attributes
    ----------
    model : dict
        `file`, `sha256` of that file, `prior_sha256` of the prior's parameters, and sizes.
    settings : dict
        Every setting of the run, as given on the command line or by default.
    seed : int
        Determines the numbers, for any number of workers.
    trustworthy : bool
        False if the number may be wrong.
    reasons : list of str
        The failed checks, with their remedies; empty if `trustworthy`.
    diagnostics : dict
        Numbers behind the checks, and arrays for figures; `checks` lists every `Check` as a dict.
    versions : dict
        Versions of Python and of the packages that the numbers depend on.
    command : list of str
        The command line that made this result; empty if it was made by a call of the library.
    wall_seconds : float
        Elapsed time.
    environment : dict
        Where and when it was made, and its cost: `date` (UTC), `host`, `processor`, `gpu`, `n_threads`, `system`,
        `cpu_seconds` of all processes, `peak_memory_mb` of the largest, and `commit` of a checkout.  Empty in
        files of earlier versions; ignored when results are compared.
    estimator_version : int
        Raised whenever the same seed gives other digits; 0 in files of earlier versions.
    """

    kind: ClassVar[str]

    model: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    trustworthy: bool
    reasons: list[str]
    diagnostics: dict[str, Any]
    versions: dict[str, str]
    wall_seconds: float
    command: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict, compare=False)
    estimator_version: int = 0

    @property
    def checks(self) -> list[Check]:
        """All checks, passed and failed."""
        return checks_of(self.diagnostics)

    @property
    def verdict(self) -> Level:
        """The level of the result, see `dvae_eval.verdict`."""
        return level_of(self.checks, trustworthy=self.trustworthy)

    @property
    def warnings(self) -> list[str]:
        """The failed checks of severity `warning`, with their remedies."""
        return [str(check) for check in self.checks if not check.passed and check.severity == "warning"]

    @property
    def claim(self) -> str:
        """The verdict, what it means and what to do next, in one line."""
        return claim_of(self.verdict, self._meanings(), self._next_step())

    @property
    def making(self) -> str:
        """When and where the result was made and at what cost, in one line; empty if that was not recorded."""
        return making_of(self.environment)

    def _meanings(self) -> dict[Level, str]:
        """Return what each level means for a result of this kind."""
        return MEANINGS

    def _next_step(self) -> str:
        """Return what to do next, empty for the usual step of the level."""
        return ""

    def supersedes(self, old: Result) -> bool:
        """Return whether this result can replace `old` without loss.

        It must measure the same quantity, with at least as many images and samples; it must be trustworthy if
        `old` is; and its error must not be larger, unless `old` is not trustworthy, whose error means nothing.
        """
        if not self.measures_as(old):
            return False
        if any(mine < theirs for mine, theirs in zip(self._sizes(), old._sizes(), strict=True)):
            return False
        if self.trustworthy != old.trustworthy:
            return self.trustworthy
        return all(mine <= theirs for mine, theirs in zip(self._errors(), old._errors(), strict=True))

    def measures_as(self, old: Result) -> bool:
        """Return whether the two results measure the same quantity, perhaps with different accuracy."""
        return self.kind == old.kind and self._measured() == old._measured()

    def _measured(self) -> tuple[Any, ...]:
        """Return what identifies the measured quantity; results with equal ones may replace each other."""
        return (self.model.get("sha256"), self.model.get("prior_sha256"))

    def _sizes(self) -> tuple[float, ...]:
        """Return sample sizes: larger is better."""
        return ()

    def _errors(self) -> tuple[float, ...]:
        """Return standard errors in nats: smaller is better."""
        return ()

    def _card(self) -> Card:
        """Return the card: the number, the verdict, what to do next, and how the number was made."""
        rows = (
            *rows_of_checks(self.checks),
            *self._facts(),
            *rows_of_run(self.model, self.seed, self.wall_seconds, self.settings.get("device")),
        )
        return Card(type(self).__name__, self._headline(), rows, self.claim, COLOURS[self.verdict])

    def _headline(self) -> str:
        """Return the headline of the card."""
        return str(self)

    def _facts(self) -> Rows:
        """Return the rows that only cards of this kind of result have."""
        return ()

    def to_frame(self) -> Any:
        """Return the result's parts as a `pandas.DataFrame`.

        For log Z a row is an independent replicate, or the exact value; for a likelihood an image; for observables
        a β; for gradients an estimator and term; for a comparison a unit or pair that deviates most; for a
        benchmark a run.

        Raises
        ------
        ConfigError
            If pandas is not installed.
        """
        return frame_of(self._columns())

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the columns of the data frame."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object: `kind`, `schema` and verdict first, null for nan and infinity."""
        derived = {name: getattr(self, name) for name in DERIVED}
        return {"kind": self.kind, "schema": SCHEMA, **derived, **_json_safe(dataclasses.asdict(self))}

    def to_json(self) -> str:
        """Return `to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to `path` atomically."""
        write_text(Path(path), self.to_json() + "\n")

    @classmethod
    def of(
        cls: type[R],
        config: DataclassInstance,
        checks: Sequence[Check],
        *,
        effort: Effort,
        estimator_version: int,
        packages: Sequence[str],
        settings: dict[str, Any],
        diagnostics: dict[str, Any],
        **fields: Any,
    ) -> R:
        """Return the result of an estimate, with the fields that all kinds share filled in.

        Parameters
        ----------
        config : dataclass
            The settings, with a `seed`.
        checks : sequence of Check
            All checks; a failed one of severity `failure` makes the result not trustworthy.
        effort : Effort
            Started when the work began.
        estimator_version : int
            Version of the estimator.
        packages : sequence of str
            Distributions whose versions the numbers depend on.
        settings, diagnostics : dict
            Added to the fields of `config`, and to the checks.
        **fields
            `model`, and the fields of this kind of result.
        """
        reasons = failures_of(checks)
        return cls(
            **fields,
            settings={**dataclasses.asdict(config), **settings},
            seed=config.seed,  # type: ignore[attr-defined]
            trustworthy=not reasons,
            reasons=reasons,
            diagnostics={**diagnostics, "checks": [dataclasses.asdict(check) for check in checks]},
            versions=package_versions(*packages),
            wall_seconds=effort.wall_seconds,
            environment=effort.environment(),
            estimator_version=estimator_version,
        )

    @classmethod
    def from_dict(cls: type[R], data: dict[str, Any]) -> R:
        """Return the result that a JSON object describes, written by this version or an earlier one.

        Raises
        ------
        ResultError
            If a field is missing, unknown or of the wrong type, or the schema is not the one this version reads.
        """
        if data.get("schema") != SCHEMA:
            raise ResultError(
                f"schema {data.get('schema')!r}, but this version reads {SCHEMA}; make the result again"
            )
        names = {f.name for f in dataclasses.fields(cls)}
        missing = dataclasses.MISSING
        needed = {f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing}
        given = set(data) - {"kind", "schema", *DERIVED}
        if not needed <= given <= names:
            wrong = ", ".join(sorted((given - names) | (needed - given)))[:200]
            raise ResultError(f"fields missing or unknown: {wrong}; make the result again")
        for name, hint in typing.get_type_hints(cls).items():
            if name in given and not (_fits(data[name], hint) or (hint is float and data[name] is None)):
                raise ResultError(f"{name} is {str(data[name])[:40]!r}; make the result again")
        result = cls(**{name: _renamed(data[name], name) for name in given})
        try:
            checks = result.checks
        except TypeError as error:
            raise ResultError(f"checks not understood ({error}); make the result again") from error
        return result if "verdict" in data else _with_levels(result, checks)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LogZResult(Result):
    """The log partition function of a Boltzmann machine.

    Attributes
    ----------
    log_z, std_err : float
        Estimate and standard error in nats; the error is 0 when the method is exact.
    ci95 : list of 2 floats
        95% confidence interval: Student's t with the degrees of freedom of the independent replicates.
    method : str
        `exact`, `pt-bar`, `ais` or `reverse-ais`.
    repeats : list of float
        The estimates of the independent replicates (Figure 10); empty when exact.
    """

    kind: ClassVar[str] = "logz"

    log_z: float
    std_err: float
    ci95: list[float]
    method: str
    repeats: list[float]

    @property
    def verdict(self) -> Level:
        """The level of the result: with a sandwich that passed, `bracketed`."""
        is_exact, is_bracketed = self.method == "exact", "sandwich" in self.diagnostics
        return level_of(self.checks, trustworthy=self.trustworthy, exact=is_exact, bracketed=is_bracketed)

    def _meanings(self) -> dict[Level, str]:
        """Return what each level means."""
        bounds = "annealing bounds it from both sides, from above only if the samples miss no mode"
        meanings = {**MEANINGS, "bracketed": bounds}
        return meanings | {"checked": "it agrees with the exact value"} if self._is_compared else meanings

    def _next_step(self) -> str:
        """Return what to do next, empty for the usual step of the level."""
        if self.verdict != "checked":
            return ""
        return "use the exact value" if self._is_compared else "use it with its error; --sandwich adds bounds"

    @property
    def _is_compared(self) -> bool:
        """Whether the estimate was compared with the exact value."""
        return "exact" in self.diagnostics

    def _errors(self) -> tuple[float, ...]:
        """Return the standard error, infinite if log Z is not finite."""
        return (_known_error(self.std_err, self.log_z),)

    def _headline(self) -> str:
        """Return log Z with its error."""
        return f"log Z = {estimate(self.log_z, self.std_err)} nats"

    def _facts(self) -> Rows:
        """Return the method with its sizes, and the confidence interval."""
        sweeps = self.diagnostics.get("n_sweeps")
        parts = [self.method, *([per(len(self.repeats), "replicate")] if self.repeats else [])]
        parts += [per(sweeps, "sweep")] if isinstance(sweeps, int) else []
        return rows_of(("method", ", ".join(parts)), ("95%", self._interval()))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the replicates."""
        values = self.repeats or [self.log_z]
        return {"replicate": range(len(values)), "log_z": values}

    def _interval(self) -> str:
        """Return the confidence interval, empty if the number is exact."""
        if not self.std_err:
            return ""
        low, high = (fixed(end, decimals(self.std_err)) for end in self.ci95)
        return f"{low} ... {high} nats"

    def __str__(self) -> str:
        """Return log Z in one line, with the conventions that were assumed for the file."""
        assumed = self.model.get("assumed")
        read = f", with {', '.join(map(str, assumed))}" if isinstance(assumed, list) and assumed else ""
        return plain(f"log Z = {estimate(self.log_z, self.std_err)} nats ({self.method}){read}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ObservablesResult(Result):
    """Averages over a Boltzmann machine, p_β(x) ∝ exp(-β E(x)), in the model's own convention.

    E is minus the logarithm of the model's unnormalised probability in nats, its constant included.  Units have
    the values 0 and 1 or -1 and +1, as `model["units"]` says, and are numbered from 0 in the model's own order.
    Standard errors come from the spread of independent replicates, and are 0 for exact values.

    Attributes
    ----------
    log_z, log_z_std_err : float
        log Z = log Σ_x exp(-E(x)), nats.
    energy, energy_std_err : float
        <E> at β = 1, nats.
    specific_heat, specific_heat_std_err : float
        C = β^2 (<E^2> - <E>^2), for all units together.
    entropy, entropy_std_err : float
        S = log Z + β <E>, nats.
    magnetisation, magnetisation_std_err : float
        Mean over all units.
    unit_means, unit_means_std_err : list of float
        <x_i> of every unit at β = 1.
    bonds : list of [i, j]
        The coupled pairs, i < j; empty if correlations were not requested.
    correlations, correlations_std_err : list of float
        <x_i x_j> - <x_i><x_j> of every bond at β = 1.
    along_beta : dict of str to list
        `beta`, and for each β all of the above except `bonds` under the same names: a number, or a list over units
        or bonds.
    method : str
        `exact` or `pt`.
    """

    kind: ClassVar[str] = "observables"

    log_z: float
    log_z_std_err: float
    energy: float
    energy_std_err: float
    specific_heat: float
    specific_heat_std_err: float
    entropy: float
    entropy_std_err: float
    magnetisation: float
    magnetisation_std_err: float
    unit_means: list[float]
    unit_means_std_err: list[float]
    bonds: list[list[int]]
    correlations: list[float]
    correlations_std_err: list[float]
    along_beta: dict[str, list[Any]]
    method: str

    @property
    def verdict(self) -> Level:
        """The level of the result."""
        return level_of(self.checks, trustworthy=self.trustworthy, exact=self.method == "exact")

    def _measured(self) -> tuple[Any, ...]:
        """Return what identifies the measured quantity, the inverse temperatures included."""
        return (*Result._measured(self), tuple(self.along_beta["beta"]), bool(self.bonds))

    def _errors(self) -> tuple[float, ...]:
        """Return the standard error of the energy."""
        return (_known_error(self.energy_std_err, self.energy),)

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the quantities that are a single number per β."""
        return {name: values for name, values in self.along_beta.items() if not isinstance(values[0], list)}

    def to_csv(self) -> str:
        """Return CSV: a header, then a line per β with all quantities except those per unit and per bond."""
        columns = self._columns()
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join("" if x is None else repr(float(x)) for x in row) for row in rows)]
        return "\n".join(lines) + "\n"

    def _headline(self) -> str:
        """Return the energy with its error."""
        return f"<E> = {estimate(self.energy, self.energy_std_err)} nats at β = 1"

    def _facts(self) -> Rows:
        """Return the other numbers at β = 1, the range of β, and the method."""
        betas = self.along_beta["beta"]
        span = f"{per(len(betas), 'value')}, {short(betas[0])} ... {short(betas[-1])}" if len(betas) > 1 else "1"
        parts = (("C", "specific_heat"), ("S", "entropy"), ("m", "magnetisation"), ("log Z", "log_z"))
        numbers = (
            f"{word} = {estimate(getattr(self, name), getattr(self, f'{name}_std_err'))}" for word, name in parts
        )
        return rows_of(
            ("numbers", ", ".join(numbers)),
            ("β", span),
            ("lists", f"{per(len(self.unit_means), 'mean')} of units, {per(len(self.bonds), 'correlation')}"),
            ("method", self.method),
        )

    def __str__(self) -> str:
        """Return the numbers at β = 1 in one line, with the conventions that were assumed for the file."""
        parts = [
            f"{word} = {estimate(getattr(self, name), getattr(self, f'{name}_std_err'))}"
            for word, name in (("<E>", "energy"), ("C", "specific_heat"), ("S", "entropy"), ("m", "magnetisation"))
        ]
        assumed = self.model.get("assumed")
        read = f", with {', '.join(map(str, assumed))}" if isinstance(assumed, list) and assumed else ""
        return plain(f"{', '.join(parts)} at β = 1 ({self.method}){read}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LikelihoodResult(Result):
    """The importance-weighted log-likelihood of a data set under a model: a lower bound in expectation.

    Attributes
    ----------
    log_likelihood : float
        Mean over images of log (1/K) Σ_k w_k, nats per image.
    std_err_images : float
        Sampling error of that mean over images.
    std_err_log_z : float
        Error of log Z.  It shifts every image equally, and is therefore reported separately.
    elbo : float
        Mean over images and samples of log w, the bound at K = 1.
    elbo_parts : dict of str to float
        Reconstruction, KL of the Boltzmann machine and KL of the continuous layers; they sum to `elbo`.
    n_samples, n_images : int
        K and the number of images.
    log_z : float
        The log partition function that was used; `log_z_source` says where it came from.
    per_image : dict of str to list of float
        One number per image: `index` in the data set, `label` if there is one, `log_likelihood`, `elbo`, `ess`
        (effective sample size), `pareto_k` (tail exponent of the weights), `bias` (jackknife, at most 0).
    method : str
        `importance`, or `ais`: then `n_samples` counts annealed chains, and the importance-weighted numbers for
        the same images are in `diagnostics["importance"]` and `per_image["importance"]`.
    gap : float or None
        Estimate of how far the mean lies below the log-likelihood because of too few samples; None if unknown.
    n_suspect : int or None
        Number of images with weights of so heavy a tail (`pareto_k`) that the gap of their bound is uncertain.
    bits_per_dim : float or None
        The negative log-likelihood in bits per pixel.
    simulated_gap, simulated_std_err : float or None
        How far the bound lies below the log-likelihood on simulated images, and the standard error; None if it was
        not estimated, or is infinite.
    simulated_bound : float or None
        Upper bound of that gap, in expectation.  `diagnostics["simulated"]` has the numbers of every simulated
        image and how the images were drawn, or why there are none (`not_done`).
    """

    kind: ClassVar[str] = "ll"

    log_likelihood: float
    std_err_images: float
    std_err_log_z: float
    elbo: float
    elbo_parts: dict[str, float]
    n_samples: int
    n_images: int
    log_z: float
    log_z_source: str
    per_image: dict[str, list[float]]
    method: str = "importance"
    gap: float | None = None
    n_suspect: int | None = None
    bits_per_dim: float | None = None
    simulated_gap: float | None = None
    simulated_std_err: float | None = None
    simulated_bound: float | None = None

    def _meanings(self) -> dict[Level, str]:
        """Return what each level means."""
        log_z = "with the exact log Z" if self.std_err_log_z == 0 else "provided that log Z misses no mode"
        return {
            "checked": f"a lower bound, {log_z}",
            "loose": "a lower bound that is correct within its errors",
        }

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the numbers of every image."""
        return dict(self.per_image)

    def _measured(self) -> tuple[Any, ...]:
        """Return what identifies the model, the images and the method."""
        names = ("data", "data_sha256", "split", "as_trained", "precision")
        how = (self.settings.get(name) for name in names)
        return (*Result._measured(self), self.method, *how)

    def _sizes(self) -> tuple[float, ...]:
        """Return the numbers of images and samples."""
        return (self.n_images, self.n_samples)

    def _errors(self) -> tuple[float, ...]:
        """Return the error of log Z; the number of images, in `_sizes`, determines the error over images."""
        return (_known_error(self.std_err_log_z, self.log_likelihood),)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to `path` atomically, with three decimals per image if there are many images.

        The npz file beside it has all digits, see `likelihood_images`.
        """
        short = {name: [_rounded(value) for value in values] for name, values in self.per_image.items()}
        per_image = short if self.n_images > FEW_IMAGES else self.per_image
        Result.save(dataclasses.replace(self, per_image=per_image), path)

    def _headline(self) -> str:
        """Return the log-likelihood with both of its errors."""
        number = fixed(self.log_likelihood, decimals(self.std_err_images, self.std_err_log_z))
        images, log_z = error_text(self.std_err_images), error_text(self.std_err_log_z)
        return f"log p(x) >= {number} ± {images} (images) ± {log_z} (log Z) nats"

    def _facts(self) -> Rows:
        """Return the gap, the sample sizes and log Z."""
        what = "sample" if self.method == "importance" else "annealed chain"
        gap = "" if self.gap is None else f"about {error_text(self.gap)} nats below the log-likelihood"
        return rows_of(
            ("gap", gap),
            ("images", f"{count(self.n_images)}, {per(self.n_samples, what)} each"),
            ("log Z", f"{estimate(self.log_z, self.std_err_log_z)} nats, {self.log_z_source}"),
        )

    def __str__(self) -> str:
        """Return the log-likelihood with both of its errors and its estimated gap, in one line."""
        number = fixed(self.log_likelihood, decimals(self.std_err_images, self.std_err_log_z))
        gap = "" if self.gap is None or self.gap < LEAST_GAP else f", gap about {error_text(self.gap)}"
        return plain(
            f"log p(x) >= {number} ± {error_text(self.std_err_images)} (images) "
            f"± {error_text(self.std_err_log_z)} (log Z) nats{gap} "
            f"({self.n_samples} {'samples' if self.method == 'importance' else 'annealed chains'}, "
            f"{self.n_images} images)"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GradientResult(Result):
    """Bias and variance of estimators of the bound's gradient with respect to the logits of the RBM's posterior.

    The gradient for one image is a vector of `n_units` numbers.  Norms are root mean squares over the images,
    variances are means.  The terms are `rbm` (-KL[q(z|x) || p(z)]), `rest` (the part of the bound that depends on
    z through ζ only) and their sum `elbo`.

    Attributes
    ----------
    estimators : dict of str to dict
        For every estimator: `is_unbiased` (in theory), `seconds` (of computing, per draw and image) and `terms`.
        For every term: `variance` (trace of the covariance of a draw), `snr` (norm of the true gradient over the
        square root of the variance), `bias` (norm, 0 if it is not visible above the noise), `bias_std_err` (the
        norm that noise alone would have), `z` (the deviation from no bias as a standard normal deviate; null for
        the estimator that made the reference) and `cosine` (between the mean draw and the true gradient).
    reference : dict
        `method` (`exact`, or the estimator whose average it is), `n_samples`, and for every term `norm` and
        `std_err`.
    n_samples, n_images, n_units : int
        Draws per image, images, and RBM units.
    """

    kind: ClassVar[str] = "gradients"

    estimators: dict[str, dict[str, Any]]
    reference: dict[str, Any]
    n_samples: int
    n_images: int
    n_units: int

    def _meanings(self) -> dict[Level, str]:
        """Return what each level means."""
        return {**MEANINGS, "checked": "no unbiased estimator shows a bias"}

    def _next_step(self) -> str:
        """Return what to do next, empty for the usual step of the level."""
        return "compare the estimators by their variance and bias" if self.verdict == "checked" else ""

    def _measured(self) -> tuple[Any, ...]:
        """Return what identifies the model and the images."""
        return (*Result._measured(self), *(self.settings.get(name) for name in ("data", "data_sha256", "split")))

    def _sizes(self) -> tuple[float, ...]:
        """Return the numbers of images and draws, and of the reference's draws, infinite if it is exact."""
        exact = self.reference["method"] == "exact"
        return (self.n_images, self.n_samples, math.inf if exact else self.reference["n_samples"])

    def _facts(self) -> Rows:
        """Return sizes."""
        sizes = f"{per(self.n_images, 'image')}, {per(self.n_samples, 'draw')} each, {per(self.n_units, 'unit')}"
        return rows_of(("sizes", sizes), ("reference", self.reference.get("method")))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return a row per estimator and term."""
        rows = [
            {"estimator": name, **{k: v for k, v in found.items() if k != "terms"}, "term": term, **numbers}
            for name, found in self.estimators.items()
            for term, numbers in found["terms"].items()
        ]
        return {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}

    def __str__(self) -> str:
        """Return the variance of the first estimator, and those of the others in multiples of it."""
        variances = {name: found["terms"]["elbo"]["variance"] for name, found in self.estimators.items()}
        (first, least), *others = variances.items()
        ratios = ", ".join(f"{name} {value / least:.3g} x" for name, value in others) if least else "none"
        return f"variance of the bound's gradient: {first} {least:.3g}; {ratios}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult(Result):
    """Samples made elsewhere, compared with a Boltzmann machine p_β(x) ∝ exp(-β E(x)), in its own convention.

    The result is trustworthy if the samples are consistent with p_β of the machine for some β, and the checks of
    the machine's own numbers passed.

    Attributes
    ----------
    n_reads : float
        Effective number of reads: (Σ w)^2 / Σ w^2, where a read that occurred w times counts as w reads of weight
        1.
    n_distinct : int
        Number of distinct states among them.
    is_boltzmann : bool
        Whether the samples are consistent with the Boltzmann law of this machine at the effective β.
    effective_beta : float
        The β whose law has the smallest KL divergence from the samples: `beta_energy`.
    beta_energy, beta_energy_std_err : float
        The β at which the machine has the samples' mean energy: the maximum-likelihood estimate.  Not finite (null
        in the file) if there is no such β.
    beta_pl, beta_pl_std_err : float
        The maximum-pseudo-likelihood estimate.
    beta_energy_ci95, beta_pl_ci95 : list of 2 floats
        95% intervals.
    energy, energy_std_err : float
        Mean of E over the samples, nats.
    entropy : list of 2 floats
        Lower and upper bound of the entropy of the samples' law, nats, widened by their 95% errors.
    at_one, at_beta : dict
        At β = 1 and at the effective β (None if that is not positive): `beta`; `log_z` and `energy` of the
        machine with `..._std_err`; `energy_z`, how far the samples' mean energy is above the machine's, in
        standard errors; `kl`, bounds of KL(samples || p_β), nats, widened by their 95% errors; and `deviations`
        of units and coupled pairs, the least likely first: `units` by number, `names`, mean in `samples` and
        `machine` (of x_i or x_i x_j), `z`, and `p_holm`, corrected for the number of tests.
    basins : list of dict
        Share of each basin in `samples` and `machine`, with `..._std_err`, at the effective β.
    classes : list of dict
        For every class of reads: `class`, `n_reads`, `share`, `energy` and both β with their errors.
    method : str
        How the machine's numbers were computed: `exact` or `pt`.
    """

    kind: ClassVar[str] = "comparison"

    n_reads: float
    n_distinct: int
    is_boltzmann: bool
    effective_beta: float
    beta_energy: float
    beta_energy_std_err: float
    beta_energy_ci95: list[Any]
    beta_pl: float
    beta_pl_std_err: float
    beta_pl_ci95: list[Any]
    energy: float
    energy_std_err: float
    entropy: list[Any]
    at_one: dict[str, Any]
    at_beta: dict[str, Any] | None
    basins: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    method: str

    @property
    def claim(self) -> str:
        """The verdict, whether the samples follow a Boltzmann law, and what to do next."""
        if not self.is_boltzmann:
            return "no Boltzmann law of this machine at any β; each failed check says where to look"
        beta = estimate(self.effective_beta, self.beta_energy_std_err)
        law = f"as far as {self.n_reads:.5g} reads show, a Boltzmann law of this machine at β = {beta}"
        level = "checked" if self.verdict == "loose" else self.verdict
        return plain(claim_of(level, dict.fromkeys(LEVELS, law), self._next_step()))

    def _next_step(self) -> str:
        """Return what to do next, empty for the usual step of the level."""
        return "" if self.verdict == "doubtful" else "use β with its error"

    def _measured(self) -> tuple[Any, ...]:
        """Return what identifies the samples and the machine."""
        samples = self.settings.get("samples", {})
        return (*Result._measured(self), samples.get("sha256"), self.n_reads)

    def _facts(self) -> Rows:
        """Return sizes."""
        sizes = (
            f"{short(self.n_reads)}, {count(self.n_distinct)} distinct states, {per(len(self.basins), 'basin')}"
        )
        return rows_of(("reads", sizes), ("method", self.method))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the largest deviations at β = 1 and at the effective β."""
        rows = [
            {"beta": at["beta"], **deviation}
            for at in (self.at_one, self.at_beta)
            if at is not None
            for deviation in at["deviations"]
        ]
        names = ("beta", "units", "names", "samples", "machine", "z", "p_holm")
        columns = {name: [row[name] for row in rows] for name in names}
        return columns | {
            "units": [" ".join(map(str, units)) for units in columns["units"]],
            "names": [" ".join(names) for names in columns["names"]],
        }

    def __str__(self) -> str:
        """Return both β and the bounds of KL in one line."""
        betas = ", ".join(
            f"{estimate(value, error)} by {how}"
            for value, error, how in (
                (self.beta_energy, self.beta_energy_std_err, "energy"),
                (self.beta_pl, self.beta_pl_std_err, "pseudo-likelihood"),
            )
        )
        at = self.at_beta or self.at_one
        low, high = (fixed(bound, 3) for bound in at["kl"])
        return plain(f"β = {betas}; KL = {low} ... {high} nats at β = {fixed(at['beta'], 3)} ({self.method})")


# Required keys of a benchmark's run, with their types.
RUN: dict[str, Any] = {
    **dict.fromkeys(("method", "machine"), str),
    "seed": int,
    "verdict": typing.Literal["right", "wrong", "declined", "failed", "skipped"],
    **dict.fromkeys(("exact", "cpu_seconds"), float),
    **dict.fromkeys(("error", "z", "peak_memory"), float | None),
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BenchmarkResult(Result):
    """Runs of estimators of log Z on test machines, or of log p(x) on test models, with the exact values.

    The result is trustworthy if no run is missing; whether the estimators can be trusted is in `runs`.

    Attributes
    ----------
    runs : list of dict
        One for every `method`, `machine` (or model) and `seed`.  From the estimator: `log_z` (or `log_p_x`, the
        mean over images, and the `gap` of a bound) and `std_err`, nats, and `trusted`.  From the benchmark:
        `exact`, `error` and `z`, the error beyond the gap in standard errors; `verdict`, see
        `dvae_eval.benchmark.rules`; `cpu_seconds` and `peak_memory` (bytes) of its process; and a `note` if it
        failed.  Unknown values are null.
    """

    kind: ClassVar[str] = "benchmark"

    runs: list[dict[str, Any]]

    def __post_init__(self) -> None:
        """Raise ResultError if a run lacks a required key."""
        for run in self.runs:
            if not all(_fits(run.get(name), hint) for name, hint in RUN.items()):
                raise ResultError(f"runs: {str(run)[:60]} is not a valid run; make the result again")

    def _meanings(self) -> dict[Level, str]:
        """Return what each level means."""
        return {"checked": "every run was made"}

    def _next_step(self) -> str:
        """Return what to do next, empty for the usual step of the level."""
        return "compare the methods by the verdicts of their runs" if self.verdict == "checked" else ""

    @property
    def methods(self) -> list[str]:
        """Names of the estimators, in the order of the runs."""
        return list(dict.fromkeys(run["method"] for run in self.runs))

    @property
    def machines(self) -> list[str]:
        """Names of the machines, in the order of the runs."""
        return list(dict.fromkeys(run["machine"] for run in self.runs))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return a row per run."""
        return {name: [run.get(name) for run in self.runs] for name in (self.runs[0] if self.runs else ())}

    def __str__(self) -> str:
        """Return the counts of the verdicts in one line."""
        verdicts = [run["verdict"] for run in self.runs]
        case = "model" if self.settings.get("kind") == "likelihood" else "machine"
        sizes = {"run": len(verdicts), "method": len(self.methods), case: len(self.machines)}
        runs, methods, cases = (f"{n} {thing}{'' if n == 1 else 's'}" for thing, n in sizes.items())
        words = {"right": "right", "declined": "declined", "wrong": "wrong and trusted", "failed": "failed"}
        counts = ", ".join(f"{verdicts.count(name)} {word}" for name, word in words.items())
        return f"{runs} of {methods} on {cases}: {counts}"


def making_of(environment: dict[str, Any]) -> str:
    """Return when and where something was made and at what cost, in one line; see `Result.environment`."""
    plain_ones = {name: value for name, value in environment.items() if isinstance(value, int | float | str)}
    found = {n: v for n, v in plain_ones.items() if not isinstance(v, float) or math.isfinite(v)}
    seconds, n_mb = found.get("cpu_seconds"), found.get("peak_memory_mb")
    parts = [
        str(found.get("date", ""))[:10],
        str(found.get("host", "")),
        str(found.get("gpu", found.get("processor", ""))),
        f"{duration(seconds)} of CPU time" if isinstance(seconds, int | float) else "",
        f"{n_mb:.0f} MB" if isinstance(n_mb, int | float) else "",
    ]
    return ", ".join(part for part in parts if part)


KINDS: dict[str, type[Result]] = {
    "logz": LogZResult,
    "ll": LikelihoodResult,
    "gradients": GradientResult,
    "observables": ObservablesResult,
    "comparison": ComparisonResult,
    "benchmark": BenchmarkResult,
}


def load_result(path: str | os.PathLike[str]) -> Result:
    """Read the result file at `path`.

    Raises
    ------
    ResultError
        If the file is missing, is not a JSON object, or has an unknown kind or another schema.
    """
    return _results(Path(path), lambda text: [text])[0]


def load_result_lines(path: str | os.PathLike[str]) -> list[Result]:
    """Read a file of one result per line, as `dvae-eval logz MODEL... -o` writes; errors as in `load_result`."""
    return _results(Path(path), lambda text: [line for line in text.split("\n") if line.strip()])


def _results(path: Path, parts: Callable[[str], list[str]]) -> list[Result]:
    """Return the results in a file's text, which `parts` splits into JSON objects."""
    try:
        found = [json_object(part) for part in parts(read_text(path))]
    except FileNotFoundError as error:
        raise ResultError(f"{path}: no such file; give a result file of dvae-eval") from error
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: not a result file, which is JSON text; give a result of dvae-eval") from error
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read as a result file ({error}); make the result again") from error
    return [_result_of(path, data) for data in found]


def _result_of(path: Path, data: dict[str, Any]) -> Result:
    """Return the result that a JSON object of a file describes."""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = str(kind)[:40]
        raise ResultError(
            f"{path}: not a result of this project (kind {found!r}); give a result of kind {', '.join(KINDS)}"
        )
    try:
        result = KINDS[kind].from_dict(data)
        if None not in data.values():
            str(result), repr(result)  # these read the parts whose types `_fits` cannot check
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ResultError) else "inconsistent contents; make the result again"
        raise ResultError(f"{path}: {reason}") from error
    return result


def _with_levels(result: R, checks: Sequence[Check]) -> R:
    """Return a result of an earlier version, which had no warnings, as this version judges it."""
    failed = [check for check in checks if not check.passed]
    if not failed or failures_of(checks):
        return result
    return dataclasses.replace(result, trustworthy=True, reasons=[])


def _known_error(std_err: float | None, value: float | None) -> float:
    """Return a standard error, infinite if it or the number is not finite (null in files)."""
    known = all(number is not None and math.isfinite(number) for number in (std_err, value))
    return float(std_err) if known and std_err is not None else math.inf


def _renamed(value: Any, part: str) -> Any:
    """Return a part of a result with the keys of earlier versions renamed, recursively."""
    if not isinstance(value, dict):
        return value
    names = RENAMED.get(part, {})
    return {names.get(key, key): _renamed(item, key) for key, item in value.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has a field's type; lists and dicts may contain null for non-finite numbers."""
    inner = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Literal:
            return value in inner
        case typing.Union | types.UnionType:
            return any(_fits(value, option) for option in inner)
        case builtins.list:
            return isinstance(value, list) and all(item is None or _fits(item, inner[0]) for item in value)
        case builtins.dict:
            items = value.values() if isinstance(value, dict) else ()
            return isinstance(value, dict) and all(item is None or _fits(item, inner[1]) for item in items)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return hint is Any or type(value) is hint or (hint is types.NoneType and value is None)


def _rounded(value: float) -> float:
    """Return a number rounded to three decimals, finer than the noise of any image's estimate."""
    return value if isinstance(value, int) or not math.isfinite(value) else round(value, 3)


def _json_safe(value: Any) -> Any:
    """Return `value` with tuples as lists, NumPy scalars as Python ones, and None for non-finite floats."""
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if hasattr(value, "tolist"):
        return _json_safe(value.tolist())
    if isinstance(value, str):
        return to_utf8(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
