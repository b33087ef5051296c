"""Model files of the UAI inference competitions: binary variables, factors of at most two of them, and evidence.

The file is numbers between blanks: after the word MARKOV (or BAYES) the count of variables, how many states each
has, the count of factors, for every factor its number of variables and which they are, and for every factor the
number of its values and the values, the last variable changing fastest.  p(x) ∝ Π_f f(x); nothing is lost, since
what does not depend on x goes into the constant.  The first word may be in small letters; lines that begin with
# or // are remarks.

An evidence file holds the number of observed variables, and each of them with its value (2014); before that the
number of samples, 1, may stand (2010).  Observed variables are held at their values, and are no units then.
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
MOST_VARIABLES = 20  # of a factor, most of them observed


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a UAI model file, log Z being the natural logarithm of its partition function.

    Raises
    ------
    DataError
        If a variable has not two states, a factor has more than two that are not observed, or a value is not
        positive: a zero forbids states, which no Boltzmann machine with finite couplings does.
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
            raise DataError(f"variable {unit} has {states} states; only binary variables can be read")
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
    """Return a text without lines of remarks; UnicodeEncodeError if anything else in it is not ASCII."""
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
            raise DataError("is not of one sample; give a file for each")
        size = numbers.count("number of observed variables")
        pairs = numbers.whole(2 * size, "observed variables and their values")
        numbers.finish()
        observed = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if len(observed) < size or not all(v < n and value < 2 for v, value in observed.items()):
            raise DataError(f"has not different variables below {n}, each with its value 0 or 1")
    except DataError as error:
        raise DataError(f"--evidence {path}: {error}") from error
    return observed


def _scope(numbers: _Numbers, factor: int, n: int, observed: Mapping[int, int]) -> list[int]:
    """Return the variables of a factor."""
    size = numbers.count(f"number of variables of factor {factor}")
    if size > (MOST_VARIABLES if observed else 2):
        raise DataError(f"factor {factor} has {size} variables; two are the most that a Boltzmann machine couples")
    scope = numbers.whole(size, f"variables of factor {factor}")
    if any(unit >= n for unit in scope) or len(set(scope)) < size:
        raise DataError(f"factor {factor} is of variables {scope}; give different ones below {n}")
    if (n_free := sum(variable not in observed for variable in scope)) > 2:
        raise DataError(f"factor {factor} has {n_free} variables that are not observed; two are the most")
    return scope


def _logarithms(numbers: _Numbers, factor: int, scope: list[int], observed: Mapping[int, int]) -> list[float]:
    """Return the logarithms of a factor's values at what is observed."""
    size = len(scope)
    n_values = numbers.count(f"number of values of factor {factor}")
    if n_values != 1 << size:
        raise DataError(f"factor {factor} has {n_values} values where {size} binary variables take {1 << size}")
    values = numbers.take(n_values, f"values of factor {factor}")
    if observed:
        place = tuple(observed.get(variable, slice(None)) for variable in scope)
        values = np.reshape(values, (2,) * size)[place].ravel().tolist()
    if not all(0 < value < math.inf for value in values):
        raise DataError(
            f"factor {factor} has the values {values}; a Boltzmann machine of finite couplings has positive ones "
            "only, so leave out the states of probability zero"
        )
    return [math.log(value) for value in values]


class _Numbers:
    """The numbers of a text, taken one after the other."""

    def __init__(self, text: str) -> None:
        with warnings.catch_warnings():
            # NumPy warns where the text continues with something that is no number.
            warnings.simplefilter("error")
            try:
                values = np.fromstring(text, np.float64, sep=" ")
            except (DeprecationWarning, ValueError) as error:
                raise DataError("holds more than numbers after its first word") from error
        self.values: list[float] = values.tolist()
        self.place = 0

    def take(self, n: int, what: str) -> list[float]:
        """Return the next n numbers."""
        if n > len(self.values) - self.place:
            raise DataError(f"ends before its {what}; it may be truncated")
        self.place += n
        return self.values[self.place - n : self.place]

    def whole(self, n: int, what: str) -> list[int]:
        """Return the next n numbers, which are whole and not negative."""
        values = self.take(n, what)
        if not all(0 <= value < 2**31 and value.is_integer() for value in values):
            raise DataError(f"has {values[:8]} as {what}; give whole numbers")
        return [int(value) for value in values]

    def count(self, what: str) -> int:
        """Return the next number, a count."""
        return self.whole(1, what)[0]

    def finish(self) -> None:
        """Raise if numbers are left."""
        if self.place != len(self.values):
            raise DataError(f"has {len(self.values) - self.place} numbers too many after its last factor")
