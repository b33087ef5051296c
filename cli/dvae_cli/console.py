"""Lines for people, and progress: live bars on a terminal, now and then a line in a log, nothing if quiet."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dvae_core.terminal import cell_width, fold, fold_parts, terminal_width
from dvae_core.text import decimals, duration, estimate, fixed, plain

from .standard_input import as_named

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_SECONDS = 5.0
# A bar that is shorter says little; one that is longer says no more.
LEAST_BAR, MOST_BAR = 8, 40
# What begins a command line within a message, which is to be copied as it stands.
COMMAND = ": dvae-"


def say(text: str, quiet: bool = False) -> None:
    """Print a line for people on standard error, in several lines if its terminal is narrower."""
    if not quiet:
        # Not by click: it would write past a live bar, into its line.
        print("\n".join(_message(as_named(text), terminal_width(sys.stderr))), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a line of a result on standard output, in several lines if its terminal is narrower."""
    print("\n".join(_message(as_named(text), terminal_width(sys.stdout))), flush=True)


def _message(text: str, width: int | None) -> list[str]:
    """Return a message as lines; a command at its end is not broken, since half of one must not be pasted."""
    what, found, command = text.partition(COMMAND)
    if not found or width is None or cell_width(text) <= width:
        return fold(text, width)
    return [*fold(f"{what}:", width), f"  dvae-{command}"]


@dataclass(slots=True)
class _Phase:
    """A part of the work: what is shown of it, how much of it is done, and since when that is watched."""

    head: str = ""
    done: int = 0
    total: int = 1
    parts: Sequence[str] = ()
    n_before: int = 0
    is_over: bool = False
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    foretold: float | None = None

    def left(self) -> float | None:
        """Return how many seconds are left, as foretold or at the pace so far; None if there is none yet."""
        if self.foretold is not None:
            return self.foretold if math.isfinite(self.foretold) else None
        since = self.done - self.n_before
        return (self.last - self.started) * (self.total - self.done) / since if since > 0 else None


def bar_lines(phase: _Phase, seconds: float, width: int, ascii_only: bool) -> list[str]:
    """Return a phase as lines of at most `width` columns: what is done, a bar, the times, then the estimate.

    Where there is little room, the time so far gives way first, then all goes on two lines; nothing is cut.
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
    """Return a time in as many letters whatever it is, so that bars keep still: `0:04:12`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Live:
    """A bar for every phase on a terminal; in a log, a line at most every `LOG_SECONDS`."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self.stream, self.quiet = sys.stderr, quiet
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
        self._end_phases()
        self.live.stop()

    def _end_phases(self) -> None:
        """Take all phases for over: what comes after one has begun, and some end early."""
        for phase in self.phases.values():
            phase.is_over = True

    def _render(self) -> RenderableType:
        """Return all phases as lines for a terminal of its present width."""
        from rich.text import Text

        # Of this stream: Rich asks standard input first, which may be another terminal or none.
        width = self.console.width = terminal_width(self.stream) or self.console.width
        ascii_only = self.console.options.ascii_only
        lines: list[str] = []
        for phase in list(self.phases.values()):
            seconds = (phase.last if phase.is_over else time.monotonic()) - phase.started
            lines += bar_lines(phase, seconds, width, ascii_only)
        return Text("\n".join(lines), no_wrap=True, overflow="ignore", end="")

    def update(self, phase: str, done: int, total: int, parts: Sequence[str], head: str = "") -> None:
        """Show that `done` of `total` is done in `phase`, with the estimate; `head` in place of name and count."""
        if self.terminal:
            if is_new := phase not in self.phases:
                self._end_phases()
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
    """Progress of an estimator; called with (phase, done, in all, estimate so far or None, its error or None)."""

    def __init__(self, label: str, quiet: bool) -> None:
        super().__init__(quiet)
        self.label = label

    def __call__(
        self, phase: str, done: int, total: int, value: float | None, std_err: float | None = None
    ) -> None:
        """Show the state of the estimate."""
        number = fixed(value, decimals(None)) if std_err is None else estimate(value, std_err)
        self.update(phase, done, total, [] if value is None else [plain(f"{self.label} {number}")])


class LikelihoodProgress(EstimateProgress):
    """Progress over images, with the images per second and, in a log, the time left."""

    def __init__(self, label: str, quiet: bool) -> None:
        super().__init__(label, quiet)
        self.n_done = self.n_before = 0
        self.kept: dict[str, int] = {}

    def begin(self, plan: Any) -> None:
        """Say what the work will take, and count from here."""
        say(str(plan), self.quiet)
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
    """Progress of a sweep, as a bar on a terminal; a log gets a line of every run instead."""

    def runs(
        self, n_done: int, n_runs: int, epochs: tuple[int, int], left: float | None, parts: Sequence[str]
    ) -> None:
        """Show how many runs are done, and of `epochs` how many of how many, with the seconds left."""
        if self.terminal and not self.quiet:
            done, total = epochs
            # Measuring goes on when the last epoch is done.
            self.update("runs", min(done, total - (n_done < n_runs)), total, parts, f"{n_done} of {n_runs} runs")
            # None or 0 before all are done: how long a run takes to be measured is not known yet.
            self.phases["runs"].foretold = left if left or n_done == n_runs else math.inf


class TrainingProgress(_Live):
    """Progress of a training run."""

    def __init__(self, epochs: int, quiet: bool) -> None:
        super().__init__(quiet)
        self.epochs = epochs
        self.summary: list[str] = []

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Show a step; between epochs the bar moves on a terminal only."""
        if self.terminal:
            head = f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}"
            self.update("training", epoch * n_steps + step, self.epochs * n_steps, self.summary, head)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Show an epoch's numbers, in nats per image."""
        valid, rbm = metrics["valid"], metrics["rbm"]
        # With a log Z that is tracked roughly, a small KL may come out below 0.
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
        """Let the bar end where training did, which may be before the last epoch."""
        for phase in self.phases.values():
            phase.head, phase.done, phase.total = f"epoch {epoch}/{self.epochs}", 1, 1
