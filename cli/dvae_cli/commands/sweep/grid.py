"""A grid of training runs: varied settings, seeds, and the commands that train and measure each run."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dvae_core.config import RunConfig
from dvae_core.errors import ConfigError, DvaeError
from dvae_core.io.files import sha256_file
from dvae_core.training.run_directory import read_config, read_provenance
from dvae_eval.config import LikelihoodConfig, LogZConfig
from dvae_eval.results import load_result
from dvae_eval.runtime.dask_cluster import is_cancelled, worker_threads

from ...options import given
from ...runner import INTERRUPTED, NOT_TRUSTWORTHY
from ...train import command as train_command
from ...train import plan_of

# Seconds between checks whether a process has ended or its task was cancelled.
POLL_SECONDS = 1.0
# Options of dvae-train that the sweep sets for every run, and what to give to the sweep instead.
OWN = {
    "seed": "--seeds, the number of them",
    "run_directory": "--out before the data set",
    "device": "--device before the data set",
    "resume": "the same command again, which continues",
    "end": "it to dvae-train, for one run",
    "data": "DATASET",
}

# Options of dvae-eval logz and ll that the sweep sets, since they decide where the results are.
MEASURED = {"logz": ("output", "as_json", "device"), "ll": ("output", "as_json", "device", "data", "method")}

Varied = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the grid: its directory, and the arguments of `dvae-train` except --out.

    Attributes
    ----------
    varied : tuple of (str, str)
        The settings that vary between runs, with the values of this run, as typed.
    seed : int
    """

    directory: Path
    arguments: tuple[str, ...]
    varied: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    seed: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.name

    @property
    def log(self) -> Path:
        """The file beside the directory with the output of the run's commands."""
        return self.directory.with_name(f".{self.name}.log")


def grid(out: Path, training: Sequence[str], varied: Varied, seeds: Sequence[int]) -> list[Point]:
    """Return one point per combination of the varied values and per seed.

    Parameters
    ----------
    out : Path
        The directory of the run directories.
    training : sequence of str
        The arguments of `dvae-train` that all runs share.
    varied : dict of str to list of str
        Options without their dashes, with their values as typed; options separated by commas share their values.
    seeds : sequence of int

    Raises
    ------
    ConfigError
        If two combinations have the same name.
    """
    points = []
    for values in itertools.product(*varied.values()):
        chosen = dict(zip(varied, values, strict=True))
        pairs = [(name, value) for names, value in chosen.items() for name in names.split(",")]
        options = [part for name, value in pairs for part in (f"--{name}", value)]
        parts = [f"{names.replace(',', '+')}-{_plain(value)}" for names, value in chosen.items()]
        for seed in seeds:
            name = "_".join([*parts, f"seed-{seed}"])
            arguments = (*training, *options, "--seed", str(seed))
            points.append(Point(out / name, arguments, tuple(pairs), seed))
    names = [point.name for point in points]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--vary: two runs would have the name {name}; give different values")
    return points


def _plain(value: str) -> str:
    """Return a value in a form that fits into the name of a directory."""
    return re.sub(r"[^\w.]+", "x", Path(value).stem if os.sep in value else value)


def config_of(point: Point) -> RunConfig:
    """Return the settings of a point; ConfigError or an error of click if they are not valid."""
    arguments = [*point.arguments, "--out", str(point.directory)]
    values: dict[str, Any] = train_command.make_context("dvae-train", arguments).params
    return plan_of(values.pop("run_directory"), values).config


def refuse_own_options(
    training: Sequence[str], varied: Varied, sweep_options: Sequence[click.Parameter] = ()
) -> None:
    """Raise ConfigError for options of `dvae-train` that the sweep sets itself, and for misplaced ones of its own.

    Of two equal options, dvae-train takes the last.
    """
    names = [f"--{name}=" for names in varied for name in names.split(",")]
    others = {flag for parameter in sweep_options for flag in parameter.opts}
    others -= {flag for parameter in train_command.params for flag in parameter.opts}
    for word in training:
        if (flag := word.partition("=")[0]) in others:
            raise ConfigError(f"{flag}: is an option of dvae-eval sweep; give it before the data set")
    context = train_command.make_context("dvae-train", [*training, *names], resilient_parsing=True)
    for parameter in train_command.params:
        name = parameter.name or ""
        if name in OWN and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise ConfigError(f"{parameter.opts[0]}: the sweep sets it for every run; give {OWN[name]}")


