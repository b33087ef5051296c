"""Model files of the UAI inference competitions: binary variables, factors of at most two of them, and evidence.

A file is a sequence of numbers after the word MARKOV or BAYES: the number of variables; the number of states of
each; the number of factors; for every factor its number of variables and their indices; and for every factor its
number of values and the values, the last variable changing fastest.  p(x) ∝ Π_f f(x); terms that do not depend on
x go into the constant.  The first word may be in lower case.  Lines that start with # or // are comments.

An evidence file has the number of observed variables, and each of them with its value (2014); the number of
samples, 1, may come first (2010).  Observed variables are clamped to their values, and are not units.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core.errors import DataError
from dvae_core.io.containers import reading
from dvae_core.io.files import to_utf8

from .options import ReadConfig, Reading, from_bonds, of_no_unit
from .text import read_text

KINDS = ("MARKOV", "BAYES")
MOST_VARIABLES = 20  # per factor, most of them observed


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a UAI model file; log Z is the natural logarithm of its partition function.

    Raises
    ------
    DataError
        If a variable does not have two states, a factor has more than two unobserved variables, or a value is not
        positive: a zero excludes states, which a Boltzmann machine with finite couplings cannot.
    """
    config.reject_unused("UAI", "evidence")
    kind, rest = [*without_remarks(read_text(path)).split(None, 1), "", ""][:2]
    if kind.upper() not in KINDS:
        raise DataError(f"begins with {kind[:40]!r}; give a UAI model, which begins with MARKOV or BAYES")
    kind = kind.upper()
    numbers = _Numbers(rest)
    n = numbers.count("number of variables")
    for unit, states in enumerate(numbers.whole(n, "numbers of states")):
        if states != 2:
            raise DataError(f"variable {unit} has {states} states; give a model of binary variables")
    observed = _evidence(Path(config.evidence), n) if config.evidence else {}
    unit_of = {variable: unit for unit, variable in enumerate(v for v in range(n) if v not in observed)}
    n_factors = numbers.count("number of factors")
    scopes = [_scope(numbers, factor, n, observed) for factor in range(n_factors)]
    constant, b = 0.0, np.zeros(len(unit_of))
    ends: list[list[int]] = []
    J: list[float] = []
    for factor, scope in enumerate(scopes):
        first, *others = _logarithms(numbers, factor, scope, observed)
        scope = [unit_of[variable] for variable in scope if variable not in observed]
        constant += first
        if len(scope) == 1:
            b[scope[0]] += others[0] - first
        elif len(scope) == 2:
            of_second, of_first, both = (value - first for value in others)
            b[scope] += of_first, of_second
            ends.append(scope)
            J.append(both - of_first - of_second)
    numbers.finish()
    description: dict[str, Any] = {"format": f"UAI {kind}", "units": "01", "dtype": "float64"}
    description["factors"] = n_factors
    if config.evidence:
        description["evidence"] = {"file": to_utf8(config.evidence), "observed": len(observed)}
    if n and not unit_of:
        return replace(of_no_unit(constant, description), held=observed)
    reading = from_bonds(np.array(ends, np.int64), np.array(J), b, constant, description)
    return replace(reading, held=observed)


def without_remarks(text: str) -> str:
    """Return a text without comment lines; UnicodeEncodeError if the rest is not ASCII."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(("#", "//")))
    kept = "\n".join(lines)
    kept.encode("ascii")
    return kept


def _evidence(path: Path, n: int) -> dict[int, int]:
    """Return the values of the observed variables."""
    try:
        with reading(path, "evidence"):
            numbers = _Numbers(without_remarks(read_text(path)))
        if len(numbers.values) % 2 == 0 and numbers.values and numbers.count("number of samples") != 1:
            raise DataError("has more than one sample; give a file with one")
        size = numbers.count("number of observed variables")
        pairs = numbers.whole(2 * size, "observed variables and their values")
        numbers.finish()
        observed = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if len(observed) < size or not all(v < n and value < 2 for v, value in observed.items()):
            raise DataError(f"has a variable twice or not below {n}, or a value other than 0 and 1; correct it")
    except DataError as error:
        raise DataError(f"--evidence {path}: {error}") from error
    return observed


def _scope(numbers: _Numbers, factor: int, n: int, observed: Mapping[int, int]) -> list[int]:
    """Return the variables of a factor."""
    size = numbers.count(f"number of variables of factor {factor}")
    if size > (MOST_VARIABLES if observed else 2):
        raise DataError(f"factor {factor} has {size} variables; give at most two, as in a Boltzmann machine")
    scope = numbers.whole(size, f"variables of factor {factor}")
    if any(unit >= n for unit in scope) or len(set(scope)) < size:
        raise DataError(f"factor {factor} has the variables {scope}; give different ones below {n}")
    if (n_free := sum(variable not in observed for variable in scope)) > 2:
        raise DataError(f"factor {factor} has {n_free} unobserved variables; give at most two")
    return scope


def _logarithms(numbers: _Numbers, factor: int, scope: list[int], observed: Mapping[int, int]) -> list[float]:
    """Return the logarithms of a factor's values, with observed variables fixed."""
    size = len(scope)
    n_values = numbers.count(f"number of values of factor {factor}")
    if n_values != 1 << size:
        raise DataError(f"factor {factor} has {n_values} values; give {1 << size} for {size} binary variables")
    values = numbers.take(n_values, f"values of factor {factor}")
    if observed:
        place = tuple(observed.get(variable, slice(None)) for variable in scope)
        values = np.reshape(values, (2,) * size)[place].ravel().tolist()
    if not all(0 < value < math.inf for value in values):
        raise DataError(
            f"factor {factor} has the values {values}, but a Boltzmann machine of finite couplings needs positive "
            "ones; remove the states of probability zero"
        )
    return [math.log(value) for value in values]


class _Numbers:
    """The numbers of a text, taken in sequence."""

    def __init__(self, text: str) -> None:
        with warnings.catch_warnings():
            # NumPy warns at the first word that is not a number.
            warnings.simplefilter("error")
            try:
                values = np.fromstring(text, np.float64, sep=" ")
            except (DeprecationWarning, ValueError) as error:
                raise DataError("contains more than numbers after its first word; remove it") from error
        self.values: list[float] = values.tolist()
        self.place = 0

    def take(self, n: int, what: str) -> list[float]:
        """Return the next n numbers."""
        if n > len(self.values) - self.place:
            raise DataError(f"ends before its {what}; it may be truncated, save it again")
        self.place += n
        return self.values[self.place - n : self.place]

    def whole(self, n: int, what: str) -> list[int]:
        """Return the next n numbers, as integers that are not negative; DataError if they are not."""
        values = self.take(n, what)
        if not all(0 <= value < 2**31 and value.is_integer() for value in values):
            raise DataError(f"has {values[:8]} as {what}; give whole numbers")
        return [int(value) for value in values]

    def count(self, what: str) -> int:
        """Return the next number, a count."""
        return self.whole(1, what)[0]

    def finish(self) -> None:
        """Raise DataError if numbers are left."""
        if self.place != len(self.values):
            raise DataError(f"has {len(self.values) - self.place} numbers too many at its end; remove them")
