"""logz of several machines: each is measured and kept by itself, so that one that fails stops no other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from dvae_core import __version__
from dvae_core.errors import DvaeError
from dvae_core.io.files import remove_file
from dvae_eval.config import LogZConfig
from dvae_eval.readers import ReadConfig, Reading
from dvae_eval.readers.data import Rows
from dvae_eval.readers.trajectories import read_updates
from dvae_eval.results import LogZResult
from dvae_eval.runtime.resume import ResumeFile
from dvae_eval.starts import Starts, are_of_one_training

from .console import say
from .inputs import (
    check_data,
    command_line,
    default_output,
    estimate_with_progress,
    read_model,
    say_left_aside,
    settle,
    unfinished,
    with_data,
)
from .outputs import STANDARD_OUTPUT, Output, find_output
from .runner import FAILED, NOT_TRUSTWORTHY, CleanInterrupt, status_of
from .starts import find_starts

if TYPE_CHECKING:
    from dvae_eval.machine import Machine

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How machines are measured: what the options of `logz` say, see there."""

    config: LogZConfig
    how: ReadConfig
    starts: str | None
    data: Rows | None
    as_json: bool
    device: str
    threads: int | None
    quiet: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """A machine that is to be measured, and its name for people."""

    name: str
    path: Path
    read: Callable[[], Reading]


