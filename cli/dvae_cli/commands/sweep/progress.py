"""How far a sweep is, from the files of its runs: what is to be done, how long it takes, what has come out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvae_core.errors import DvaeError
from dvae_core.text import decimals, duration, error_text, estimate, fixed, plain
from dvae_eval.results import LikelihoodResult, LogZResult, load_result
from dvae_eval.verdict import WORDS

from ...console import SweepProgress, say
from .grid import Point, config_of, is_measured

# Seconds between looks at the files.
LOOK_SECONDS = 1.0
# What the starts of three processes take at least, where they were not timed.
STARTING_SECONDS = 6.0
LAST_LINE = 1 << 14  # bytes at the end of metrics.jsonl that its last line lies in


@dataclass(slots=True)
class RunState:
    """What is known of one run.

    Attributes
    ----------
    epochs, n_done : int
        Epochs to train at most, and those that are done.
    seconds : float
        What these took.
    measuring : float or None
        Seconds that all else took; None until log Z and log-likelihood are there.
    begun : float or None
        The time (`time.monotonic`) at which a run was begun or continued here, less `seconds` at that time.
    """

    epochs: int
    n_done: int = 0
    seconds: float = 0.0
    measuring: float | None = None
    begun: float | None = None

    @classmethod
    def of(cls, point: Point) -> RunState:
        """Return the state of a run, from its settings and its files."""
        state = cls(config_of(point).train.epochs)
        state.look(point.directory)
        if is_measured(point):
            state.end(point.directory)
        return state

    def look(self, directory: Path) -> None:
        """Read how far training is."""
        try:
            with (directory / "metrics.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LAST_LINE))
                last = json.loads(file.read().splitlines()[-1])
            self.n_done, self.seconds = int(last["epoch"]), float(last["seconds"])
        except (OSError, LookupError, TypeError, ValueError):
            return  # not there yet, or being written

    def end(self, directory: Path) -> None:
        """Take the run for done, and read how long it was measured."""
        self.look(directory)
        self.epochs = self.n_done or self.epochs  # training may have stopped early
        results = [load_result(directory / name) for name in ("logz.json", "ll.json")]
        self.measuring = STARTING_SECONDS + sum(result.wall_seconds for result in results)
        if self.begun is not None:  # which counts the starts of the processes, too
            self.measuring = max(self.measuring, time.monotonic() - self.begun - self.seconds)


def seconds_left(states: Sequence[RunState], n_workers: int) -> float | None:
    """Return about how long the runs still take on this many workers; None until an epoch has been timed.

    Epochs and measurements that are left are taken to last as long as those so far; while no run has been
    measured, training alone is counted.
    """
    n_timed, timed = sum(state.n_done for state in states), sum(state.seconds for state in states)
    waiting = [state for state in states if state.measuring is None]
    if not waiting:
        return 0.0
    if not n_timed:
        return None
    of_here = [state for state in states if state.begun is not None]
    measured = [state.measuring for state in of_here if state.measuring is not None]
    measured = measured or [state.measuring for state in states if state.measuring is not None]
    measuring = sum(measured) / len(measured) if measured else 0.0
    seconds = sum(max(0, s.epochs - s.n_done) * timed / n_timed + measuring for s in waiting)
    return seconds / min(n_workers, len(waiting))


def foretold(states: Sequence[RunState], n_workers: int) -> str:
    """Return what is to be done, and how long it takes as far as that is known."""
    waiting = [state for state in states if state.measuring is None]
    epochs = sum(max(0, state.epochs - state.n_done) for state in waiting)
    n_done = len(states) - len(waiting)
    done = f", {n_done} of {len(states)} done before" if n_done else ""
    runs = f"{len(waiting)} run{'s'[: len(waiting) > 1]}"
    work = f"{runs}: {epochs} epochs to train, then log Z and log-likelihood of each{done}"
    if not waiting:
        return f"all {len(states)} runs are done"
    left = seconds_left(states, n_workers)
    if left is None:
        return f"{work}; how long that takes is known after the first epoch"
    return f"{work}; {_about(states, left)}"


def _about(states: Sequence[RunState], left: float) -> str:
    """Return the time left in words."""
    alone = "" if any(state.measuring is not None for state in states) else " of training, without measuring"
    return f"about {duration(left)} left{alone}"


def result_line(directory: Path) -> str:
    """Return the numbers of a run in a few words: log-likelihood and log Z with their errors and verdicts."""
    log_z, likelihood = load_result(directory / "logz.json"), load_result(directory / "ll.json")
    assert isinstance(log_z, LogZResult)
    assert isinstance(likelihood, LikelihoodResult)
    errors = (likelihood.std_err_images, likelihood.std_err_log_z)
    return plain(
        f"log p(x) >= {fixed(likelihood.log_likelihood, decimals(*errors))} ± {error_text(errors[0])} (images) "
        f"± {error_text(errors[1])} (log Z), {WORDS[likelihood.verdict]}; "
        f"log Z = {estimate(log_z.log_z, log_z.std_err)}, {WORDS[log_z.verdict]}"
    )


def run_object(point: Point, failure: str = "") -> dict[str, Any]:
    """Return what is known of a run as JSON values: its settings, where it is, its status and its numbers.

    `status` is `done`, `failed` or `pending`; `ll` and `logz` are null unless it is done.
    """
    found: dict[str, Any] = {
        "kind": "sweep-run",
        "settings": dict(point.varied),
        "seed": point.seed,
        "directory": str(point.directory),
        "status": "failed" if failure else "done" if is_measured(point) else "pending",
        "failure": failure or None,
        "ll": None,
        "logz": None,
    }
    if found["status"] == "done":
        names = {"ll": ("log_likelihood", "std_err_images", "std_err_log_z"), "logz": ("log_z", "std_err")}
        for kind, numbers in names.items():
            result = json.loads(load_result(point.directory / f"{kind}.json").to_json())
            found[kind] = {name: result[name] for name in (*numbers, "verdict", "trustworthy")}
    return found


@dataclass(slots=True)
class Watch:
    """Shows how far a sweep is, and each number as it comes.

    Attributes
    ----------
    points : sequence of Point
        All runs.
    n_workers : int
        How many are made at a time.
    quiet : bool
        Show nothing.
    """

    points: Sequence[Point]
    n_workers: int
    quiet: bool
    states: list[RunState] = field(init=False)
    failures: dict[int, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Look at what there is."""
        self.states = [RunState.of(point) for point in self.points]

    @property
    def pending(self) -> list[int]:
        """The numbers of the runs that are not done."""
        return [i for i, state in enumerate(self.states) if state.measuring is None]

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Say what will be done, and show within the block how far it is."""
        say(foretold(self.states, self.n_workers), self.quiet)
        with SweepProgress(self.quiet) as progress:
            thread = threading.Thread(target=self._look, args=(progress,), daemon=True)
            if not self.quiet:
                thread.start()
            try:
                yield
            finally:
                self._stop.set()
                if not self.quiet:
                    thread.join()
                    self._show(progress)

    def begun(self, i: int) -> None:
        """Note that run `i` is begun on this machine."""
        self.states[i].begun = time.monotonic() - self.states[i].seconds

    def ended(self, i: int, failure: str) -> None:
        """Say what has come out of run `i`."""
        point, count = self.points[i], f"of {len(self.points)}"
        if failure:
            self.failures[i] = failure
            say(f"{failure}; see {point.log}", self.quiet)
            return
        try:
            self.states[i].end(point.directory)
        except DvaeError:
            return  # its results were taken away meanwhile
        left = seconds_left(self.states, self.n_workers)
        n_done = len(self.points) - len(self.pending)
        then = f"; {_about(self.states, left)}" if left else ""
        say(f"{n_done} {count} done{then}; {point.name}: {result_line(point.directory)}", self.quiet)

    def _look(self, progress: SweepProgress) -> None:
        """Look at the files now and then, and show how far the runs are, until told to stop."""
        was_known = seconds_left(self.states, self.n_workers) is not None
        while not self._stop.wait(LOOK_SECONDS):
            for i in self.pending:
                self.states[i].look(self.points[i].directory)
            left = seconds_left(self.states, self.n_workers)
            if left is not None and not was_known:
                was_known = True
                say(_about(self.states, left))
            self._show(progress)

    def _show(self, progress: SweepProgress) -> None:
        """Show how far the runs are."""
        busy = [i for i in self.pending if self.states[i].n_done and i not in self.failures]
        progress.runs(
            len(self.points) - len(self.pending),
            len(self.points),
            (sum(state.n_done for state in self.states), sum(state.epochs for state in self.states)),
            seconds_left(self.states, self.n_workers),
            [f"{self.points[i].name} {self.states[i].n_done}/{self.states[i].epochs}" for i in busy[:3]],
        )
