"""Results as values: what was measured, how well, and whether to trust it.

A result file is one JSON object.  Tables, figures and reports are made from such files alone, so this module
imports nothing heavy.  Numbers are in nats; what could not be computed is null with a reason beside it.
"""

from __future__ import annotations

import builtins
import dataclasses
import json
import math
import sys
import time
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from dvae_core.errors import ResultError
from dvae_core.io.files import json_object, read_text, to_utf8, write_text
from dvae_core.text import decimals, error_text, estimate, fixed, plain
from dvae_core.versions import package_versions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Check", "GradientResult", "LikelihoodResult", "LogZResult", "Result", "load_result", "verdict"]

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
R = TypeVar("R", bound="Result")


@dataclass(frozen=True, slots=True)
class Check:
    """One diagnostic as a value: the number, the limit it must keep, and what to do if it does not.

    Attributes
    ----------
    name : str
        What was looked at, in words that stand alone.
    value, threshold : float
        The number found and its limit, in the units that `name` implies.
    passed : bool
        Whether the value keeps the limit.
    remedy : str
        What the user can do when it does not.
    """

    name: str
    value: float
    threshold: float
    passed: bool
    remedy: str

    def __str__(self) -> str:
        """Say what was found, what was asked for and what to do."""
        return f"{self.name}: {self.value:.4g} (limit {self.threshold:.4g}); {self.remedy}"


def verdict(checks: Sequence[Check]) -> tuple[bool, list[str]]:
    """Return (trustworthy, reasons): every failed check gives one reason."""
    reasons = [str(check) for check in checks if not check.passed]
    return not reasons, reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
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
        False if any check failed; then `reasons` says which, in words.
    diagnostics : dict
        What the checks looked at, and arrays for figures; `checks` holds every `Check` as a dict.
    versions : dict
        Versions of python and of the packages that made the number.
    command : list of str
        The command line that made this result, empty when it came from the library.
    wall_seconds : float
        Time taken.
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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the result: no nan, no infinity, `kind` and `schema` first."""
        return {"kind": self.kind, "schema": SCHEMA, **_json_safe(dataclasses.asdict(self))}

    def to_json(self) -> str:
        """Return the result as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    def save(self, path: Path) -> None:
        """Write the result to `path`, whole or not at all."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def of(
        cls: type[R],
        config: DataclassInstance,
        checks: Sequence[Check],
        *,
        started: float,
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
            Every check that was made; a failed one makes the result not trustworthy.
        started : float
            When the work began, on the clock of `time.monotonic`.
        packages : sequence of str
            Distributions whose versions the numbers depend on.
        settings, diagnostics : dict
            What is added to the fields of `config`, and to the checks.
        **fields
            `model`, and the result's own fields.
        """
        trustworthy, reasons = verdict(checks)
        return cls(
            **fields,
            settings={**dataclasses.asdict(config), **settings},
            seed=config.seed,  # type: ignore[attr-defined]
            trustworthy=trustworthy,
            reasons=reasons,
            diagnostics={**diagnostics, "checks": [dataclasses.asdict(check) for check in checks]},
            versions=package_versions(*packages),
            wall_seconds=time.monotonic() - started,
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
            raise ResultError(f"schema {data.get('schema')!r}, this version reads {SCHEMA}; make the result anew")
        names = {f.name for f in dataclasses.fields(cls)}
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        given = set(data) - {"kind", "schema"}
        if not needed <= given <= names:
            wrong = ", ".join(sorted((given - names) | (needed - given)))[:200]
            raise ResultError(f"fields missing or unknown: {wrong}; make the result anew")
        for name, hint in typing.get_type_hints(cls).items():
            if name in given and not (_fits(data[name], hint) or (hint is float and data[name] is None)):
                raise ResultError(f"{name} is {str(data[name])[:40]!r}; make the result anew")
        return cls(**{name: _renamed(data[name], name) for name in given})


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def __str__(self) -> str:
        """Say the number in one line."""
        return plain(f"log Z = {estimate(self.log_z, self.std_err)} nats ({self.method})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodResult(Result):
    """The importance-weighted log-likelihood of a data set under a model, a lower bound in expectation.

    Attributes
    ----------
    log_likelihood : float
        Mean over images of log (1/K) Σ_k w_k, nats an image.
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
        Images whose weights have so heavy a tail (`pareto_k`) that their estimate is not to be relied on.
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

    def save(self, path: Path) -> None:
        """Write the result to `path`, whole or not at all; of many images with few digits each.

        All digits of every image are in the npz file beside it, see `likelihood_images`.
        """
        short = {name: [_rounded(value) for value in values] for name, values in self.per_image.items()}
        per_image = short if self.n_images > FEW_IMAGES else self.per_image
        Result.save(dataclasses.replace(self, per_image=per_image), path)

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


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def __str__(self) -> str:
        """Say how noisy each estimator is, in multiples of the first."""
        variances = {name: found["terms"]["elbo"]["variance"] for name, found in self.estimators.items()}
        (first, least), *others = variances.items()
        ratios = ", ".join(f"{name} {value / least:.3g} x" for name, value in others) if least else "none"
        return f"variance of the bound's gradient: {first} {least:.3g}; {ratios}"


KINDS: dict[str, type[Result]] = {"logz": LogZResult, "ll": LikelihoodResult, "gradients": GradientResult}


def load_result(path: Path) -> Result:
    """Read the result file at `path`.

    Raises
    ------
    ResultError
        If the file is missing, is no JSON object, is of an unknown kind or of another schema.
    """
    try:
        data = json_object(read_text(path))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read as a result file ({error}); make the result anew") from error
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = str(kind)[:40]
        raise ResultError(f"{path}: not a result of this project (kind {found!r}); give one of {', '.join(KINDS)}")
    try:
        result = KINDS[kind].from_dict(data)
        if None not in data.values():
            str(result)  # which looks into what has no type of its own
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ResultError) else "its parts do not fit; make the result anew"
        raise ResultError(f"{path}: {reason}") from error
    return result


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