@dataclass(slots=True)
class _Course:
    """What has come of the machines so far.

    Attributes
    ----------
    results : list of (str, LogZResult)
        By name.
    statuses : list of int
        Exit statuses that those which could not be measured ask for.
    last : tuple, optional
        The last machine whose final states are known, these states, and its name.
    """

    results: list[tuple[str, LogZResult]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    last: tuple[Machine, Bits, str] | None = None

    @property
    def status(self) -> int:
        """The exit status: the worst of all, failures first, then bad input, then results not to be trusted."""
        if self.statuses:
            return FAILED if FAILED in self.statuses else max(self.statuses)
        return 0 if all(result.trustworthy for _, result in self.results) else NOT_TRUSTWORTHY


def measure_all(
    models: Sequence[Path], all_updates: bool, what: Measurement, output: Path | None, force: bool
) -> int:
    """Measure machines one after the other, print a table or a line of JSON each; return the exit status.

    A machine that cannot be read or measured is reported in one line, and the others are measured.  Results that
    are written to a file are kept beside it until all are done: the same command continues.
    """
    place = find_output(output, force)
    place.hold()
    partial = unfinished(place, (what.config, what.how))
    kept = partial.with_suffix("") if partial else None
    course, jobs = _Course(), list(_jobs(models, what.how, all_updates))
    try:
        for number, job in enumerate(jobs, 1):
            say(f"{number} of {len(jobs)}: {job.name}", what.quiet)
            try:
                _measure(job, what, course, kept, place)
            except DvaeError as error:
                course.statuses.append(status_of(error))
                text = " ".join(str(error).split())
                say(text if str(job.path) in text else f"{job.name}: {text}")
    except KeyboardInterrupt:
        raise CleanInterrupt(_interrupted(course, len(jobs), kept)) from None
    _print(course, what.as_json or place.stream == STANDARD_OUTPUT)
    _save(course, len(jobs), kept, place, what.quiet)
    return course.status


def _jobs(models: Sequence[Path], how: ReadConfig, all_updates: bool) -> Iterator[_Job]:
    """Yield the machines of files, of every file one or, of an archive, all of its updates."""
    for path in models:
        if not all_updates:
            yield _Job(str(path), path, lambda path=path: read_model(path, how))  # type: ignore[misc]
            continue
        try:
            found = read_updates(path, how)
        except DvaeError as error:
            yield _Job(str(path), path, _raising(error))
            continue
        for one in found:
            yield _Job(f"{path}:{one.description['update']}", path, lambda one=one: one)  # type: ignore[misc]


def _raising(error: DvaeError) -> Callable[[], Reading]:
    """Return a function that raises an error when the file's turn comes."""

    def read() -> Reading:
        raise error

    return read


def _measure(job: _Job, what: Measurement, course: _Course, kept: Path | None, place: Output) -> None:
    """Measure a machine, or take what was kept of it; add it to the course, and say or print the result."""
    found = job.read()
    say_left_aside(found.description, what.quiet)
    check_data(what.data, found)
    starts = _starts(job, what, course, found)
    # Of a run, the result goes where a single one would.
    own = Output() if place else find_output(None, False, default_output(job.path, _own_name(what), what.as_json))
    own.hold()
    result, states = _kept_or_new(what, found, starts, kept, own)
    result = with_data(dataclasses.replace(result, command=command_line()), found, what.data)
    if result.trustworthy and len(states):
        course.last = (found.machine, states, job.name)
    course.results.append((job.name, result))
    if own:
        settled = settle(own, result, what.quiet)
        assert settled.path is not None
        result.save(settled.path)
        if partial := unfinished(own, _key(what, found, starts)):
            remove_file(partial)
        say(f"saved: {settled}", what.quiet)
    if what.as_json or place.stream == STANDARD_OUTPUT:
        click.echo(result.to_json())
    from_last = (
        ", from states of the last one" if isinstance(starts, Starts) and "states_of" in starts.source else ""
    )
    say(f"  {result}; {result.claim}{from_last}", what.quiet)


def _own_name(what: Measurement) -> str:
    return "logz-clamped.json" if what.how.clamp else "logz.json"


def _starts(job: _Job, what: Measurement, course: _Course, found: Reading) -> Any:
    """Return states to start from: as --starts says, else those in which the last machine of a training ended."""
    starts = find_starts(what.starts, job.path, found, what.quiet)
    if starts is None and what.starts is None and course.last:
        machine, states, name = course.last
        if are_of_one_training(machine, found.machine):
            return Starts(states, {"states_of": name, "prior_sha256": machine.sha256})
    return starts


# --- what is kept until all are done --------------------------------------------------------------------------


def _key(what: Measurement, found: Reading, starts: Any) -> dict[str, Any]:
    """Return all that an estimate depends on, and what its result says of the machine: plain JSON values."""
    of_starts = starts.description() if isinstance(starts, Starts) else "codes" if starts else None
    return {
        "machine": found.machine.sha256,
        "model": found.description,
        "constant": found.constant,
        "config": dataclasses.asdict(what.config),
        "device": what.device,
        "starts": of_starts,
        "version": __version__,
    }


def _kept_or_new(
    what: Measurement, found: Reading, starts: Any, kept: Path | None, own: Output
) -> tuple[LogZResult, Bits]:
    """Return the result of a machine and its final states, none if there are none; both are kept in `kept`."""
    key = _key(what, found, starts)
    if kept is None:
        return _new(what, found, starts, unfinished(own, key))
    kept.mkdir(exist_ok=True)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    store, partial = ResumeFile(kept / f"{name}.npz", key), kept / f"{name}.partial.npz"
    if (arrays := store.load()) is not None:
        say("  was measured before", what.quiet)
        return LogZResult.from_dict(json.loads(arrays["result"].tobytes())), arrays["states"]
    result, states = _new(what, found, starts, partial)
    store.save({"result": np.frombuffer(result.to_json().encode(), np.uint8), "states": states})
    remove_file(partial)
    return result, states


def _new(what: Measurement, found: Reading, starts: Any, partial: Path | None) -> tuple[LogZResult, Bits]:
    """Return the result of a machine and its final states, none if there are none."""
    states: list[Bits] = []
    result = estimate_with_progress(
        found.machine,
        what.config,
        found.description,
        what.device,
        what.quiet,
        threads=what.threads,
        partial=partial,
        constant=found.constant,
        starts=starts,
        final_states=states.append,
    )
    return result, states[-1] if states else np.empty((0, found.machine.n_units), np.uint8)


def _interrupted(course: _Course, n: int, kept: Path | None) -> str:
    """Say what is left of an interrupted command's work."""
    again = "the same command continues" if kept and kept.exists() else "nothing was kept; -o FILE.jsonl keeps it"
    return f"interrupted, {len(course.results)} of {n} done; {again}"


# --- the end --------------------------------------------------------------------------------------------------


def _print(course: _Course, as_json: bool) -> None:
    """Print the table of what was measured, unless it was printed as JSON."""
    if course.results and not as_json:
        from dvae_reports.tables.results import log_z_table

        from .commands.table import print_tables

        names = _without_folder([name for name, _ in course.results])
        results = [result for _, result in course.results]
        print_tables([log_z_table(list(zip(names, results, strict=True)))], "text")


def _without_folder(names: list[str]) -> list[str]:
    """Return names of files without the folder that all of them lie in."""
    parts = [Path(name).parts for name in names]
    n = 0
    while all(len(one) > n + 1 for one in parts) and len({one[n] for one in parts}) == 1:
        n += 1
    return ["/".join(one[n:]) for one in parts]


def _save(course: _Course, n: int, kept: Path | None, place: Output, quiet: bool) -> None:
    """Write all results, a line each, and remove what was kept for them, unless some are still missing."""
    if not course.results:
        return
    if place and place.stream != STANDARD_OUTPUT:
        place.write("".join(f"{result.to_json()}\n" for _, result in course.results))
        say(f"saved: {place}", quiet)
    if missing := n - len(course.results):
        again = "; the same command with --force measures these alone" if kept else ""
        say(f"{missing} of {n} could not be measured{again}")
    elif kept:
        shutil.rmtree(kept, ignore_errors=True)
