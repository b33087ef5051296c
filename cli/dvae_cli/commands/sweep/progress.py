"""Progress of a sweep, from the files of its runs: what is left, how long it takes, and the results so far."""

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

from ...console import SweepProgress, is_quiet, say
from .grid import Point, config_of, is_measured

# Seconds between reads of the files.
POLL_SECONDS = 1.0
# Least time to start three processes, where it was not measured.
STARTING_SECONDS = 6.0
LAST_LINE = 1 << 14  # bytes at the end of metrics.jsonl that contain its last line


@dataclass(slots=True)
class RunState:
    """The state of one run.

    Attributes
    ----------
    epochs, n_done : int
        Largest number of epochs, and the number of finished ones.
    seconds : float
        Duration of the finished epochs.
    measuring : float or None
        Duration of everything else; None until log Z and the log-likelihood are there.
    begun : float or None
        Time (`time.monotonic`) at which this process began or continued the run, minus `seconds` at that time.
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
        state.read_progress(point.directory)
        if is_measured(point):
            state.end(point.directory)
        return state

    def read_progress(self, directory: Path) -> None:
        """Read the progress of the training; keep the state if it cannot be read at the moment."""
        try:
            with (directory / "metrics.jsonl").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LAST_LINE))
                last = json.loads(file.read().splitlines()[-1])
            self.n_done, self.seconds = int(last["epoch"]), float(last["seconds"])
        except (OSError, LookupError, TypeError, ValueError):
            return  # the file does not exist yet, or is being written

    def end(self, directory: Path) -> None:
        """Mark the run as done, and read the duration of its measurements."""
        self.read_progress(directory)
        self.epochs = self.n_done or self.epochs  # training may have stopped early
        results = [load_result(directory / name) for name in ("logz.json", "ll.json")]
        self.measuring = STARTING_SECONDS + sum(result.wall_seconds for result in results)
        if self.begun is not None:  # then the time to start the processes is known
            self.measuring = max(self.measuring, time.monotonic() - self.begun - self.seconds)


def seconds_left(states: Sequence[RunState], n_workers: int) -> float | None:
    """Return the approximate time left on this number of workers; None until an epoch has been timed.

    The epochs and measurements that are left are assumed to take as long as those so far; while no run has been
    measured, only training is counted.
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


def plan_line(states: Sequence[RunState], n_workers: int) -> str:
    """Return a line about the work that is left, and its duration as far as it is known."""
    waiting = [state for state in states if state.measuring is None]
    epochs = sum(max(0, state.epochs - state.n_done) for state in waiting)
    n_done = len(states) - len(waiting)
    done = f" ({n_done} of {len(states)} are done already)" if n_done else ""
    runs = f"{len(waiting)} run{'s'[: len(waiting) > 1]}"
    training = f"{epochs} epoch{'s'[: epochs != 1]} of training"
    work = f"{runs}{done}: {training}, then log Z and log-likelihood of each run"
    if not waiting:
        return f"all {len(states)} runs are done"
    left = seconds_left(states, n_workers)
    if left is None:
        return f"{work}; the duration will be known after the first epoch"
    return f"{work}; {_about(states, left)}"


def _about(states: Sequence[RunState], left: float) -> str:
    """Return the time left as text."""
    alone = "" if any(state.measuring is not None for state in states) else " for training, without measurements"
    return f"about {duration(left)} left{alone}"


def result_line(directory: Path) -> str:
    """Return the numbers of a run as one line: log-likelihood and log Z with their errors and verdicts."""
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
    """Return a run as JSON values: its settings, directory, status and numbers.

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
    """Shows the progress of a sweep, and the results of each run when it ends.

    Attributes
    ----------
    points : sequence of Point
        All runs.
    n_workers : int
        Number of runs at a time.
    """

    points: Sequence[Point]
    n_workers: int
    states: list[RunState] = field(init=False)
    failures: dict[int, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Read the state of all runs."""
        self.states = [RunState.of(point) for point in self.points]

    @property
    def pending(self) -> list[int]:
        """The numbers of the runs that are not done."""
        return [i for i, state in enumerate(self.states) if state.measuring is None]

    @contextmanager
    def showing_progress(self) -> Iterator[None]:
        """Print the work that is left, and show progress within the block."""
        say(plan_line(self.states, self.n_workers))
        with SweepProgress() as progress:
            thread = threading.Thread(target=self._poll, args=(progress,), daemon=True)
            if not is_quiet():
                thread.start()
            try:
                yield
            finally:
                self._stop.set()
                if not is_quiet():
                    thread.join()
                    self._show(progress)

    def run_begun(self, i: int) -> None:
        """Record that run `i` starts on this computer."""
        self.states[i].begun = time.monotonic() - self.states[i].seconds

    def run_ended(self, i: int, failure: str) -> None:
        """Print the results of run `i`, or its failure."""
        point, count = self.points[i], f"of {len(self.points)}"
        if failure:
            self.failures[i] = failure
            say(f"{failure}; the reason is at the end of {point.log}")
            return
        try:
            self.states[i].end(point.directory)
        except DvaeError:
            return  # its results have been removed in the meantime
        left = seconds_left(self.states, self.n_workers)
        n_done = len(self.points) - len(self.pending)
        then = f"; {_about(self.states, left)}" if left else ""
        say(f"{n_done} {count} done{then}; {point.name}: {result_line(point.directory)}")

    def _poll(self, progress: SweepProgress) -> None:
        """Read the files regularly and show the progress of the runs, until asked to stop."""
        was_known = seconds_left(self.states, self.n_workers) is not None
        while not self._stop.wait(POLL_SECONDS):
            for i in self.pending:
                self.states[i].read_progress(self.points[i].directory)
            left = seconds_left(self.states, self.n_workers)
            if left is not None and not was_known:
                was_known = True
                say(_about(self.states, left))
            self._show(progress)

    def _show(self, progress: SweepProgress) -> None:
        """Show the progress of the runs."""
        busy = [i for i in self.pending if self.states[i].n_done and i not in self.failures]
        progress.runs(
            len(self.points) - len(self.pending),
            len(self.points),
            (sum(state.n_done for state in self.states), sum(state.epochs for state in self.states)),
            seconds_left(self.states, self.n_workers),
            [f"{self.points[i].name} {self.states[i].n_done}/{self.states[i].epochs}" for i in busy[:3]],
        )
