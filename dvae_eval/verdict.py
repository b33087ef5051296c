"""Checks with their limits, and the verdict that they make: one of five levels.

    exact      computed without sampling: no error but rounding
    bracketed  every check passed, and the number lies between a lower and an upper bound
    checked    every check passed; no check can see a mode that no sampler visited
    loose      correct within its errors, but it could be better: a warning
    doubtful   a check failed, and the number may be wrong

The first four are trustworthy.  The level is always derived from the checks, so that the two cannot disagree;
result files repeat it for programs that read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Level = Literal["exact", "bracketed", "checked", "loose", "doubtful"]

# From the best to the worst.
LEVELS: tuple[Level, ...] = ("exact", "bracketed", "checked", "loose", "doubtful")
# The words that people read.
WORDS: dict[Level, str] = {level: level for level in LEVELS} | {"doubtful": "may be wrong"}
# What each level means, unless a kind of result says it more precisely.
MEANINGS: dict[Level, str] = {
    "exact": "no error but rounding",
    "checked": "every check passed, but none can see an unvisited mode",
    "loose": "correct within its errors",
}
# What to do next.
NEXT_STEPS: dict[Level, str] = {
    "exact": "use it as it is",
    "bracketed": "use it with its error",
    "checked": "use it with its error",
    "loose": "use it, or do what the warning says",
    "doubtful": "do not use it; each failed check says what to do",
}

# Beginnings of the names of checks that earlier versions wrote without their severity and side.
FORMERLY_WARNINGS = (
    "standard error of log Z, nats",
    "estimated gap between bound and log-likelihood, nats",
    "share of its rise that the bound keeps",
    "ratio of the bound's last two gains",
)
FORMERLY_LOOSE = "the bound holds, but is loose"
FORMERLY_AT_LEAST = ("lowest ", "round trips", "independent ", "effective chains")


@dataclass(frozen=True, slots=True)
class Check:
    """One diagnostic: a number, its limit, and what to do if the number violates the limit.

    Attributes
    ----------
    name : str
        What was measured, in words that can be understood alone.
    value, threshold : float
        The number and its limit, in the units that `name` implies.
    passed : bool
        Whether the value keeps the limit.
    remedy : str
        What the user can do if the check fails.
    severity : str
        What a failed check means: `failure`, the number may be wrong, or `warning`, it could be better.
    side : str
        Whether the value must be `at least` or `at most` the threshold; empty in files of earlier versions.
    """

    name: str
    value: float
    threshold: float
    passed: bool
    remedy: str
    severity: Literal["failure", "warning"] = "failure"
    side: Literal["", "at least", "at most"] = ""

    @classmethod
    def at_least(cls, name: str, value: float, threshold: float, remedy: str, *, warning: bool = False) -> Check:
        """Return the check that a value is not below its limit."""
        return cls(name, value, threshold, value >= threshold, remedy, _severity(warning), "at least")

    @classmethod
    def at_most(cls, name: str, value: float, threshold: float, remedy: str, *, warning: bool = False) -> Check:
        """Return the check that a value is not above its limit."""
        return cls(name, value, threshold, value <= threshold, remedy, _severity(warning), "at most")

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Check:
        """Return the check that an object of a result file describes; TypeError if the fields do not fit.

        Files of earlier versions have neither a severity nor a side.
        """
        check = cls(**data)
        if "severity" in data:
            return check
        is_warning = check.name.startswith(FORMERLY_WARNINGS) or check.remedy.startswith(FORMERLY_LOOSE)
        return replace(check, severity=_severity(is_warning))

    @property
    def is_minimum(self) -> bool:
        """Whether the limit is a lower limit."""
        if self.side:
            return self.side == "at least"
        if self.value is None or not math.isfinite(self.value) or self.value == self.threshold:
            return self.name.startswith(FORMERLY_AT_LEAST)
        return (self.value > self.threshold) == self.passed

    @property
    def limit(self) -> str:
        """The limit with its direction, for a line of text."""
        return f"{'>=' if self.is_minimum else '<='} {self.threshold:.4g}"

    @property
    def finding(self) -> str:
        """The value and its limit."""
        # A result file has null where a value was not finite.
        value = "not finite" if self.value is None else f"{self.value:.4g}"
        return f"{self.name}: {value} (limit {self.limit})"

    def __str__(self) -> str:
        """Return the value, its limit and the remedy in one line."""
        return f"{self.finding}; {self.remedy}"


def _severity(warning: bool) -> Literal["failure", "warning"]:
    """Return the severity of a check."""
    return "warning" if warning else "failure"


def checks_of(diagnostics: Mapping[str, Any]) -> list[Check]:
    """Return the checks in a result's diagnostics; TypeError if their fields do not fit."""
    return [Check.of_dict(check) for check in diagnostics.get("checks", [])]


def failures_of(checks: Sequence[Check]) -> list[str]:
    """Return the text of every failed check of severity `failure`."""
    return [str(check) for check in checks if not check.passed and check.severity == "failure"]


def level_of(
    checks: Sequence[Check], *, trustworthy: bool = True, exact: bool = False, bracketed: bool = False
) -> Level:
    """Return the level of a result with these checks.

    Parameters
    ----------
    checks : sequence of Check
    trustworthy : bool
        Whether the result is marked as trustworthy; if not, the level is `doubtful` whatever its checks.
    exact, bracketed : bool
        Whether the number was computed exactly, or has bounds on both sides; used if every check passed.
    """
    failed = [check for check in checks if not check.passed]
    if not trustworthy or any(check.severity == "failure" for check in failed):
        return "doubtful"
    if failed:
        return "loose"
    return "exact" if exact else "bracketed" if bracketed else "checked"


def claim_of(level: Level, meanings: Mapping[Level, str] = MEANINGS, next_step: str = "") -> str:
    """Return the line that people read: the level, what it means and what to do next."""
    meaning, step = meanings.get(level, ""), next_step or NEXT_STEPS[level]
    return f"{WORDS[level]}; {meaning}: {step}" if meaning else f"{WORDS[level]}; {step}"


def worst(levels: Sequence[Level]) -> Level:
    """Return the worst of several levels."""
    return max(levels, key=LEVELS.index)
