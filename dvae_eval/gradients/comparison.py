"""Bias and variance of estimators of the gradient of the bound, for one model and the same images.

The estimators are compared with the true gradient, from enumeration of z and quadrature over ζ if the model is
tiny, else with a long, independent average of the paper's estimator.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from torch import Tensor
from torch.nn.functional import softplus

from dvae_core.environment import Effort
from dvae_core.errors import ConfigError, NumericalError
from dvae_core.model.dvae import DVAE
from dvae_core.model.prior import annealed_log_z
from dvae_core.model.smoothing import Spike
from dvae_core.progress import Progress, ProgressCallback, Report, report_to
from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import TrainedModel

from ..config import GradientConfig
from ..results import GradientResult
from ..trained import model_description
from ..verdict import Check
from .estimators import (
    ESTIMATORS,
    PARTS,
    Baselines,
    Draw,
    Estimator,
    fit_baselines,
    gradients,
    offset_logits,
    rest_of_bound,
)

# Number of (image, draw) pairs per call of the networks.
PAIRS = 4096
# An unbiased estimator with a normal mean exceeds this once in 3 million comparisons; a result has 12.
Z_LIMIT = 5.0
# Largest number of points of z and ζ to enumerate, and nodes of the quadrature over each ζ.
MAX_POINTS = 60_000
NODES = (6, 8, 10, 12)
TERMS = ("elbo", *PARTS)
PAPERS = ESTIMATORS[0]
EXACT, AVERAGE = "exact", f"average of {PAPERS.name}"
# Streams of random numbers.
PILOT, REFERENCE, MEASURED, LOG_Z = range(4)
# Raise it when the same settings and seed give other digits; tests/eval/test_environment.py checks.
ESTIMATOR_VERSION = 1


def measure_gradients(
    trained: TrainedModel,
    images: NDArray[np.uint8],
    config: GradientConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> GradientResult:
    """Measure bias and variance of all `ESTIMATORS` on images and a trained model in evaluation mode.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    images : uint8, shape (n_images, n_pixels)
        Binary; the first `config.limit` of them are used.
    config : GradientConfig, optional
        Settings.
    progress : callable, optional
        Called with the phase, the number of finished draws, the number of all draws, and None.

    Returns
    -------
    GradientResult

    Raises
    ------
    ConfigError
        If the estimators are not defined for the model's smoothing.
    NumericalError
        If an estimate is not finite.
    """
    config = config or GradientConfig()
    effort = Effort()
    if not isinstance(trained.model.smoothing, Spike):
        raise ConfigError(
            f"{trained.path}: trained with --smoothing {trained.model.config.smoothing}; give a model of "
            "spike-and-exponential or spike-and-slab, for which the estimators are defined"
        )
    model, images = trained.model, images[: config.limit]
    x = torch.from_numpy(images).to(model.groups.device, next(model.parameters()).dtype)
    source = _Source(model, x, config.seed)
    report = report_to(progress, 4)
    reference = _reference(source, config.n_reference, report)
    baselines = _baselines(source, config.n_pilot)
    moments = _measure(source, baselines, config.n_samples, report)
    estimators = {
        estimator.name: {
            "is_unbiased": estimator.is_unbiased,
            "seconds": _seconds(source, estimator, baselines),
            "terms": {term: _found(estimator, moments[estimator.name][term], reference[term]) for term in TERMS},
        }
        for estimator in ESTIMATORS
    }
    return GradientResult.of(
        config,
        _checks(estimators),
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=("torch", "numpy", "scipy"),
        settings={"dtype": str(x.dtype).removeprefix("torch.")},
        diagnostics={"log_z_assumed": baselines.log_z},
        estimators=estimators,
        reference=_describe(reference),
        n_samples=moments[PAPERS.name]["elbo"].n,
        n_images=len(images),
        n_units=model.prior.n_units,
        model=model_description(trained),
    )


def _found(estimator: Estimator, moments: Moments, reference: Reference) -> dict[str, Any]:
    """Return the numbers of an estimator and a term for the result."""
    found = compare(moments, reference)
    # An average of the same estimator cannot show its bias; the deviations of the others show both biases.
    return {**found, "z": None} if reference.method == AVERAGE and estimator is PAPERS else found


def _describe(reference: dict[str, Reference]) -> dict[str, Any]:
    """Return the description of the reference for the result."""
    return {
        "method": reference["elbo"].method,
        "n_samples": reference["elbo"].n,
        "norm": {term: float(part.mean.norm()) for term, part in reference.items()},
        "std_err": {term: math.sqrt(part.variance) for term, part in reference.items()},
    }


# --- random numbers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """Draws of the noise for some images, the same for every estimator."""

    model: DVAE
    x: Tensor
    seed: int

    def generator(self, stream: int, chunk: int = 0) -> torch.Generator:
        """Return the generator of a chunk of a stream."""
        return torch_generator(self.seed, "gradients", stream, chunk, device=self.x.device)

    def draws(self, stream: int, n: int) -> Iterator[Draw]:
        """Yield at least n draws per image, in chunks of a multiple of four."""
        size = max(4, PAIRS // len(self.x) // 4 * 4)
        for chunk, start in enumerate(range(0, n, size)):
            yield self.draw(-(-min(size, n - start) // 4) * 4, self.generator(stream, chunk))

    def draw(self, n: int, generator: torch.Generator) -> Draw:
        """Return n draws per image."""
        rho, eps = ((n, len(self.x), width) for width in self.model.n_noise)
        options: Any = {"generator": generator, "device": self.x.device, "dtype": self.x.dtype}
        return Draw(self.x, torch.rand(rho, **options), torch.randn(eps, **options))

    def rows(self, estimator: Estimator, draw: Draw, baselines: Baselines) -> dict[str, Tensor]:
        """Return the estimates per term, float64, shape (n, n_images · n_units), in the scale of one image."""
        values = gradients(self.model, estimator, draw, baselines).flatten(2).double() / math.sqrt(len(self.x))
        if not torch.isfinite(values).all():
            raise NumericalError(
                f"the gradient from {estimator.name} is not finite; train with a smaller --sharpness"
            )
        return {"elbo": values.sum(0), **dict(zip(PARTS, values, strict=True))}


def _baselines(source: _Source, n_pilot: int) -> Baselines:
    """Return log Z and the fitted baselines."""
    log_z = annealed_log_z(source.model.prior, source.generator(LOG_Z))
    return fit_baselines(source.model, source.draw(n_pilot, source.generator(PILOT)), log_z)


def _seconds(source: _Source, estimator: Estimator, baselines: Baselines) -> float:
    """Return the seconds per draw and image, the median of a few chunks."""
    draw, seconds = next(source.draws(PILOT, PAIRS // len(source.x))), []
    for _ in range(3):
        started = time.monotonic()
        offset = torch.zeros_like(draw.rho, requires_grad=True)
        with offset_logits(source.model.posterior, offset):
            total = estimator.surrogate(source.model, draw, baselines).sum()
        float(torch.autograd.grad(total, offset)[0].sum())  # waits until the device has finished
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds) / draw.rho[..., 0].numel()


# --- moments ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Moments:
    """Streamed moments of gradient estimates: the mean, and tr Σ and tr Σ² of the covariance Σ.

    tr Σ² is the mean of (d_1 · d_2)² / 4 over independent differences d of two draws.
    """

    n: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: float = 0.0
    products: float = 0.0

    def add(self, rows: Tensor) -> None:
        """Add estimates of shape (4 k, n), float64."""
        self.n += len(rows)
        self.total = self.total.to(rows.device) + rows.sum(0)
        self.squares += float(rows.square().sum())
        differences = rows[0::2] - rows[1::2]
        self.products += float((differences[0::2] * differences[1::2]).sum(-1).square().sum())

    @property
    def mean(self) -> Tensor:
        """The mean estimate, shape (n,)."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Trace of the covariance Σ of a single draw."""
        return max(0.0, self.squares - self.n * float(self.mean.square().sum())) / (self.n - 1)

    @property
    def square_trace(self) -> float:
        """Trace of Σ², for a single draw."""
        return self.products / self.n


