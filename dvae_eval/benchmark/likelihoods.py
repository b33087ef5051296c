"""The estimators of log p(x) of a benchmark: this package's by name, and others as `module:function`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvae_core.errors import ConfigError

from ..test_machines import TestModel, make_model
from .methods import GROWTH, WORTH, Answer, function_of

if TYPE_CHECKING:
    from ..results import LikelihoodResult

# Settings of `dvae_eval.config.LikelihoodConfig`.
METHODS: dict[str, dict[str, Any]] = {
    "importance-100": {"n_samples": 100},
    "importance-1000": {"n_samples": 1000},
    "importance-10000": {"n_samples": 10_000},
    "ais": {"method": "ais", "n_samples": 1000},
}
ARGUMENTS = {"model", "images", "log_z", "seed", "budget"}
FIRST_STEPS = 10  # annealing steps of the first run, which measures the time per step

Estimator = Callable[[TestModel, int, float], Answer]


def find_estimator(name: str) -> Estimator:
    """Return the estimator with a name: one of `METHODS`, or a function as `module:function`.

    The function takes `model`, a DVAE in evaluation mode; `images`, uint8 of shape (n_images, n_pixels); `log_z`
    of the model's prior; `seed` and `budget`; or some of these.  It returns (log_p_x, std_err), (log_p_x,
    std_err, trusted) or (log_p_x, std_err, trusted, gap), in nats: log p(x) of every image, or its mean; the
    standard error of the mean; and the estimated mean gap if log_p_x is a lower bound.

    Raises
    ------
    ConfigError
        If there is no such module or function, or the function takes other arguments.
    """
    if name == "ais":
        return _annealed
    return _importance(name) if name in METHODS else _of_function(name)


def _importance(name: str) -> Estimator:
    """Return importance weighting with a fixed number of samples, which ignores the budget."""
    return lambda case, seed, budget: _of_result(_estimated(case, seed, METHODS[name]))


def _annealed(case: TestModel, seed: int, budget: float) -> Answer:
    """Return the answer of annealing in as many steps as the budget allows, measured by shorter runs before."""
    started, n_steps = time.process_time(), FIRST_STEPS
    while True:
        before = time.process_time()
        found = _estimated(case, seed, {**METHODS["ais"], "n_ais_steps": n_steps})
        now = time.process_time()
        affordable = n_steps * (budget - (now - started)) / (now - before)
        if affordable < WORTH * n_steps:
            return _of_result(found)
        n_steps = math.floor(min(affordable, GROWTH * n_steps))


def _estimated(case: TestModel, seed: int, settings: dict[str, Any]) -> LikelihoodResult:
    """Return this package's estimate, with log Z from its own exact method."""
    from dvae_core.config import RunConfig
    from dvae_core.training.checkpoint import TrainedModel

    from ..likelihood.estimate_log_likelihood import estimate_log_likelihood
    from ..log_z.estimate_log_z import estimate_log_z
    from ..runtime.compute import Resources
    from ..trained import machine_of

    config = RunConfig("benchmark", case.model.config)
    trained = TrainedModel(case.model, config, (1, case.images.shape[1]), {}, Path(case.name), "")
    log_z = estimate_log_z(machine_of(trained), method="exact", threads=1)
    one = Resources(n_workers=1)
    return estimate_log_likelihood(trained, case.images, log_z, resources=one, seed=seed, **settings)


def _of_result(found: LikelihoodResult) -> Answer:
    """Return the answer in a result; its gap is the larger of the two that the result reports.

    The answer is trusted only if all checks passed, because a warning means that the gap is uncertain.
    """
    gap = max(found.gap or 0.0, found.simulated_gap or 0.0)
    trusted = found.verdict not in ("loose", "doubtful")
    return Answer(found.log_likelihood, found.diagnostics["std_err_samples"], trusted, gap)


@cache
def warm_up(name: str) -> None:
    """Load what a method needs, outside of its budget."""
    _estimated(make_model("discrete-8"), 0, {**METHODS[name], "n_samples": 100, "n_ais_steps": 2})


# --- functions of users ---------------------------------------------------------------------------------------


def _of_function(name: str) -> Estimator:
    """Return the estimator that `module:function` names; ConfigError if its arguments are wrong."""
    function, takes = function_of(name, METHODS)
    if not takes <= ARGUMENTS or not {"model", "images"} <= takes:
        raise ConfigError(
            f"estimator {name!r} takes {', '.join(sorted(takes)) or 'nothing'}; "
            "let it take (model, images, log_z, seed, budget), or model, images and some of the others"
        )

    def estimate(case: TestModel, seed: int, budget: float) -> Answer:
        given = {
            "model": case.model,
            "images": case.images.copy(),
            "log_z": case.log_z,
            "seed": seed,
            "budget": budget,
        }
        returned = function(**{key: value for key, value in given.items() if key in takes})
        return _answer(returned, len(case.images))

    return estimate


def _answer(returned: Any, n_images: int) -> Answer:
    """Return the answer in a function's return value; TypeError or ValueError if it is invalid."""
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3, 4):
        raise TypeError(f"returned {str(returned)[:60]}; return (log_p_x, std_err[, trusted[, gap]])")
    log_p_x = np.asarray(returned[0], dtype=np.float64)
    if log_p_x.shape not in ((), (n_images,)):
        raise ValueError(f"returned log p(x) of shape {log_p_x.shape}; return one number, or one per image")
    mean, std_err = float(log_p_x.mean()), float(returned[1])
    gap = float(returned[3]) if len(returned) == 4 else 0.0
    if not (all(map(math.isfinite, (mean, std_err, gap))) and std_err >= 0 and gap >= 0):
        raise ValueError(
            f"returned log p(x) = {mean} ± {std_err} with a gap of {gap}; return finite numbers, the last two not "
            "negative"
        )
    return Answer(mean, std_err, bool(returned[2]) if len(returned) > 2 else True, gap)
