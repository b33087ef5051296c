"""Results as values: what was measured, how well, and whether to trust it.

A result file is one JSON object.  Tables, figures and reports are made from such files alone, so this module
imports nothing heavy.  Numbers are in nats; what could not be computed is null with a reason beside it.
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
from .verdict import WORDS, Check, Level, checks_of, failures_of, level_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = 1
# A result of more images than this is written with a few digits of each.
FEW_IMAGES = 1000
# A gap below this is not worth a word.
LEAST_GAP = 0.005
# Keys that earlier versions wrote into these parts of a result, and what they are called today.
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
# What is derived from the rest of a result, and stands in its file for programs that read it.
DERIVED = ("verdict", "warnings")
R = TypeVar("R", bound="Result")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result(HasCard):
    """What every result carries: the model, the settings, the seed, versions, time and the verdict.

    Attributes
    ----------
    model : dict
        `file`, `sha256` of that file, `prior_sha256` of the prior's parameters, and sizes.
    settings : dict
        Every setting of the run, as given on the command line or by default.
    seed : int
        Fixes the result, whatever the number of workers.
    trustworthy : bool
        False if the number may be wrong; then `reasons` says which checks failed, in words.
    diagnostics : dict
        What the checks looked at, and arrays for figures; `checks` holds every `Check` as a dict.
    versions : dict
        Versions of python and of the packages that made the number.
    command : list of str
        The command line that made this result, empty when it came from the library.
    wall_seconds : float
        Time taken.
    environment : dict
        Where, when and at what cost it was made: `date` (UTC), `host`, `processor`, `gpu`, `n_threads`, `system`,
        `cpu_seconds` of all processes, `peak_memory_mb` of the largest, and `commit` of a checkout.  Empty in
        files of earlier versions; results are equal whatever it holds.
    estimator_version : int
        Raised when the same seed gives other digits; 0 in files of earlier versions.
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
        """Every check that was made."""
        return checks_of(self.diagnostics)

    @property
    def verdict(self) -> Level:
        """How far the number carries, see `dvae_eval.verdict`."""
        return level_of(self.checks, trustworthy=self.trustworthy)

    @property
    def warnings(self) -> list[str]:
        """What is true of the number but could be better, in words."""
        return [str(check) for check in self.checks if not check.passed and check.severity == "warning"]

    @property
    def claim(self) -> str:
        """The verdict and what it rests on, in a few words."""
        rests_on = self._rests_on().get(self.verdict, "")
        return f"{WORDS[self.verdict]}; {rests_on}" if rests_on else WORDS[self.verdict]

    @property
    def making(self) -> str:
        """When and where it was made, and at what cost, in a line; empty where it does not say."""
        return making_of(self.environment)

    def _rests_on(self) -> dict[Level, str]:
        """Return what every verdict rests on, or means, for a result of this kind."""
        return {"loose": "true within its errors, but it could be better"}

    def supersedes(self, old: Result) -> bool:
        """Say whether nothing is lost when this result takes the place of `old`.

        It must measure the same thing, with no fewer images and samples; be trustworthy if `old` is; and have no
        larger error, unless `old` is not trustworthy, since the error of such a result means nothing.
        """
        if not self.measures_as(old):
            return False
        if any(mine < theirs for mine, theirs in zip(self._sizes(), old._sizes(), strict=True)):
            return False
        if self.trustworthy != old.trustworthy:
            return self.trustworthy
        return all(mine <= theirs for mine, theirs in zip(self._errors(), old._errors(), strict=True))

    def measures_as(self, old: Result) -> bool:
        """Say whether the two measure the same thing, and differ in how well alone."""
        return self.kind == old.kind and self._measured() == old._measured()

    def _measured(self) -> tuple[Any, ...]:
        """Return what is measured: where it is equal, one result may take the place of another."""
        return (self.model.get("sha256"), self.model.get("prior_sha256"))

    def _sizes(self) -> tuple[float, ...]:
        """Return numbers of which more is better."""
        return ()

    def _errors(self) -> tuple[float, ...]:
        """Return errors, of which less is better, nats."""
        return ()

    def _card(self) -> Card:
        """Return the number, the verdict, what to do next, and of what it was made."""
        rows = (
            *rows_of_checks(self.checks),
            *self._facts(),
            *rows_of_run(self.model, self.seed, self.wall_seconds, self.settings.get("device")),
        )
        return Card(type(self).__name__, self._headline(), rows, self.claim, COLOURS[self.verdict])

    def _headline(self) -> str:
        """Return the number in a line."""
        return str(self)

    def _facts(self) -> Rows:
        """Return what else the card of a result of this kind has."""
        return ()

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each of what the result is made of.

        For log Z a row is an independent replicate, or the exact value; for a likelihood it is an image, for
        observables a β, for gradients an estimator and term, for a comparison a unit or pair that deviates most.

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
        """Return the JSON object of the result: no nan, no infinity, `kind`, `schema` and the verdict first."""
        derived = {name: getattr(self, name) for name in DERIVED}
        return {"kind": self.kind, "schema": SCHEMA, **derived, **_json_safe(dataclasses.asdict(self))}

    def to_json(self) -> str:
        """Return the result as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to `path`, whole or not at all."""
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
        """Return the result of an estimate: the verdict of its checks, its settings, versions and time.

        Parameters
        ----------
        config : dataclass
            The settings, with a `seed`.
        checks : sequence of Check
            Every check that was made; one that failed, and is no mere warning, makes the result not trustworthy.
        effort : Effort
            The work, from its beginning.
        estimator_version : int
            Of the estimator.
        packages : sequence of str
            Distributions whose versions the numbers depend on.
        settings, diagnostics : dict
            What is added to the fields of `config`, and to the checks.
        **fields
            `model`, and the result's own fields.
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
        """Return the result that `data` describes, made by this version or an earlier one.

        Raises
        ------
        ResultError
            If a field is missing, unknown, or the schema is not the one this version reads.
        """
        if data.get("schema") != SCHEMA:
            raise ResultError(f"schema {data.get('schema')!r}, this version reads {SCHEMA}; make the result again")
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
        95% confidence interval, Student's t with the degrees of freedom of the independent repeats.
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
        """How far the number carries: a passed sandwich brackets it, by the samples that the run has."""
        is_exact, is_bracketed = self.method == "exact", "sandwich" in self.diagnostics
        return level_of(self.checks, trustworthy=self.trustworthy, exact=is_exact, bracketed=is_bracketed)

    def _rests_on(self) -> dict[Level, str]:
        """Return what every verdict rests on."""
        compared = "exact" in self.diagnostics
        return {
            **Result._rests_on(self),
            "exact": "no error but rounding",
            "bracketed": "annealing bounds it from both sides, from above as far as the samples miss no mode",
            "checked": "compared with the exact value" if compared else "rests on no unseen mode",
        }

    def _errors(self) -> tuple[float, ...]:
        """Return the standard error; that of a number that is not finite is infinite."""
        return (_known_error(self.std_err, self.log_z),)

    def _headline(self) -> str:
        """Return the number."""
        return f"log Z = {estimate(self.log_z, self.std_err)} nats"

    def _facts(self) -> Rows:
        """Return how the number was had."""
        sweeps = self.diagnostics.get("n_sweeps")
        parts = [self.method, *([per(len(self.repeats), "replicate")] if self.repeats else [])]
        parts += [per(sweeps, "sweep")] if isinstance(sweeps, int) else []
        return rows_of(("method", ", ".join(parts)), ("95%", self._interval()))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the replicates."""
        values = self.repeats or [self.log_z]
        return {"replicate": range(len(values)), "log_z": values}

    def _interval(self) -> str:
        """Return the confidence interval, nothing where the number is exact."""
        if not self.std_err:
            return ""
        low, high = (fixed(end, decimals(self.std_err)) for end in self.ci95)
        return f"{low} ... {high} nats"

    def __str__(self) -> str:
        """Say the number in one line, and what was assumed of a file that does not say it."""
        assumed = self.model.get("assumed")
        read = f", with {', '.join(map(str, assumed))}" if isinstance(assumed, list) and assumed else ""
        return plain(f"log Z = {estimate(self.log_z, self.std_err)} nats ({self.method}){read}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ObservablesResult(Result):
    """Averages over a Boltzmann machine, p_β(x) ∝ exp(-β E(x)), in the model's own convention.

    E is minus the logarithm of the model's unnormalised probability, nats, its constant included; units are 0 and
    1 or -1 and +1, as `model["units"]` says, and numbered from 0 in the model's own order.  Every standard error
    comes from the spread of independent replicates, and is 0 where the value is exact.

    Attributes
    ----------
    log_z, log_z_std_err : float
        log Z = log Σ_x exp(-E(x)), nats.
    energy, energy_std_err : float
        <E> at β = 1, nats.
    specific_heat, specific_heat_std_err : float
        C = β^2 (<E^2> - <E>^2), of all units together.
    entropy, entropy_std_err : float
        S = log Z + β <E>, nats.
    magnetisation, magnetisation_std_err : float
        Mean of all units.
    unit_means, unit_means_std_err : list of float
        <x_i> of every unit at β = 1.
    bonds : list of [i, j]
        The coupled pairs, i < j; empty where correlations were left out.
    correlations, correlations_std_err : list of float
        <x_i x_j> - <x_i><x_j> of every bond at β = 1.
    along_beta : dict of str to list
        `beta` and, for each of these, all the above but `bonds` under the same names: numbers, or lists of those
        of units and bonds.
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
        """How far the numbers carry."""
        return level_of(self.checks, trustworthy=self.trustworthy, exact=self.method == "exact")

    def _rests_on(self) -> dict[Level, str]:
        """Return what every verdict rests on."""
        return {
            **Result._rests_on(self),
            "exact": "no error but rounding",
            "checked": "rests on no unseen mode",
        }

    def _measured(self) -> tuple[Any, ...]:
        """Return what is measured, the inverse temperatures included."""
        return (*Result._measured(self), tuple(self.along_beta["beta"]), bool(self.bonds))

    def _errors(self) -> tuple[float, ...]:
        """Return the standard error of the energy."""
        return (_known_error(self.energy_std_err, self.energy),)

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return all that is a number at every β."""
        return {name: values for name, values in self.along_beta.items() if not isinstance(values[0], list)}

    def to_csv(self) -> str:
        """Return a line for every β with all but units and bonds, after one of names."""
        columns = self._columns()
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join("" if x is None else repr(float(x)) for x in row) for row in rows)]
        return "\n".join(lines) + "\n"

    def _headline(self) -> str:
        """Return the energy."""
        return f"<E> = {estimate(self.energy, self.energy_std_err)} nats at β = 1"

    def _facts(self) -> Rows:
        """Return the other numbers at β = 1, and where else there are some."""
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
        """Say the numbers at β = 1 in one line, and what was assumed of a file that does not say it."""
        parts = [
            f"{word} = {estimate(getattr(self, name), getattr(self, f'{name}_std_err'))}"
            for word, name in (("<E>", "energy"), ("C", "specific_heat"), ("S", "entropy"), ("m", "magnetisation"))
        ]
        assumed = self.model.get("assumed")
        read = f", with {', '.join(map(str, assumed))}" if isinstance(assumed, list) and assumed else ""
        return plain(f"{', '.join(parts)} at β = 1 ({self.method}){read}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LikelihoodResult(Result):
    """The importance-weighted log-likelihood of a data set under a model, a lower bound in expectation.

    Attributes
    ----------
    log_likelihood : float
        Mean over images of log (1/K) Σ_k w_k, nats per image.
    std_err_images : float
        Sampling error of that mean over images.
    std_err_log_z : float
        Error of log Z, which shifts every image alike and is therefore kept apart.
    elbo : float
        Mean over images and samples of log w, the bound at K = 1.
    elbo_parts : dict of str to float
        Reconstruction, KL of the Boltzmann machine and KL of the continuous layers; they sum to `elbo`.
    n_samples, n_images : int
        K and the number of images.
    log_z : float
        The log partition function that was used; `log_z_source` says where it came from.
    per_image : dict of str to list of float
        Of every image: `index` in the data set, `label` if there is one, `log_likelihood`, `elbo`, `ess`
        (effective sample size), `pareto_k` (shape of the tail of the weights), `bias` (jackknife, not above 0).
    method : str
        `importance`, or `ais`: then `n_samples` counts annealed chains, and importance weighting's own numbers of
        the same images are in `diagnostics["importance"]` and `per_image["importance"]`.
    gap : float or None
        How far the mean is estimated to lie below the log-likelihood, for want of samples; None if not known.
    n_suspect : int or None
        Images whose weights have so heavy a tail (`pareto_k`) that the gap of their bound is uncertain.
    bits_per_dim : float or None
        The negative log-likelihood in bits a pixel.
    simulated_gap, simulated_std_err : float or None
        How far the bound lies below the log-likelihood on simulated images, whose latents are known, and the
        standard error of that; None if it was not estimated, or is infinite.
    simulated_bound : float or None
        What that gap is at most in expectation, by the bound from above.  `diagnostics["simulated"]` has every
        image's, and how the images were drawn, or why they were not (`not_done`).
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

    def _rests_on(self) -> dict[Level, str]:
        """Return what every verdict rests on."""
        log_z = "with the exact log Z" if self.std_err_log_z == 0 else "whose log Z rests on no unseen mode"
        return {
            "checked": f"a lower bound, {log_z}",
            "loose": "a lower bound that is true within its errors, but could be better",
        }

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the images."""
        return dict(self.per_image)

    def _measured(self) -> tuple[Any, ...]:
        """Return which images of what model are measured, and how."""
        names = ("data", "data_sha256", "split", "as_trained", "precision")
        how = (self.settings.get(name) for name in names)
        return (*Result._measured(self), self.method, *how)

    def _sizes(self) -> tuple[float, ...]:
        """Return the numbers of images and samples."""
        return (self.n_images, self.n_samples)

    def _errors(self) -> tuple[float, ...]:
        """Return the error of log Z; that over images follows from their number."""
        return (_known_error(self.std_err_log_z, self.log_likelihood),)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to `path`, whole or not at all; of many images with few digits each.

        All digits of every image are in the npz file beside it, see `likelihood_images`.
        """
        short = {name: [_rounded(value) for value in values] for name, values in self.per_image.items()}
        per_image = short if self.n_images > FEW_IMAGES else self.per_image
        Result.save(dataclasses.replace(self, per_image=per_image), path)

    def _headline(self) -> str:
        """Return the number with both of its errors."""
        number = fixed(self.log_likelihood, decimals(self.std_err_images, self.std_err_log_z))
        images, log_z = error_text(self.std_err_images), error_text(self.std_err_log_z)
        return f"log p(x) >= {number} ± {images} (images) ± {log_z} (log Z) nats"

    def _facts(self) -> Rows:
        """Return how the number was had."""
        what = "sample" if self.method == "importance" else "annealed chain"
        gap = "" if self.gap is None else f"about {error_text(self.gap)} nats below the log-likelihood"
        return rows_of(
            ("gap", gap),
            ("images", f"{count(self.n_images)}, {per(self.n_samples, what)} each"),
            ("log Z", f"{estimate(self.log_z, self.std_err_log_z)} nats, {self.log_z_source}"),
        )

    def __str__(self) -> str:
        """Say the number with both of its errors in one line, and how far it is thought to lie below the truth."""
        number = fixed(self.log_likelihood, decimals(self.std_err_images, self.std_err_log_z))
        gap = "" if self.gap is None or self.gap < LEAST_GAP else f", by about {error_text(self.gap)}"
        return plain(
            f"log p(x) >= {number} ± {error_text(self.std_err_images)} (images) "
            f"± {error_text(self.std_err_log_z)} (log Z) nats{gap} "
            f"({self.n_samples} {'samples' if self.method == 'importance' else 'annealed chains'}, "
            f"{self.n_images} images)"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GradientResult(Result):
    """Bias and variance of estimators of the bound's gradient in the logits of the RBM's posterior.

    Norms and variances are of one image's gradient, a vector of `n_units` numbers: root mean squares and means
    over the images.  Terms are `rbm` (-KL[q(z|x) || p(z)]), `rest` (all of the bound that sees z through ζ alone)
    and their sum `elbo`.

    Attributes
    ----------
    estimators : dict of str to dict
        For every estimator `is_unbiased` (in theory), `seconds` (of computing, a draw of one image) and `terms`:
        for every term `variance` (trace of a draw's covariance), `snr` (norm of the true gradient over the root
        of the variance), `bias` (norm, 0 where it drowns in noise), `bias_std_err` (what noise alone would make
        of that norm), `z` (how surprising the deviation is without a bias, as a standard normal deviate; null
        for the reference's own estimator) and `cosine` (of the mean draw with the true gradient).
    reference : dict
        `method` (`exact`, or the average of which estimator), `n_samples`, and for every term `norm` and
        `std_err`.
    n_samples, n_images, n_units : int
        Draws for every image, images, and RBM units.
    """

    kind: ClassVar[str] = "gradients"

    estimators: dict[str, dict[str, Any]]
    reference: dict[str, Any]
    n_samples: int
    n_images: int
    n_units: int

    def _measured(self) -> tuple[Any, ...]:
        """Return which images of what model are measured."""
        return (*Result._measured(self), *(self.settings.get(name) for name in ("data", "data_sha256", "split")))

    def _sizes(self) -> tuple[float, ...]:
        """Return the numbers of images and draws, and those of the reference, where it is no exact gradient."""
        exact = self.reference["method"] == "exact"
        return (self.n_images, self.n_samples, math.inf if exact else self.reference["n_samples"])

    def _facts(self) -> Rows:
        """Return sizes."""
        sizes = f"{per(self.n_images, 'image')}, {per(self.n_samples, 'draw')} each, {per(self.n_units, 'unit')}"
        return rows_of(("sizes", sizes), ("reference", self.reference.get("method")))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return every estimator with each of its terms."""
        rows = [
            {"estimator": name, **{k: v for k, v in found.items() if k != "terms"}, "term": term, **numbers}
            for name, found in self.estimators.items()
            for term, numbers in found["terms"].items()
        ]
        return {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}

    def __str__(self) -> str:
        """Say how noisy each estimator is, in multiples of the first."""
        variances = {name: found["terms"]["elbo"]["variance"] for name, found in self.estimators.items()}
        (first, least), *others = variances.items()
        ratios = ", ".join(f"{name} {value / least:.3g} x" for name, value in others) if least else "none"
        return f"variance of the bound's gradient: {first} {least:.3g}; {ratios}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult(Result):
    """Samples that were made elsewhere, against a Boltzmann machine p_β(x) ∝ exp(-β E(x)), in its own convention.

    The result is trustworthy if the samples can be told from no p_β of the machine, and its own numbers are sound.

    Attributes
    ----------
    n_reads : float
        Effective number of reads: (Σ w)^2 / Σ w^2, where a read that occurred w times counts as w of weight 1.
    n_distinct : int
        Distinct states among them.
    is_boltzmann : bool
        Whether nothing speaks against a Boltzmann law of this machine at the effective β.
    effective_beta : float
        The β whose law is nearest, in KL: `beta_energy`.
    beta_energy, beta_energy_std_err : float
        The β at which the machine has the samples' mean energy: the maximum of the likelihood.  Not finite (null
        in the file) where no β of the machine has it.
    beta_pl, beta_pl_std_err : float
        The maximum of the pseudo-likelihood.
    beta_energy_ci95, beta_pl_ci95 : list of 2 floats
        95 % intervals.
    energy, energy_std_err : float
        Mean of E over the samples, nats.
    entropy : list of 2 floats
        Bounds of the entropy of the samples' law, nats, with their 95 % errors.
    at_one, at_beta : dict
        At β = 1 and at the effective β (None where there is no positive one): `beta`; `log_z` and `energy` of the
        machine with `..._std_err`; `energy_z`, how far the samples' mean energy is above it, in standard errors;
        `kl`, bounds of KL(samples || p_β), nats, with their 95 % errors; and `deviations`, of units and coupled
        pairs, the least likely first: `units` by number, `names`, mean in `samples` and `machine` (of x_i or
        x_i x_j), `z`, `p_holm`, corrected for the number of tests.
    basins : list of dict
        Share of each basin in `samples` and `machine`, with `..._std_err`, at the effective β.
    classes : list of dict
        For every class of reads `class`, `n_reads`, `share`, `energy` and both β with their errors.
    method : str
        How the machine's numbers were had: `exact` or `pt`.
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
        """The verdict, and whether the samples are of a Boltzmann law."""
        if not self.is_boltzmann:
            return "no Boltzmann law of this machine at any β"
        law = f"as far as {self.n_reads:.5g} reads show, a Boltzmann law of this machine"
        level = "checked" if self.verdict == "loose" else self.verdict
        return plain(f"{WORDS[level]}; {law} at β = {estimate(self.effective_beta, self.beta_energy_std_err)}")

    def _measured(self) -> tuple[Any, ...]:
        """Return which samples are compared with which machine."""
        samples = self.settings.get("samples", {})
        return (*Result._measured(self), samples.get("sha256"), self.n_reads)

    def _facts(self) -> Rows:
        """Return sizes."""
        sizes = (
            f"{short(self.n_reads)}, {count(self.n_distinct)} distinct states, {per(len(self.basins), 'basin')}"
        )
        return rows_of(("reads", sizes), ("method", self.method))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return what deviates most at β = 1 and at the effective β."""
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
        """Say both β and KL in one line."""
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


# What a run of a benchmark has, whatever else.
RUN: dict[str, Any] = {
    **dict.fromkeys(("method", "machine"), str),
    "seed": int,
    "verdict": typing.Literal["right", "wrong", "declined", "failed", "skipped"],
    **dict.fromkeys(("exact", "cpu_seconds"), float),
    **dict.fromkeys(("error", "z", "peak_memory"), float | None),
}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BenchmarkResult(Result):
    """Runs of estimators of log Z on test machines, or of log p(x) on test models, beside the exact values.

    It is trustworthy if no run is missing; how far the estimators can be trusted is in `runs`.

    Attributes
    ----------
    runs : list of dict
        One for every `method`, `machine` (or model) and `seed`: what the estimator said, `log_z` (or `log_p_x`,
        the mean over images, and the `gap` of a bound) and `std_err`, nats, and `trusted`; `exact`, `error` and
        `z`, the error beyond the gap in standard errors; `verdict`, see `dvae_eval.benchmark.rules`;
        `cpu_seconds` and `peak_memory` of its process, bytes; and a `note` where it failed.  What is not known is
        null.
    """

    kind: ClassVar[str] = "benchmark"

    runs: list[dict[str, Any]]

    def __post_init__(self) -> None:
        """Refuse runs that lack what tables and figures are made of; ResultError."""
        for run in self.runs:
            if not all(_fits(run.get(name), hint) for name, hint in RUN.items()):
                raise ResultError(f"runs: {str(run)[:60]} is none; make the result anew")

    @property
    def methods(self) -> list[str]:
        """The estimators, in the order of the runs."""
        return list(dict.fromkeys(run["method"] for run in self.runs))

    @property
    def machines(self) -> list[str]:
        """The machines, in the order of the runs."""
        return list(dict.fromkeys(run["machine"] for run in self.runs))

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return every run."""
        return {name: [run.get(name) for run in self.runs] for name in (self.runs[0] if self.runs else ())}

    def __str__(self) -> str:
        """Count the verdicts in one line."""
        verdicts = [run["verdict"] for run in self.runs]
        cases = "models" if self.settings.get("kind") == "likelihood" else "machines"
        words = {"right": "right", "declined": "declined", "wrong": "wrong and trusted", "failed": "failed"}
        counts = ", ".join(f"{verdicts.count(name)} {word}" for name, word in words.items())
        return f"{len(verdicts)} runs of {len(self.methods)} methods on {len(self.machines)} {cases}: {counts}"


def making_of(environment: dict[str, Any]) -> str:
    """Return when and where something was made, and at what cost, in a line; see `Result.environment`."""
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
        If the file is missing, is no JSON object, is of an unknown kind or of another schema.
    """
    return _results(Path(path), lambda text: [text])[0]


def load_result_lines(path: str | os.PathLike[str]) -> list[Result]:
    """Read a file of results, a line each, as `dvae-eval logz MODEL... -o` writes it; errors as there."""
    return _results(Path(path), lambda text: [line for line in text.split("\n") if line.strip()])


def _results(path: Path, parts: Callable[[str], list[str]]) -> list[Result]:
    """Return the results in the parts of a file's text."""
    try:
        found = [json_object(part) for part in parts(read_text(path))]
    except FileNotFoundError as error:
        raise ResultError(f"{path}: no such file; give a result of dvae-eval") from error
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read as a result file ({error}); make the result again") from error
    return [_result_of(path, data) for data in found]


def _result_of(path: Path, data: dict[str, Any]) -> Result:
    """Return the result that an object of a file describes."""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = str(kind)[:40]
        raise ResultError(f"{path}: not a result of this project (kind {found!r}); give one of {', '.join(KINDS)}")
    try:
        result = KINDS[kind].from_dict(data)
        if None not in data.values():
            str(result), repr(result)  # which look into what has no type of its own
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ResultError) else "its parts do not fit; make the result again"
        raise ResultError(f"{path}: {reason}") from error
    return result


def _with_levels(result: R, checks: Sequence[Check]) -> R:
    """Return a result of an earlier version, which distrusted what could be better, as this version judges it."""
    failed = [check for check in checks if not check.passed]
    if not failed or failures_of(checks):
        return result
    return dataclasses.replace(result, trustworthy=True, reasons=[])


def _known_error(std_err: float | None, value: float | None) -> float:
    """Return a standard error, infinite where it or the number is not finite: files hold null then."""
    known = all(number is not None and math.isfinite(number) for number in (std_err, value))
    return float(std_err) if known and std_err is not None else math.inf


def _renamed(value: Any, part: str) -> Any:
    """Return a part of a result with the keys of earlier versions replaced by today's, within its parts too."""
    if not isinstance(value, dict):
        return value
    names = RENAMED.get(part, {})
    return {names.get(key, key): _renamed(item, key) for key, item in value.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a JSON value is of a field's type; null within lists stands for what could not be computed."""
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
    """Return a number to a thousandth, which is below the noise of any image's estimate."""
    return value if isinstance(value, int) or not math.isfinite(value) else round(value, 3)


def _json_safe(value: Any) -> Any:
    """Return `value` with tuples as lists, numpy scalars as Python ones, and non-finite floats as null."""
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