@dataclass(frozen=True, slots=True)
class Reference:
    """The true gradient or a mean of n draws, with tr Σ and tr Σ² of the covariance Σ of its error."""

    method: str
    n: int
    mean: Tensor
    variance: float
    square_trace: float

    @classmethod
    def average(cls, method: str, moments: Moments) -> Reference:
        """Return the reference that is the mean of many draws."""
        n = moments.n
        return cls(method, n, moments.mean, moments.variance / n, moments.square_trace / n**2)


def compare(moments: Moments, reference: Reference) -> dict[str, Any]:
    """Return the numbers of `GradientResult` for a term: variance, snr, bias, bias_std_err, z and cosine.

    Without a bias, Q = |mean - reference|² is a weighted sum of χ² variables with expectation t = tr Σ/n and
    variance 2 tr Σ²/n².  It is approximated by t/ν times a χ² with ν = t² / (tr Σ²/n²) degrees of freedom, which
    has the same moments (Satterthwaite, 1946); z is the normal deviate with the same tail probability.  The bias
    is √(Q - t).
    """
    n, mean = moments.n, moments.mean
    q = float((mean - reference.mean).square().sum())
    t = moments.variance / n + reference.variance
    own, other = moments.square_trace / n**2, reference.square_trace
    # Cauchy-Schwarz bounds the trace of the product of both covariances.
    squares = own + other + 2 * math.sqrt(own * other)
    size = float(reference.mean.norm())
    return {
        "variance": moments.variance,
        "snr": size / math.sqrt(moments.variance) if moments.variance else math.inf,
        "bias": math.sqrt(max(0.0, q - t)),
        "bias_std_err": math.sqrt(t),
        "z": _deviate(q, t, squares),
        "cosine": float(mean @ reference.mean) / max(float(mean.norm()) * size, 1e-300),
    }


