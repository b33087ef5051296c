"""The estimators of log Z of a benchmark: this package's by name, and others as `module:function`."""

from __future__ import annotations

import importlib
import inspect
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from dvae_core.errors import ConfigError

from ..config import LOG_Z_PRESETS
from ..couplings import entries
from ..machine import BipartiteMachine, Machine
from ..test_machines.graphs import complete
from ..test_machines.rbms import random_rbm

# Settings of `dvae_eval.config.LogZConfig`.  Annealing has no time limit; its number of sweeps is made to fit.
METHODS: dict[str, dict[str, Any]] = {
    "auto": {"method": "auto"},
    "pt-bar": {"method": "pt-bar"},
    "pt-bar-uniform": {"method": "pt-bar", "reference": "uniform"},
    "pt-bar-fitted": {"method": "pt-bar", "reference": "fitted"},
    "pt-bar-modes": {"method": "pt-bar", "reference": "modes"},
    "paper": {"method": "pt-bar", **LOG_Z_PRESETS["paper"]},
    "ais": {"method": "ais"},
    "reverse-ais": {"method": "reverse-ais"},
}
ARGUMENTS = {"W", "b_left", "b_right", "J", "b", "seed", "budget"}
# Sweeps of the first annealing run; largest and smallest factor for the sweeps of the next one.
FIRST_SWEEPS, GROWTH, WORTH = 20, 8.0, 1.5


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an estimator, nats.

    Attributes
    ----------
    value : float
        log Z, or the mean of log p(x) over images.
    std_err : float
        Its standard error.
    trusted : bool
        Whether the estimator itself considers the value reliable.
    gap : float
        Estimate of how far a lower bound lies below the exact value, in expectation.
    """

    value: float
    std_err: float
    trusted: bool = True
    gap: float = 0.0


Estimator = Callable[[Machine, int, float], Answer]


def find_estimator(name: str) -> Estimator:
    """Return the estimator with a name: one of `METHODS`, or a function as `module:function`.

    Raises
    ------
    ConfigError
        If there is no such module or function, or the function takes other arguments.
    """
    if name not in METHODS:
        return _of_function(name)
    return _annealed(name) if name.endswith("ais") else _timed(name)


def _timed(name: str) -> Estimator:
    """Return a method that observes the budget by its own time limit."""
    from ..log_z.estimate_log_z import estimate_log_z

    def estimate(machine: Machine, seed: int, budget: float) -> Answer:
        found = estimate_log_z(machine, seed=seed, time_limit=budget, threads=1, **METHODS[name])
        return Answer(found.log_z, found.std_err, found.trustworthy)

    return estimate


def _annealed(name: str) -> Estimator:
    """Return annealing in as many sweeps as the budget allows, measured by shorter runs before."""
    from ..log_z.estimate_log_z import estimate_log_z

    def estimate(machine: Machine, seed: int, budget: float) -> Answer:
        started, n_sweeps = time.process_time(), FIRST_SWEEPS
        while True:
            before = time.process_time()
            found = estimate_log_z(machine, seed=seed, n_sweeps=n_sweeps, threads=1, **METHODS[name])
            seconds = time.process_time() - before
            affordable = n_sweeps * (budget - (before + seconds - started)) / seconds
            if affordable < WORTH * n_sweeps or found.std_err == 0:  # 0: the answer is exact
                return Answer(found.log_z, found.std_err, found.trustworthy)
            n_sweeps = math.floor(min(affordable, GROWTH * n_sweeps))

    return estimate


@cache
def warm_up(name: str) -> None:
    """Load the compiled kernels of a method of this package, outside of its budget."""
    from ..log_z.estimate_log_z import estimate_log_z

    for machine, _ in (random_rbm(0, (4, 3), 1.0), complete(0, 5, 1.0)):
        estimate_log_z(machine, n_sweeps=40, threads=1, **METHODS[name])


# --- functions of users ---------------------------------------------------------------------------------------


def function_of(name: str, methods: Iterable[str]) -> tuple[Callable[..., Any], set[str]]:
    """Return the function that `module:function` names, and its arguments; ConfigError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(methods)
        raise ConfigError(
            f"estimator {name!r}: {error}; give an importable module:function, or one of {known}"
        ) from error
    return function, set(inspect.signature(function).parameters)


def _of_function(name: str) -> Estimator:
    """Return the estimator that `module:function` names; ConfigError if its arguments are wrong."""
    function, takes = function_of(name, METHODS)
    if not takes <= ARGUMENTS or not takes & {"W", "J"}:
        raise ConfigError(
            f"estimator {name!r} takes {', '.join(sorted(takes)) or 'nothing'}; "
            "let it take (W, b_left, b_right, seed, budget) or (J, b, seed, budget), or some of these"
        )
    return lambda machine, seed, budget: _answer(
        function(**{key: value for key, value in _arguments(machine, seed, budget).items() if key in takes})
    )


def _arguments(machine: Machine, seed: int, budget: float) -> dict[str, Any]:
    """Return all arguments that a function may take; W and its biases only for a machine of two sides."""
    found: dict[str, Any] = {"seed": seed, "budget": budget}
    if isinstance(machine, BipartiteMachine):
        W = machine.W if isinstance(machine.W, np.ndarray) else machine.W.toarray()
        found |= {"W": np.array(W), "b_left": machine.b_left.copy(), "b_right": machine.b_right.copy()}
        n = machine.n_left
        found["J"] = np.zeros((machine.n_units, machine.n_units))
        found["J"][:n, n:] = W
        found["b"] = np.concatenate((machine.b_left, machine.b_right))
        return found
    ends, values = entries(machine.J)
    J = np.zeros((machine.n_units, machine.n_units))
    J[ends[:, 0], ends[:, 1]] = values
    return found | {"J": J, "b": machine.b.copy()}


def _answer(returned: Any) -> Answer:
    """Return the answer in a function's return value; TypeError or ValueError if it is invalid."""
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        raise TypeError(f"returned {str(returned)[:60]}; return (log_z, std_err) or (log_z, std_err, trusted)")
    log_z, std_err = (float(value) for value in returned[:2])
    if not (math.isfinite(log_z) and math.isfinite(std_err) and std_err >= 0):
        raise ValueError(f"returned log Z = {log_z} ± {std_err}; return finite numbers, the error not negative")
    return Answer(log_z, std_err, bool(returned[2]) if len(returned) == 3 else True)


def applies(name: str, machine: Machine) -> bool:
    """Return whether an estimator applies to a machine: one that takes W applies to two-sided machines only."""
    if isinstance(machine, BipartiteMachine) or name in METHODS:
        return True
    return "J" in function_of(name, METHODS)[1]
