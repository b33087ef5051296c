"""The verdict on a run's numbers, its reasons and the next step: the first lines of a report."""

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


# Options that change how a file is read.
READ_OPTIONS = {option_name(field.name) for field in dataclasses.fields(ReadConfig)}
# What to do next, by verdict.
DO_NOT_USE = (
    "Do not report these numbers. Do what each line below advises, measure again, and make this report again."
)
MEASURE = "Run the commands below, then make this report again."
IMPROVE = (
    "You can report these numbers with their errors. To improve them, do what each line below advises and measure "
    "again."
)
REPORT = "You can report these numbers with the errors given here."

# Results that have a verdict.
Judged: TypeAlias = Result | SampledStates


@dataclass(frozen=True, slots=True)
class Reason:
    """A problem with a number, or a missing one, and the command that solves it; empty if there is none."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst level of a run's results in words, with a colour and what to do next.

    `good`: every check passed; `bad`: a number may be wrong; `open`: something is missing, or could be better.
    """

    level: Literal["good", "bad", "open"]
    headline: str
    detail: str
    reasons: list[Reason]
    next_step: str


def verdict_of(record: RunRecord) -> Verdict:
    """Return the verdict on a run: failed checks come before missing results, and those before warnings."""
    return judge([result for result in (record.log_z, record.likelihood) if result is not None], _missing(record))


def judge(results: Sequence[Judged], missing: Sequence[Reason] = ()) -> Verdict:
    """Return the verdict on the results of one model; `missing` names those that were not measured."""
    failures = [Reason(text) for result in results for text in _failures(result)]
    warnings = [Reason(f"{LABELS[r.kind]}: {warning}") for r in results for warning in r.warnings]
    claims = " ".join(f"{LABELS[r.kind]}: {r.claim}." for r in results)
    if failures:
        detail = f"{_things(len(failures), 'problem was', 'problems were')} found."
        return Verdict("bad", _headline(results), detail, [*failures, *missing], DO_NOT_USE)
    if missing:
        return Verdict("open", "Not fully measured", claims, [*missing, *warnings], MEASURE)
    if warnings:
        return Verdict("open", _headline(results), claims, warnings, IMPROVE)
    n_checks = sum(len(result.checks) for result in results)
    passed = f"{_things(n_checks, 'check', 'checks')} passed, none failed; all are listed below with their limits."
    return Verdict("good", _headline(results), f"{claims} {passed}" if n_checks else claims, [], REPORT)


def summary(verdicts: Sequence[Verdict]) -> str:
    """Return the number of runs with each verdict, as a sentence."""
    counts = Counter(verdict.headline for verdict in verdicts)
    said = ", ".join(f"{count(n)} {headline[0].lower()}{headline[1:]}" for headline, n in counts.items())
    return f"{_things(len(verdicts), 'run', 'runs')}: {said}."


def next_step(verdicts: Sequence[Verdict]) -> str:
    """Return what to do next about several runs."""
    levels = {verdict.level for verdict in verdicts}
    if levels == {"good"}:
        return REPORT
    bad = "Do not report the numbers of runs that may be wrong. " if "bad" in levels else ""
    return f"{bad}Do what the section of each run advises, then make this report again."


def _headline(results: Sequence[Judged]) -> str:
    """Return the worst level of a run's results, capitalised."""
    words = WORDS[worst([result.verdict for result in results])]
    return words[0].upper() + words[1:]


def exact_route(result: LogZResult) -> str:
    """Return the route by which an exact value was computed, to follow the word exactly; empty if unknown."""
    names = {"independent units": "the closed form of independent units"}
    parts = [names.get(part, part) for part in str(result.diagnostics.get("route", "")).split(" + ") if part]
    return f" by {' and '.join(parts)}" if parts else ""


def distance_from_exact(result: LogZResult) -> str:
    """Return the distance of the estimate from the exact value in standard errors, as a phrase."""
    exact = exact_log_z(result)
    if result.method == "exact":
        return f"computed exactly{exact_route(result)}"
    if exact is None:
        return "not compared with an exact value"
    deviation = _deviation(result, exact)
    if deviation is None:
        return "cannot be compared with the exact value"
    side = "above" if deviation >= 0 else "below"
    return f"the estimate is {fixed(abs(deviation), 1)} standard errors {side} it"


def certificate(result: LogZResult) -> dict[str, Any] | None:
    """Return the strict lower bound on log Z, rounded down, and its number of basins; None without a bound."""
    bound, n = result.diagnostics.get("lower_bound"), result.diagnostics.get("n_basins")
    if not isinstance(bound, int | float) or not isinstance(n, int):
        return None
    return {"bound": math.floor(bound * 1e4) / 1e4, "basins": _things(n, "basin", "basins")}


def command_for(record: RunRecord, file: str) -> str:
    """Return the command line that makes `file` of a run."""
    return shlex.join(["dvae-eval", COMMANDS_OF_FILES[file], str(record.directory / "model.pt")])


def command_on(file: str, made_by: Sequence[str], command: str) -> str:
    """Return the command line that measures the machine in a file, with the reading options of `made_by`."""
    words = [part for word in made_by for part in (word.split("=", 1) if word.startswith("--") else (word,))]
    given = [[word, value] for word, value in itertools.pairwise(words) if word in READ_OPTIONS]
    return shlex.join(["dvae-eval", command, file, *itertools.chain(*given)])


def _deviation(result: LogZResult, exact: float) -> float | None:
    """Return (estimate - exact) in standard errors; None without an estimate or an error."""
    if result.log_z is None or not result.std_err:
        return None
    return (result.log_z - exact) / result.std_err


def _failures(result: Judged) -> list[str]:
    """Return the reasons why a result is doubtful, with its label; none for other verdicts."""
    if result.verdict != "doubtful":
        return []
    reasons = list(result.reasons) or failures_of(result.checks) or ["marked as not trustworthy, without a reason"]
    return [f"{LABELS[result.kind]}: {reason}" for reason in reasons]


def _missing(record: RunRecord) -> list[Reason]:
    """Return the missing results, each with the command that measures it."""
    absent = []
    if record.log_z is None:
        absent.append(Reason("log Z has not been estimated.", command_for(record, "logz.json")))
    if record.likelihood is None:
        absent.append(Reason("The log-likelihood has not been estimated.", command_for(record, "ll.json")))
    return absent


def _things(number: int, one: str, many: str) -> str:
    """Return a number with the singular or plural of its noun."""
    return f"{count(number)} {one if number == 1 else many}"
