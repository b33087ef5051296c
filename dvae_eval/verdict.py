"""What a result may claim: checks with their limits, and one of five levels that says how far they carry.

    exact      computed without sampling: no error but rounding
    bracketed  every check passed, and bounds from below and from above hold the number between them
    checked    every check passed; none of them sees a mode that no sampler has visited
    loose      true within its errors, but it could be better: a warning
    doubtful   some check failed, and the number may be wrong

The first four are trustworthy.  A level is derived from a result's checks and never stored on its own, so that it
cannot contradict them; result files hold it for programs that read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Level = Literal["exact", "bracketed", "checked", "loose", "doubtful"]

# From the best to the worst.
LEVELS: tuple[Level, ...] = ("exact", "bracketed", "checked", "loose", "doubtful")
# What people read; of the last, what it means.
WORDS: dict[Level, str] = {level: level for level in LEVELS} | {"doubtful": "may be wrong"}

# Checks that earlier versions wrote without their severity and direction.
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
    severity : str
        What it means when it fails: `failure`, the number may be wrong, or `warning`, it could be better.
    side : str
        `at least` or `at most` the threshold; empty in files of earlier versions.
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
        """Return the check that a result file holds; TypeError if it is none.

        Files of earlier versions say neither the severity nor the side.
        """
        check = cls(**data)
        if "severity" in data:
            return check
        is_warning = check.name.startswith(FORMERLY_WARNINGS) or check.remedy.startswith(FORMERLY_LOOSE)
        return replace(check, severity=_severity(is_warning))

    @property
    def is_minimum(self) -> bool:
        """Whether the limit is the least that the value may be."""
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
        """What was found, and what was asked for."""
        # A result file holds null where a value was not finite.
        value = "not finite" if self.value is None else f"{self.value:.4g}"
        return f"{self.name}: {value} (limit {self.limit})"

    def __str__(self) -> str:
        """Say what was found, what was asked for and what to do."""
        return f"{self.finding}; {self.remedy}"


def _severity(warning: bool) -> Literal["failure", "warning"]:
    """Return the severity of a check."""
    return "warning" if warning else "failure"


def checks_of(diagnostics: Mapping[str, Any]) -> list[Check]:
    """Return the checks among a result's diagnostics; TypeError if they are of another form."""
    return [Check.of_dict(check) for check in diagnostics.get("checks", [])]


def failures_of(checks: Sequence[Check]) -> list[str]:
    """Return a reason for every check that failed and is no mere warning."""
    return [str(check) for check in checks if not check.passed and check.severity == "failure"]


def level_of(
    checks: Sequence[Check], *, trustworthy: bool = True, exact: bool = False, bracketed: bool = False
) -> Level:
    """Return the level that checks allow.

    Parameters
    ----------
    checks : sequence of Check
    trustworthy : bool
        What the result says of itself: nothing makes one trustworthy that is not.
    exact, bracketed : bool
        How the number was had, if every check passed.
    """
    failed = [check for check in checks if not check.passed]
    if not trustworthy or any(check.severity == "failure" for check in failed):
        return "doubtful"
    if failed:
        return "loose"
    return "exact" if exact else "bracketed" if bracketed else "checked"


def worst(levels: Sequence[Level]) -> Level:
    """Return the worst of several levels."""
    return max(levels, key=LEVELS.index)
