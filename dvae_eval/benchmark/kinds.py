"""The kinds of a benchmark: log Z of test machines, and log p(x) of test models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .. import test_machines
from . import likelihoods, methods
from .methods import Answer

Case = Any  # a TestMachine or a TestModel, depending on the kind


@dataclass(frozen=True, slots=True)
class Kind:
    """The parts of a benchmark that depend on its kind.

    Attributes
    ----------
    quantity : str
        Name of the answer in a run.
    methods : iterable of str
        Names of this package's methods.
    suite, make, exact : callable
        Return the names of a suite's cases, the case of a name, and the exact value of a case.
    find : callable
        Returns the method of a name, a function of (case, seed, budget); ConfigError if there is none.
    why_not : callable
        Returns why a method, given by its name, does not apply to a case; empty if it does.
    warm_up : callable
        Loads what a method of this package needs, outside of its budget.
    """

    quantity: str
    methods: Iterable[str]
    suite: Callable[[str], list[str]]
    make: Callable[[str], Case]
    exact: Callable[[Case], float]
    find: Callable[[str], Callable[[Case, int, float], Answer]]
    why_not: Callable[[str, Case], str]
    warm_up: Callable[[str], None]


def _of_machines(name: str) -> Callable[[Case, int, float], Answer]:
    """Return an estimator of log Z that takes the machine of a case."""
    estimator = methods.find_estimator(name)
    return lambda case, seed, budget: estimator(case.machine, seed, budget)


def _why_not(name: str, case: Case) -> str:
    return "" if methods.applies(name, case.machine) else "takes W, but this machine does not have two sides"


KINDS = {
    "logz": Kind(
        quantity="log_z",
        methods=methods.METHODS,
        suite=test_machines.suite,
        make=test_machines.make,
        exact=lambda case: float(case.log_z),
        find=_of_machines,
        why_not=_why_not,
        warm_up=methods.warm_up,
    ),
    "likelihood": Kind(
        quantity="log_p_x",
        methods=likelihoods.METHODS,
        suite=lambda _: test_machines.model_names(),
        make=test_machines.make_model,
        exact=lambda case: float(case.log_p_x.mean()),
        find=likelihoods.find_estimator,
        why_not=lambda name, case: "",
        warm_up=likelihoods.warm_up,
    ),
}
