"""dvae-eval logz for several machines: each is measured and saved separately, so that a failure stops no other."""

from __future__ import annotations

import dataclasses
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
from dvae_core.io.containers import packed, unpacked
from dvae_core.io.files import remove_file
from dvae_eval.config import LogZConfig
from dvae_eval.readers import ReadConfig, Reading
from dvae_eval.readers.data import Rows
from dvae_eval.readers.trajectories import read_updates
from dvae_eval.results import LogZResult
from dvae_eval.runtime.resume import Store, digest_of
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
from .runner import FAILED, NOT_TRUSTWORTHY, after_interrupt, ending_cleanly, status_of
from .starts import find_starts

if TYPE_CHECKING:
    from dvae_eval.machine import Machine

Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How machines are measured: the options of `dvae-eval logz`."""

    config: LogZConfig
    how: ReadConfig
    starts: str | None
    data: Rows | None
    as_json: bool
    device: str
    threads: int | None

    @property
    def name(self) -> str:
        """The name of the default file of a result."""
        return "logz-clamped.json" if self.how.clamp else "logz.json"


@dataclass(frozen=True, slots=True)
class _Job:
    """A machine to be measured, with the name for messages."""

    name: str
    path: Path
    read: Callable[[], Reading]


@dataclass(slots=True)
class _Course:
    """The outcomes so far.

    Attributes
    ----------
    results : list of (str, LogZResult)
        Names of machines and their results.
    statuses : list of int
        Exit statuses of the machines that could not be measured.
    last : tuple, optional
        The last machine with known final states, these states, and its name.
    """

    results: list[tuple[str, LogZResult]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    last: tuple[Machine, Bits, str] | None = None

    @property
    def status(self) -> int:
        """The worst exit status: failures first, then bad input, then results that are not to be trusted."""
        if self.statuses:
            return FAILED if FAILED in self.statuses else max(self.statuses)
        return 0 if all(result.trustworthy for _, result in self.results) else NOT_TRUSTWORTHY


def measure_all(
    models: Sequence[Path], all_updates: bool, what: Measurement, output: Path | None, force: bool
) -> int:
    """Measure machines one after the other, print a table or one line of JSON per machine; return the exit status.

    A machine that cannot be read or measured is reported in one line, and the others are measured.  With an output
    file, finished results are kept beside it until all are done, so that the same command can continue.
    """
    place = find_output(output, force)
    place.hold()
    partial = unfinished(place, (what.config, what.how))
    kept = partial.with_suffix("") if partial else None
    course, jobs = _Course(), list(_jobs(models, what.how, all_updates))
    with ending_cleanly(
        lambda: f"interrupted, {len(course.results)} of {len(jobs)} done; {after_interrupt(kept)}"
    ):
        for number, job in enumerate(jobs, 1):
            say(f"{number} of {len(jobs)}: {job.name}")
            try:
                _measure(job, what, course, kept, place)
            except DvaeError as error:
                course.statuses.append(status_of(error))
                text = " ".join(str(error).split())
                say(text if str(job.path) in text else f"{job.name}: {text}", always=True)
    _print(course, what.as_json or place.stream == STANDARD_OUTPUT)
    _save(course, len(jobs), kept, place)
    return course.status


def _jobs(models: Sequence[Path], how: ReadConfig, all_updates: bool) -> Iterator[_Job]:
    """Yield one machine per file or, with `all_updates`, one per update of each archive."""
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
    """Return a function that raises an error, for when the turn of its file comes."""

    def read() -> Reading:
        raise error

    return read


def _measure(job: _Job, what: Measurement, course: _Course, kept: Path | None, place: Output) -> None:
    """Measure a machine, or load its finished result; add it to the outcomes, and print it."""
    found = job.read()
    say_left_aside(found.description)
    check_data(what.data, found)
    starts = _starts(job, what, course, found)
    # The result for a run goes to the same file as from a command for this run alone.
    own = Output() if place else find_output(None, False, default_output(job.path, what.name, what.as_json))
    own.hold()
    result, states = _kept_or_new(what, found, starts, kept, own)
    result = with_data(dataclasses.replace(result, command=command_line()), found, what.data)
    if result.trustworthy and len(states):
        course.last = (found.machine, states, job.name)
    course.results.append((job.name, result))
    if own:
        settled = settle(own, result)
        assert settled.path is not None
        result.save(settled.path)
        if partial := unfinished(own, _key(what, found, starts)):
            remove_file(partial)
        say(f"saved: {settled}")
    if what.as_json or place.stream == STANDARD_OUTPUT:
        click.echo(result.to_json())
    from_last = (
        ", started from states of the previous one"
        if isinstance(starts, Starts) and "states_of" in starts.source
        else ""
    )
    say(f"  {result}; {result.claim}{from_last}")


def _starts(job: _Job, what: Measurement, course: _Course, found: Reading) -> Any:
    """Return the states of --starts, else the final states of the previous machine of the same training."""
    starts = find_starts(what.starts, job.path, found)
    if starts is None and what.starts is None and course.last:
        machine, states, name = course.last
        if are_of_one_training(machine, found.machine):
            return Starts(states, {"states_of": name, "prior_sha256": machine.sha256})
    return starts


# --- finished results, kept until all machines are done -------------------------------------------------------


def _key(what: Measurement, found: Reading, starts: Any) -> dict[str, Any]:
    """Return everything that an estimate depends on, and the description of its machine, as plain JSON values."""
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
    """Return the result and the final states (possibly none) of a machine, from the directory `kept` if there.

    New ones are saved there.
    """
    key = _key(what, found, starts)
    if kept is None:
        return _new(what, found, starts, unfinished(own, key))
    kept.mkdir(exist_ok=True)
    name = digest_of(key)[:16]
    store, partial = Store(kept / f"{name}.npz", key), kept / f"{name}.partial.npz"
    if (arrays := store.load()) is not None:
        say("  was measured by an earlier command")
        return LogZResult.from_dict(unpacked(arrays["result"])), arrays["states"]
    result, states = _new(what, found, starts, partial)
    store.save({"result": packed(result.to_dict()), "states": states})
    remove_file(partial)
    return result, states


def _new(what: Measurement, found: Reading, starts: Any, partial: Path | None) -> tuple[LogZResult, Bits]:
    """Measure a machine; return its result and its final states (possibly none)."""
    states: list[Bits] = []
    result = estimate_with_progress(
        found.machine,
        what.config,
        found.description,
        what.device,
        threads=what.threads,
        partial=partial,
        constant=found.constant,
        starts=starts,
        final_states=states.append,
    )
    return result, states[-1] if states else np.empty((0, found.machine.n_units), np.uint8)


# --- the end --------------------------------------------------------------------------------------------------


def _print(course: _Course, as_json: bool) -> None:
    """Print the table of results, unless they were printed as JSON."""
    if course.results and not as_json:
        from dvae_reports.tables.results import log_z_table

        from .commands.table import print_tables

        names = _without_folder([name for name, _ in course.results])
        results = [result for _, result in course.results]
        print_tables([log_z_table(list(zip(names, results, strict=True)))], "text")


def _without_folder(names: list[str]) -> list[str]:
    """Return the names of files without the directory that they have in common."""
    parts = [Path(name).parts for name in names]
    n = 0
    while all(len(one) > n + 1 for one in parts) and len({one[n] for one in parts}) == 1:
        n += 1
    return ["/".join(one[n:]) for one in parts]


def _save(course: _Course, n: int, kept: Path | None, place: Output) -> None:
    """Write all results, one per line; remove the directory `kept` unless results are missing."""
    if not course.results:
        return
    if place and place.stream != STANDARD_OUTPUT:
        place.write("".join(f"{result.to_json()}\n" for _, result in course.results))
        say(f"saved: {place}")
    if missing := n - len(course.results):
        again = "; fix them and run the same command with --force, which measures only these" if kept else ""
        say(f"{missing} of {n} could not be measured{again}", always=True)
    elif kept:
        shutil.rmtree(kept, ignore_errors=True)
