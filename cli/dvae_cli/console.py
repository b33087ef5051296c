"""Messages and progress: live bars on a terminal, occasional lines in a log, nothing with --quiet."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from dvae_core.terminal import cell_width, fold, fold_parts, terminal_width
from dvae_core.text import decimals, duration, estimate, fixed, plain

from .standard_input import as_named

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_SECONDS = 5.0
# A shorter bar shows too little, and a longer one nothing more.
LEAST_BAR, MOST_BAR = 8, 40
# Starts a command line within a message; the command is to be copied unchanged.
COMMAND = ": dvae-"


def set_quiet(value: bool) -> None:
    """Store whether the running command prints its result only."""
    click.get_current_context().meta[__name__] = value


def is_quiet() -> bool:
    """Return whether the running command prints its result only; False in other threads, where no command runs."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(__name__))


def say(text: str, *, always: bool = False) -> None:
    """Print a message on standard error, folded to the width of its terminal; with --quiet only if `always`."""
    if always or not is_quiet():
        # Not with click.echo, which would write into the line of a live bar.
        print("\n".join(_message(as_named(text), terminal_width(sys.stderr))), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a line of a result on standard output, folded to the width of its terminal."""
    print("\n".join(_message(as_named(text), terminal_width(sys.stdout))), flush=True)


def _message(text: str, width: int | None) -> list[str]:
    """Return a message as lines; a command at its end is never broken, so that it can be pasted."""
    what, found, command = text.partition(COMMAND)
    if not found or width is None or cell_width(text) <= width:
        return fold(text, width)
    return [*fold(f"{what}:", width), f"  dvae-{command}"]


@dataclass(slots=True)
class _Phase:
    """One phase of the work, as its bar shows it.

    Attributes
    ----------
    head : str
        Text in front of the bar.
    done, total : int
        Units of work.
    parts : sequence of str
        The estimate so far, in short texts.
    n_before : int
        What was done before this process started; it does not count for the pace.
    started, last : float
        Times (`time.monotonic`) of the start and of the last update.
    seconds_left : float or None
        A prediction that replaces the pace so far; infinite where none can be made.
    """

    head: str = ""
    done: int = 0
    total: int = 1
    parts: Sequence[str] = ()
    n_before: int = 0
    is_over: bool = False
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    seconds_left: float | None = None

    def left(self) -> float | None:
        """Return the seconds left, as predicted or at the pace so far; None if unknown."""
        if self.seconds_left is not None:
            return self.seconds_left if math.isfinite(self.seconds_left) else None
        since = self.done - self.n_before
        return (self.last - self.started) * (self.total - self.done) / since if since > 0 else None


def bar_lines(phase: _Phase, seconds: float, width: int, ascii_only: bool) -> list[str]:
    """Return a phase as lines of at most `width` columns: head, bar, times, and the estimate so far.

    Where the room is too small, the time so far is dropped first, then the text takes two lines; nothing is cut.
    """
    left = phase.left()
    to_go = "" if phase.is_over else f"{'-:--:--' if left is None else _clock(left)} left"
    tails = [", ".join(part for part in (_clock(seconds), to_go) if part), to_go or _clock(seconds)]
    below = fold_parts(phase.parts, width, "  ") if phase.parts else []
    beside = f"{tails[0]}  {'  '.join(phase.parts)}".rstrip()
    for tail, least, rest in (
        (beside, 2 * LEAST_BAR, []),
        (tails[0], LEAST_BAR, below),
        (tails[1], LEAST_BAR, below),
    ):
        room = width - cell_width(phase.head) - cell_width(tail) - 2
        if room >= least:
            return [f"{phase.head} {_bar(phase, room, ascii_only)} {tail}", *rest]
    bar = _bar(phase, max(1, width - cell_width(tails[1]) - 3), ascii_only)
    return [*fold(phase.head, width), f"  {bar} {tails[1]}", *below]


def _bar(phase: _Phase, room: int, ascii_only: bool) -> str:
    """Return a bar of at most `room` columns."""
    length, share = min(room, MOST_BAR), phase.done / max(1, phase.total)
    full, empty = "#-" if ascii_only else "━─"
    n = min(length, int(length * share))
    return full * n + empty * (length - n)


def _clock(seconds: float) -> str:
    """Return a time in a fixed number of characters, so that bars do not move: `0:04:12`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Live:
    """One bar per phase on a terminal; in a log, at most one line per `LOG_SECONDS`."""

    ends_full = True  # whether the bar of a phase that ended early is full in the end

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.stream, self.quiet = sys.stderr, is_quiet()
        self.phases: dict[str, _Phase] = {}
        self.started = self.last_line = time.monotonic()
        self.console = Console(stderr=True)
        self.terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = Live(
            console=self.console, get_renderable=self._render, refresh_per_second=8, vertical_overflow="visible"
        )

    def __enter__(self) -> Self:
        if self.terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_phases(is_full=kind is None and self.ends_full)
        self.live.stop()

    def _end_phases(self, is_full: bool) -> None:
        """Mark all phases as over; they may have ended early, as soon as the result was good enough."""
        for phase in self.phases.values():
            phase.is_over = True
            phase.done = phase.total if is_full else phase.done

    def _render(self) -> RenderableType:
        """Return all phases as lines, for the present width of the terminal."""
        from rich.text import Text

        # The width of this stream: Rich asks standard input first, which may be another terminal or none.
        width = self.console.width = terminal_width(self.stream) or self.console.width
        ascii_only = self.console.options.ascii_only
        lines: list[str] = []
        for phase in list(self.phases.values()):
            seconds = (phase.last if phase.is_over else time.monotonic()) - phase.started
            lines += bar_lines(phase, seconds, width, ascii_only)
        return Text("\n".join(lines), no_wrap=True, overflow="ignore", end="")

    def update(self, phase: str, done: int, total: int, parts: Sequence[str], head: str = "") -> None:
        """Show `done` of `total` in `phase` with the estimate so far; `head` replaces the name and the count."""
        if self.terminal:
            if is_new := phase not in self.phases:
                self._end_phases(is_full=True)
            shown = self.phases.setdefault(phase, _Phase(n_before=done if done < total else 0))
            shown.head, shown.parts = head or f"{phase} {done}/{total}", [part for part in parts if part]
            shown.done, shown.total, shown.last = done, total, time.monotonic()
            shown.is_over = done >= total
            if is_new:
                self.live.refresh()
        elif not self.quiet and (done == total or time.monotonic() - self.last_line > LOG_SECONDS):
            self.last_line = time.monotonic()
            text = "  ".join(part for part in parts if part)
            say(f"{phase} {done}/{total}  {text}  {duration(self.last_line - self.started)}")


class EstimateProgress(_Live):
    """Progress of an estimator, called with (phase, done, total, estimate so far or None, its error or None)."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def __call__(
        self, phase: str, done: int, total: int, value: float | None, std_err: float | None = None
    ) -> None:
        """Show the state of the estimate."""
        number = fixed(value, decimals(None)) if std_err is None else estimate(value, std_err)
        self.update(phase, done, total, [] if value is None else [plain(f"{self.label} {number}")])


class LikelihoodProgress(EstimateProgress):
    """Progress over images, with the images per second and, in a log, the time left."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.n_done = self.n_before = 0
        self.kept: dict[str, int] = {}

    def begin(self, plan: Any) -> None:
        """Announce the plan of the work, and start to count."""
        say(str(plan))
        self.n_done = self.n_before = plan.n_done
        self.started = time.monotonic()

    def __call__(
        self, phase: str, done: int, total: int, value: float | None, std_err: float | None = None
    ) -> None:
        """Show the state of the estimate."""
        self.n_done = self.kept[phase] = done
        rate = (done - self.n_before) / max(time.monotonic() - self.started, 1e-6)
        parts = [] if value is None else [plain(f"{self.label} {fixed(value, decimals(std_err))}")]
        if rate > 0:
            left = "" if self.terminal else f", {duration((total - done) / rate)} left"
            parts.append(f"{rate:.3g} images/s{left}")
        self.update(phase, done, total, parts)


class SweepProgress(_Live):
    """Progress of a sweep, as a bar on a terminal; in a log, each run has its own line instead."""

    ends_full = False  # some runs may have failed

    def runs(
        self, n_done: int, n_runs: int, epochs: tuple[int, int], left: float | None, parts: Sequence[str]
    ) -> None:
        """Show the number of finished runs, and the seconds left; `epochs` is (finished, total) over all runs."""
        if self.terminal and not self.quiet:
            done, total = epochs
            # Runs are still measured after their last epoch.
            self.update("runs", min(done, total - (n_done < n_runs)), total, parts, f"{n_done} of {n_runs} runs")
            # None or 0 before all runs are done: the time that a measurement takes is not known yet.
            self.phases["runs"].seconds_left = left if left or n_done == n_runs else math.inf


class TrainingProgress(_Live):
    """Progress of a training run."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.summary: list[str] = []

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Show a step, on a terminal only: a log has one line per epoch."""
        if self.terminal:
            head = f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}"
            self.update("training", epoch * n_steps + step, self.epochs * n_steps, self.summary, head)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Show the metrics of an epoch, in nats per image."""
        valid, rbm = metrics["valid"], metrics["rbm"]
        # log Z is tracked only roughly in training, so that a small KL may come out negative.
        kl = "~0" if valid["kl_rbm"] < 0 else f"{valid['kl_rbm']:.2f}"
        self.summary = [
            f"ELBO {valid['elbo']:.2f} (train {metrics['train']['elbo']:.2f})",
            f"KL {kl} binary + {sum(valid['kl_continuous']):.2f}",
            f"|W| {rbm['weight_rms']:.2f}",
            f"{metrics['images_per_s']:.0f} images/s",
        ]
        if self.terminal:
            for phase in self.phases.values():
                phase.parts = self.summary
        else:
            self.update("epoch", metrics["epoch"], self.epochs, self.summary)

    def finish(self, epoch: int) -> None:
        """Show the epoch where training ended, which may be before the last one."""
        for phase in self.phases.values():
            phase.head = f"epoch {epoch}/{self.epochs}"
