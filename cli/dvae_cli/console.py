"""Progress for people: a live line on a terminal, a plain line now and then in a log, nothing if quiet."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dvae_core.text import decimals, duration, estimate, fixed, plain

__all__ = ["EstimateProgress", "LikelihoodProgress", "TrainingProgress", "say"]

LOG_SECONDS = 5.0


def say(text: str, quiet: bool = False) -> None:
    """Print a line for people on standard error."""
    if not quiet:
        click.echo(text, err=True)


class _Live:
    """A rich bar on a terminal; in a log, a line at most every `LOG_SECONDS`."""

    def __init__(self, quiet: bool) -> None:
        console = Console(stderr=True)
        self.quiet, self.terminal = quiet, console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not self.terminal,
        )
        self.phases: dict[str, Any] = {}
        self.started = self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, phase: str, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` is done in `phase`, with a text that tells the estimate."""
        if self.terminal:
            if phase not in self.phases:
                self.phases[phase] = self.bar.add_task(phase, total=total)
            self.bar.update(self.phases[phase], completed=done, total=total, description=f"{phase}  {text}")
        elif not self.quiet and (done == total or time.monotonic() - self.last_line > LOG_SECONDS):
            self.last_line = time.monotonic()
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
        self.update(phase, done, total, "" if value is None else plain(f"{self.label} {number}"))


class LikelihoodProgress(EstimateProgress):
    """Progress over images, with the images a second and, in a log, the time left."""

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
        text = "" if value is None else plain(f"{self.label} {fixed(value, decimals(std_err))}")
        if rate > 0:
            left = "" if self.terminal else f", {duration((total - done) / rate)} left"
            text += f"  {rate:.3g} images/s{left}"
        self.update(phase, done, total, text)


class TrainingProgress(_Live):
    """Progress of a training run."""

    def __init__(self, epochs: int, quiet: bool) -> None:
        super().__init__(quiet)
        self.epochs, self.summary = epochs, ""

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Show a step; between epochs the bar moves on a terminal only."""
        if self.terminal:
            self.update("training", epoch * n_steps + step, self.epochs * n_steps, self.summary)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Show an epoch's numbers, in nats an image."""
        valid, rbm = metrics["valid"], metrics["rbm"]
        # With a log Z that is tracked roughly, a small KL may come out below 0.
        kl = "~0" if valid["kl_rbm"] < 0 else f"{valid['kl_rbm']:.2f}"
        self.summary = (
            f"ELBO {valid['elbo']:.2f} (train {metrics['train']['elbo']:.2f})  KL {kl} binary"
            f" + {sum(valid['kl_continuous']):.2f}  |W| {rbm['weight_rms']:.2f}"
            f"  {metrics['images_per_s']:.0f} images/s"
        )
        if not self.terminal:
            self.update("epoch", metrics["epoch"], self.epochs, self.summary)

    def finish(self, epoch: int) -> None:
        """Let the bar end where training did, which may be before the last epoch."""
        for task in self.phases.values():
            self.bar.update(task, completed=epoch, total=epoch)
