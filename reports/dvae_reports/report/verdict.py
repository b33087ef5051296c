"""May a run's numbers be trusted?  One verdict with its reasons, for the first lines of a report."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from dvae_core.errors import ResultError
from dvae_core.text import count, decimals, error_text, fixed
from dvae_eval.results import Check, LikelihoodResult, LogZResult, Result

from ..figures.log_z import exact_log_z
from ..results.run_directory import COMMANDS_OF_FILES, RunRecord

__all__ = [
    "Reason",
    "Verdict",
    "certificate",
    "checks",
    "command_for",
    "distance_from_exact",
    "log_z_note",
    "verdict_of",
]

# Two values of log Z further apart than this, in standard errors, are worth a word.
MAX_DEVIATION = 4.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against a number, and the command that mends it where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`good`: every check passed; `bad`: some failed; `open`: something was not measured."""

    level: Literal["good", "bad", "open"]
    headline: str
    detail: str
    reasons: list[Reason]


def verdict_of(record: RunRecord) -> Verdict:
    """Return the verdict on a run: a failed check weighs more than a missing result."""
    results = [result for result in (record.log_z, record.likelihood) if result is not None]
    failures = [Reason(text) for result in results for text in _failures(result)]
    missing = _missing(record)
    if failures:
        headline = "Not to be trusted"
        detail = f"{_things(len(failures), 'thing speaks', 'things speak')} against these numbers:"
        return Verdict("bad", headline, detail, failures + missing)
    if missing:
        passed = " What was measured passed its checks." if results else ""
        return Verdict("open", "Not fully measured", f"Something is still missing.{passed}", missing)
    n_checks = sum(len(checks(result)) for result in results)
    passed = f"{_things(n_checks, 'check', 'checks')} passed, none failed; all are listed below with their limits."
    return Verdict("good", "Trustworthy", passed if n_checks else "Nothing speaks against these numbers.", [])


def checks(result: Result) -> list[Check]:
    """Return the result's diagnostics as values; ResultError if they are of another form."""
    try:
        return [Check(**check) for check in result.diagnostics.get("checks", [])]
    except TypeError as error:
        raise ResultError(f"{result.kind} result: checks not understood ({error}); make it anew") from error


def distance_from_exact(result: LogZResult) -> str:
    """Say where the estimate lies from the exact value, in standard errors."""
    exact = exact_log_z(result)
    if result.method == "exact":
        return "computed exactly by enumeration"
    if exact is None:
        return "not compared with an exact value"
    deviation = _deviation(result, exact)
    if deviation is None:
        return "cannot be compared with the exact value"
    side = "above" if deviation >= 0 else "below"
    return f"the estimate lies {fixed(abs(deviation), 1)} standard errors {side} it"


def certificate(result: LogZResult) -> dict[str, Any] | None:
    """Return the strict lower bound of log Z, rounded down, and over how many basins; None where there is none."""
    bound, n = result.diagnostics.get("lower_bound"), result.diagnostics.get("n_basins")
    if not isinstance(bound, int | float) or not isinstance(n, int):
        return None
    return {"bound": math.floor(bound * 1e4) / 1e4, "basins": _things(n, "basin", "basins")}


def log_z_note(log_z: LogZResult | None, likelihood: LikelihoodResult | None) -> str:
    """Say by how much the likelihood would move with the log Z shown beside it; empty if within their errors."""
    if log_z is None or likelihood is None or log_z.log_z is None or likelihood.log_z is None:
        return ""
    difference = likelihood.log_z - log_z.log_z
    if abs(difference) <= MAX_DEVIATION * ((log_z.std_err or 0.0) + (likelihood.std_err_log_z or 0.0)) + 1e-6:
        return ""
    used = fixed(likelihood.log_z, decimals(likelihood.std_err_log_z))
    return (
        f"The log-likelihood was computed with log Z = {used} "
        f"({likelihood.log_z_source}); with the value shown here it would be {error_text(abs(difference))} nats "
        f"{'higher' if difference > 0 else 'lower'}."
    )


def command_for(record: RunRecord, file: str) -> str:
    """Return the command line that makes `file` of a run."""
    return shlex.join(["dvae-eval", COMMANDS_OF_FILES[file], str(record.directory / "model.pt")])


def _deviation(result: LogZResult, exact: float) -> float | None:
    """Return (estimate - exact) in standard errors, None where that has no meaning."""
    if result.log_z is None or not result.std_err:
        return None
    return (result.log_z - exact) / result.std_err


def _failures(result: Result) -> list[str]:
    """Return what speaks against a result: its own reasons, and what they leave out."""
    label = {"logz": "log Z", "ll": "log-likelihood"}[result.kind]
    failed = [f"{check.name}; {check.remedy}" for check in checks(result) if not check.passed]
    reasons = list(result.reasons) or failed
    if not result.trustworthy and not reasons:
        reasons = ["marked as not trustworthy, without a reason"]
    return [f"{label}: {reason}" for reason in reasons]


def _missing(record: RunRecord) -> list[Reason]:
    """Return what was not measured, with the command that measures it."""
    absent = []
    if record.log_z is None:
        absent.append(Reason("log Z has not been estimated.", command_for(record, "logz.json")))
    if record.likelihood is None:
        absent.append(Reason("The log-likelihood has not been estimated.", command_for(record, "ll.json")))
    return absent


def _things(number: int, one: str, many: str) -> str:
    """Return a number with the right form of its noun."""
    return f"{count(number)} {one if number == 1 else many}"