def _deviate(q: float, t: float, squares: float) -> float:
    """Return the standard normal deviate with the same upper tail as q under t/ν · χ²_ν, at most 37."""
    if not t or not squares:
        return 0.0
    degrees = t * t / squares
    return float(norm.isf(max(chi2.sf(q * degrees / t, degrees), 1e-300)))


def _measure(source: _Source, baselines: Baselines, n: int, report: Report) -> dict[str, dict[str, Moments]]:
    """Return the moments of every estimator and term."""
    moments = {estimator.name: {term: Moments() for term in TERMS} for estimator in ESTIMATORS}
    done = 0
    for draw in source.draws(MEASURED, n):
        for estimator in ESTIMATORS:
            for term, rows in source.rows(estimator, draw, baselines).items():
                moments[estimator.name][term].add(rows)
        done += len(draw.rho)
        report(Progress("estimators", min(done, n), n))
    return moments


# --- the true gradient --------------------------------------------------------------------------------------


def _reference(source: _Source, n: int, report: Report) -> dict[str, Reference]:
    """Return the true gradient of every term, exact if possible, else as an average."""
    exact = exact_gradient(source.model, source.x)
    if exact:
        return exact
    moments = {term: Moments() for term in TERMS}
    no_baselines = Baselines(0.0, torch.zeros(()), [])
    done = 0
    for draw in source.draws(REFERENCE, n):
        for term, rows in source.rows(PAPERS, draw, no_baselines).items():
            moments[term].add(rows)
        done += len(draw.rho)
        report(Progress("reference", min(done, n), n))
    return {term: Reference.average(AVERAGE, m) for term, m in moments.items()}