def measuring(name: str, text: str) -> list[str]:
    """Return the options for `dvae-eval NAME` in `text`; ConfigError, before any training, if they are wrong."""
    from .. import likelihood, log_z

    try:
        options = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--{name}: {error}; quote the options as in a shell") from error
    command, settings = {"logz": (log_z.command, LogZConfig), "ll": (likelihood.command, LikelihoodConfig)}[name]
    # Any existing file can replace the model here, where options alone are checked.
    context = command.make_context(f"dvae-eval {name}", [__file__, *options])
    for parameter in command.params:
        fixed = parameter.name in MEASURED[name]
        if fixed and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
            raise ConfigError(f"--{name}: {parameter.opts[0]} is set by the sweep; omit the option")
    settings(**given(settings, context.params))
    return options


def refuse_other_settings(point: Point) -> None:
    """Raise ConfigError if the directory of the point has a run with other settings."""
    wanted = config_of(point)
    if (point.directory / "config.json").exists() and read_config(point.directory) != wanted:
        raise ConfigError(
            f"--out: the run in {point.directory} has other settings; give the same ones, or another directory"
        )


def is_measured(point: Point) -> bool:
    """Return whether the point has a model, with its log Z and its log-likelihood."""
    model = point.directory / "model.pt"
    try:
        digest = sha256_file(model)
        results = [load_result(model.with_name(name)) for name in ("logz.json", "ll.json")]
    except (DvaeError, OSError):
        return False
    return all(result.model.get("sha256") == digest for result in results)


@dataclass(slots=True)
class Runs:
    """Runs the commands of points, also from several threads at a time, and stops all of them together.

    Attributes
    ----------
    log_z, likelihood : tuple of str
        Options for `dvae-eval logz` and `dvae-eval ll`.
    device : str
        `cpu` or `cuda`.
    threads : int
        OpenMP threads per process.
    place : Path
        Working directory of the commands.
    """

    log_z: tuple[str, ...]
    likelihood: tuple[str, ...]
    device: str
    threads: int
    place: Path = field(default_factory=Path.cwd)
    stopped: bool = False
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, point: Point, say: Callable[[str], None]) -> str:
        """Train and measure a point, or continue it; return the failure, empty if there is none.

        The output of the commands goes to a hidden log file beside the directory of the point.
        """
        directory = self.place / point.directory
        if is_measured(replace(point, directory=directory)):
            return ""
        model = str(point.directory / "model.pt")
        started = (directory / "config.json").exists()
        resume = ["--resume"] if started else []
        compute = ["--device", self.device, "--quiet"]
        steps = {
            "training": ["train", *point.arguments, "--out", str(point.directory), *resume, *compute],
            "log Z": ["main", "logz", model, *self.log_z, *compute],
            "log-likelihood": ["main", "ll", model, *self.likelihood, *compute],
        }
        if started and "ended" in read_provenance(directory):
            del steps["training"]  # the user has ended the training: the model is measured as it is
        for step, command in steps.items():
            if self.stopped:
                return f"{point.name}: stopped before {step}"
            say(f"{point.name}: {step}")
            status = self._run(command, self.place / point.log)
            if status not in (0, NOT_TRUSTWORTHY):
                return f"{point.name}: {step} {'was stopped' if status == INTERRUPTED else 'failed'}"
        return ""

    def stop(self) -> None:
        """Interrupt every running command as Ctrl-C does, wait until all have ended, and start no other."""
        with self._lock:
            self.stopped = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()

    def _run(self, arguments: Sequence[str], log: Path) -> int:
        """Run `python -m dvae_cli.<first argument>`; return its exit status."""
        module, *rest = arguments
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        with log.open("ab") as file:
            with self._lock:
                if self.stopped:
                    return INTERRUPTED
                # In its own session, so that Ctrl-C on a terminal reaches it only once, through `stop`; and tied
                # to this process, so that it never runs at the same time as its successor on another worker.
                process = subprocess.Popen(
                    [sys.executable, "-m", "dvae_cli.commands.sweep.exits_with_parent", module, *rest],
                    stdin=_held_open(),
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    cwd=self.place,
                    env=environment,
                    start_new_session=True,
                )
                self._running.add(process)
            # After an interrupt here, the process is still in the set that `stop` ends.
            status = self._end_of(process)
            with self._lock:
                self._running.discard(process)
            return status

    def _end_of(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a process and return its exit status; stop the process if this task is cancelled."""
        while True:
            try:
                status = process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if is_cancelled():
                    self.stop()
            else:
                return status


@cache
def _held_open() -> int:
    """Return the reading end of a pipe; its writing end is closed when this process ends, even by a kill."""
    return os.pipe()[0]


def make_on_worker(shared: tuple[Callable[..., Runs], bool], point: Point) -> str:
    """Make a point on a worker of a cluster, with all threads of the worker; return the failure, empty if none.

    `shared` is (a function from the number of threads to Runs, whether to be quiet).
    """
    from distributed import print as print_there_and_here

    new_runs, quiet = shared

    def say(words: str) -> None:
        if not quiet:
            print_there_and_here(words, file=sys.stderr)

    return new_runs(threads=worker_threads()).make(point, say)
