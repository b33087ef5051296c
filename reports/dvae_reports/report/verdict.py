"""May a run's numbers be trusted?  One verdict with its reasons, for the first lines of a report."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dvae_core.config import option_name
from dvae_core.text import count, fixed
from dvae_eval.readers.options import ReadConfig
from dvae_eval.results import LogZResult, Result
from dvae_eval.states.sampled import SampledStates
from dvae_eval.verdict import WORDS, failures_of, worst

from ..figures.log_z import exact_log_z
from ..results.run_directory import COMMANDS_OF_FILES, RunRecord

LABELS = {"logz": "log Z", "ll": "log-likelihood", "observables": "observables", "states": "samples"}


# Options that say how a file is read.
READ_OPTIONS = {option_name(field.name) for field in dataclasses.fields(ReadConfig)}
# What carries a verdict of its own.
Judged: TypeAlias = Result | SampledStates


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against a number, and the command that mends it where there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst level of a run's results in words, with a colour.

    `good`: every check passed; `bad`: a number may be wrong; `open`: something is missing, or could be better.
    """

    level: Literal["good", "bad", "open"]
    headline: str
    detail: str
    reasons: list[Reason]


def verdict_of(record: RunRecord) -> Verdict:
    """Return the verdict on a run: a failed check weighs more than what is missing, and that than a warning."""
    return judge([result for result in (record.log_z, record.likelihood) if result is not None], _missing(record))


def judge(results: Sequence[Judged], missing: Sequence[Reason] = ()) -> Verdict:
    """Return the verdict on results of one model, of which some may be missing."""
    failures = [Reason(text) for result in results for text in _failures(result)]
    warnings = [Reason(f"{LABELS[r.kind]}: {warning}") for r in results for warning in r.warnings]
    claims = " ".join(f"{LABELS[r.kind]}: {r.claim}." for r in results)
    if failures:
        detail = f"{_things(len(failures), 'thing speaks', 'things speak')} against these numbers:"
        return Verdict("bad", _headline(results), detail, [*failures, *missing])
    if missing:
        detail = f"Something is still missing. {claims}".strip()
        return Verdict("open", "Not fully measured", detail, [*missing, *warnings])
    if warnings:
        return Verdict("open", _headline(results), claims, warnings)
    n_checks = sum(len(result.checks) for result in results)
    passed = f"{_things(n_checks, 'check', 'checks')} passed, none failed; all are listed below with their limits."
    return Verdict("good", _headline(results), f"{claims} {passed}" if n_checks else claims, [])


def summary(verdicts: Sequence[Verdict]) -> str:
    """Say of several runs how many have which verdict."""
    counts = Counter(verdict.headline for verdict in verdicts)
    said = ", ".join(f"{count(n)} {headline[0].lower()}{headline[1:]}" for headline, n in counts.items())
    return f"{_things(len(verdicts), 'run', 'runs')}: {said}."


def _headline(results: Sequence[Judged]) -> str:
    """Return the worst level of a run's results, with a capital."""
    words = WORDS[worst([result.verdict for result in results])]
    return words[0].upper() + words[1:]


def exact_route(result: LogZResult) -> str:
    """Say by what an exact value was computed, after the word exactly."""
    names = {"independent units": "the closed form of independent units"}
    parts = [names.get(part, part) for part in str(result.diagnostics.get("route", "")).split(" + ") if part]
    return f" by {' and '.join(parts)}" if parts else ""


def distance_from_exact(result: LogZResult) -> str:
    """Say where the estimate lies from the exact value, in standard errors."""
    exact = exact_log_z(result)
    if result.method == "exact":
        return f"computed exactly{exact_route(result)}"
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


def command_for(record: RunRecord, file: str) -> str:
    """Return the command line that makes `file` of a run."""
    return shlex.join(["dvae-eval", COMMANDS_OF_FILES[file], str(record.directory / "model.pt")])


def command_on(file: str, made_by: Sequence[str], command: str) -> str:
    """Return the command line that measures the machine of a file, read as by the command line of a result."""
    words = [part for word in made_by for part in (word.split("=", 1) if word.startswith("--") else (word,))]
    given = [[word, value] for word, value in itertools.pairwise(words) if word in READ_OPTIONS]
    return shlex.join(["dvae-eval", command, file, *itertools.chain(*given)])


def _deviation(result: LogZResult, exact: float) -> float | None:
    """Return (estimate - exact) in standard errors, None where that has no meaning."""
    if result.log_z is None or not result.std_err:
        return None
    return (result.log_z - exact) / result.std_err


def _failures(result: Judged) -> list[str]:
    """Return what speaks against a result: its own reasons, and what they leave out."""
    if result.verdict != "doubtful":
        return []
    reasons = list(result.reasons) or failures_of(result.checks) or ["marked as not trustworthy, without a reason"]
    return [f"{LABELS[result.kind]}: {reason}" for reason in reasons]


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