def exact_gradient(model: DVAE, x: Tensor) -> dict[str, Reference] | None:
    """Return the exact gradient of every term, or None if there are continuous layers or too many states.

    It differentiates the sum of q(z, ζ|x) f over all states z and the nodes of a Gauss-Legendre quadrature of
    r(ζ|z) for every unit.  The difference from a rule with two nodes less is the error estimate.
    """
    rules = [n for n in NODES if _n_points(model, n) <= MAX_POINTS]
    if model.config.n_layers or len(rules) < 2:
        return None
    coarse, fine = (_by_quadrature(model, x, n) for n in rules[-2:])
    return {
        term: Reference(EXACT, 0, fine[term], float((fine[term] - coarse[term]).square().sum()), 0.0)
        for term in TERMS
    }


def _n_points(model: DVAE, n_nodes: int) -> int:
    """Return the number of points of z and ζ of a rule."""
    return int(len(_unit_rule(model, n_nodes)[0]) ** min(model.prior.n_units, 64))


def _unit_rule(model: DVAE, n_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (z, ζ, weight) of the quadrature of r(ζ|z) for one unit; a spike is a single point.

    ζ is a steep function of ρ near 0 (Eq. 9), but smooth in t with ρ = t³.
    """
    rule = np.polynomial.legendre.leggauss(n_nodes)
    nodes, weights = (torch.from_numpy(part).to(model.groups.device) for part in rule)
    t = (nodes + 1) / 2
    weight = weights / 2 * 3 * t**2
    points: list[tuple[Tensor, Tensor, Tensor]] = []
    for state in (torch.zeros_like(t), torch.ones_like(t)):
        zeta = model.smoothing.sample(state, t**3).detach().double()
        spike = bool((zeta == zeta[0]).all())
        points.append((state[:1], zeta[:1], weight.sum()[None]) if spike else (state, zeta, weight))
    z, zeta, weight = (torch.cat(parts) for parts in zip(*points, strict=True))
    return z, zeta, weight


def _by_quadrature(model: DVAE, x: Tensor, n_nodes: int) -> dict[str, Tensor]:
    """Return the gradient of every term, shape (n_images · n_units,), in the scale of one image."""
    rule = torch.stack(_unit_rule(model, n_nodes), -1)
    n_units = model.prior.n_units
    index = torch.tensor(list(itertools.product(range(len(rule)), repeat=n_units)))
    z, zeta, weight = (part.to(x)[:, None].expand(-1, len(x), -1) for part in rule[index].unbind(-1))
    offset = torch.zeros((len(x), n_units), dtype=x.dtype, device=x.device, requires_grad=True)
    with offset_logits(model.posterior, offset):
        starts = np.cumsum([0, *model.posterior.sizes[:-1]]).tolist()
        networks = zip(model.posterior.networks, starts, strict=True)
        groups = [network(x, zeta[..., :start]) for network, start in networks]
    logits = torch.cat([group.expand(len(z), -1, -1) for group in groups], -1)
    log_q = (z * logits - softplus(logits)).sum(-1)
    share = weight.prod(-1) * log_q.exp()
    rest = rest_of_bound(model, x, zeta, zeta[..., :0])
    terms = ((share * (-model.prior.energy(z) - log_q)).sum(), (share * rest).sum())
    rows = [torch.autograd.grad(term, offset, retain_graph=True)[0].flatten().double() for term in terms]
    rbm, remainder = (row / math.sqrt(len(x)) for row in rows)
    return {"elbo": rbm + remainder, "rbm": rbm, "rest": remainder}


# --- verdict ------------------------------------------------------------------------------------------------


def _checks(estimators: dict[str, dict[str, Any]]) -> list[Check]:
    """Return a check for every unbiased estimator and term with a reference."""
    remedy = "an estimator that should be unbiased is biased: report this as a defect, with the model"
    return [
        Check.at_most(f"bias of {name}, {term}, standard normal deviate", found["z"], Z_LIMIT, remedy)
        for name, estimator in estimators.items()
        if estimator["is_unbiased"]
        for term, found in estimator["terms"].items()
        if found["z"] is not None
    ]
