"""Model files of the UAI inference competitions: binary variables, factors of at most two of them.

The file is numbers between blanks: after the word MARKOV (or BAYES) the count of variables, how many states each
has, the count of factors, for every factor its number of variables and which they are, and for every factor the
number of its values and the values, the last variable changing fastest.  p(x) ∝ Π_f f(x); nothing is lost, since
what does not depend on x goes into the constant.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np

from dvae_core.errors import DataError

from .reading import ReadConfig, Reading, from_bonds
from .text import read_text

__all__ = ["KINDS", "read"]

KINDS = ("MARKOV", "BAYES")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a UAI model file, log Z being the natural logarithm of its partition function.

    Raises
    ------
    DataError
        If a variable has not two states, a factor has more than two variables, or a value is not positive: a zero
        forbids states, which no Boltzmann machine with finite couplings does.
    """
    config.leave("UAI")
    kind, rest = [*read_text(path).split(None, 1), "", ""][:2]
    if kind not in KINDS:
        raise DataError(f"begins with {kind[:40]!r}; give a UAI model, which begins with MARKOV or BAYES")
    numbers = _Numbers(rest)
    n = numbers.count("number of variables")
    for unit, states in enumerate(numbers.whole(n, "numbers of states")):
        if states != 2:
            raise DataError(f"variable {unit} has {states} states; only binary variables can be read")
    n_factors = numbers.count("number of factors")
    scopes = [_scope(numbers, factor, n) for factor in range(n_factors)]
    constant, b = 0.0, np.zeros(n)
    ends: list[list[int]] = []
    J: list[float] = []
    for factor, scope in enumerate(scopes):
        first, *others = _logarithms(numbers, factor, len(scope))
        constant += first
        if len(scope) == 1:
            b[scope[0]] += others[0] - first
        elif len(scope) == 2:
            of_second, of_first, both = (value - first for value in others)
            b[scope] += of_first, of_second
            ends.append(scope)
            J.append(both - of_first - of_second)
    numbers.finish()
    description = {"format": f"UAI {kind}", "units": "01", "dtype": "float64", "factors": n_factors}
    return from_bonds(np.array(ends, np.int64), np.array(J), b, constant, description)


def _scope(numbers: _Numbers, factor: int, n: int) -> list[int]:
    """Return the variables of a factor."""
    size = numbers.count(f"number of variables of factor {factor}")
    if size > 2:
        raise DataError(f"factor {factor} has {size} variables; two are the most that a Boltzmann machine couples")
    scope = numbers.whole(size, f"variables of factor {factor}")
    if any(unit >= n for unit in scope) or len(set(scope)) < size:
        raise DataError(f"factor {factor} is of variables {scope}; give different ones below {n}")
    return scope


def _logarithms(numbers: _Numbers, factor: int, size: int) -> list[float]:
    """Return the logarithms of a factor's values."""
    n_values = numbers.count(f"number of values of factor {factor}")
    if n_values != 1 << size:
        raise DataError(f"factor {factor} has {n_values} values where {size} binary variables take {1 << size}")
    values = numbers.take(n_values, f"values of factor {factor}")
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
            # NumPy warns where the text goes on with what is no number.
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
