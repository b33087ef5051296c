"""dvae-eval benchmark: compare estimators, including the user's, on machines and models with a known answer."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import ConfigError
from dvae_core.text import duration, error_text, plain, signed
from dvae_eval.benchmark.config import BenchmarkConfig

from ..options import common_options, config_options, given, output_options, refuse_both, scheduler_option
from ..runner import after_interrupt, ending_cleanly
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import BenchmarkResult

    from ..outputs import Output


@click.command("benchmark", cls=Command)
@config_options(BenchmarkConfig)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="auto, pt-bar, pt-bar-uniform, pt-bar-fitted, pt-bar-modes, paper, ais or reverse-ais; for --kind "
    "likelihood: importance-100, importance-1000, importance-10000 or ais. Repeatable. "
    "[default: all of them, unless --estimator is given]",
)
@click.option(
    "--estimator",
    "estimators",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="Your own function, importable from the current directory. Repeatable.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Number of runs at a time, each on one core. [default: all cores]"
)
@scheduler_option("the runs")
@output_options("none")
@common_options
def command(
    methods: tuple[str, ...],
    estimators: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    **settings: Any,
) -> int:
    """Compare estimators on machines with a known log Z.

    Each estimator runs on each machine of a suite, and its answers are compared with the exact values. With --kind
    likelihood, estimators of log p(x) run on small models instead.

    \b
    Example:
      dvae-eval benchmark -o quick.json
      dvae-eval benchmark --suite standard --seeds 5 --budget 10 --method pt-bar --method ais -o standard.json
      dvae-eval benchmark --estimator mine:annealed --seeds 5 -o mine.json
      dvae-eval benchmark --kind likelihood --estimator mine:bound -o likelihood.json
      dvae-eval table --kind benchmark quick.json mine.json
      dvae-eval figure benchmark quick.json mine.json -o benchmark.pdf --width page

    FUNCTION takes the arguments (W, b_left, b_right, seed, budget), or (J, b, seed, budget) for any graph, or some
    of these. It returns (log_z, std_err) in nats, or (log_z, std_err, trusted). Units are 0 and 1; J is strictly
    upper triangular. Each run has its own process with one thread, and is killed after 4 times its budget of CPU
    seconds.

    With --kind likelihood, FUNCTION takes (model, images, log_z, seed, budget), or some of these. It returns
    (log_p_x, std_err): log p(x) of each image or their mean, and the standard error of the mean. It may also
    return trusted and the gap of a lower bound.

    An answer that the estimator trusts counts as wrong if its error exceeds both 4 of its standard errors and
    0.01 nats. A standard error of 0 requires a relative error of at most 1e-6. A lower bound may be lower by the
    gap that it states.

    Finished runs are saved in the file given by --output. Run the same command again to continue, or with more
    methods or seeds to add to the result.
    """
    refuse_both(workers, scheduler)
    config = BenchmarkConfig(**given(BenchmarkConfig, settings))
    from dvae_eval.benchmark.kinds import KINDS
    from dvae_eval.benchmark.run_benchmark import run_benchmark
    from dvae_eval.runtime.compute import available_cores
    from dvae_eval.runtime.dask_cluster import cluster

    from ..outputs import STANDARD_OUTPUT, find_output

    known = tuple(KINDS[config.kind].methods)
    if unknown := [name for name in methods if name not in known]:
        raise ConfigError(
            f"--method: {unknown[0]!r} is not one of {', '.join(known)}; give your own functions with --estimator"
        )
    if unnamed := [name for name in estimators if ":" not in name]:
        raise ConfigError(f"--estimator: {unnamed[0]!r} has no name of a function; give MODULE:FUNCTION")
    chosen = [*methods, *estimators] or list(known)
    place = find_output(output, force=True)
    place.hold()
    recorder = _Recorder(place)
    stopped = ending_cleanly(lambda: f"interrupted, {recorder.n_done} runs done; {after_interrupt(place.path)}")
    try:
        with stopped, cluster(scheduler):
            result = run_benchmark(
                chosen,
                config,
                n_workers=workers or available_cores(),
                previous=None if force else _previous(place),
                progress=recorder,
            )
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}" if str(error).startswith("was made") else str(error)) from error
    return _finish(result, place, as_json or place.stream == STANDARD_OUTPUT)


def _previous(place: Output) -> BenchmarkResult | None:
    """Return the existing result in the output file, if any; ConfigError if the file is of another kind."""
    from dvae_eval.results import BenchmarkResult, load_result

    if place.path is None or not place.path.exists():
        return None
    found = load_result(place.path)
    if not isinstance(found, BenchmarkResult):
        raise ConfigError(
            f"--output: {place.path} is not a benchmark result; give another name, or --force to overwrite it"
        )
    return found


class _Recorder:
    """Saves each finished run and prints a line about it."""

    def __init__(self, place: Output) -> None:
        self.place = place
        self.n_done = self.n_before = 0
        self.started = time.monotonic()

    def __call__(self, result: BenchmarkResult, run: dict[str, Any] | None, n_done: int, n_planned: int) -> None:
        """Save the result so far, and print the run that finished; None for `run` at the start."""
        from ..console import say
        from ..inputs import command_line

        self.n_done = n_done
        if run is None:
            self.n_before, self.started = n_done, time.monotonic()
            if n_done:
                say(f"{n_done} of {n_planned} runs are in the file already")
            return
        if self.place.path:
            dataclasses.replace(result, command=command_line()).save(self.place.path)
        pace = (time.monotonic() - self.started) / (n_done - self.n_before)
        say(f"{n_done} of {n_planned}, {duration(pace * (n_planned - n_done))} left: {_line(run)}")


def _line(run: dict[str, Any]) -> str:
    """Return a line about a finished run."""
    what = f"{run['method']} on {run['machine']}, seed {run['seed']}"
    if run["error"] is None:
        return f"{what}: {run['verdict']}, {run['note']}"
    verdict = {"wrong": "WRONG AND TRUSTED"}.get(run["verdict"], run["verdict"])
    error = plain(signed(run["error"], 4))
    return f"{what}: {verdict}, error {error} ± {error_text(run['std_err'])}, {run['cpu_seconds']:.1f} CPU s"


def _finish(result: BenchmarkResult, place: Output, as_json: bool) -> int:
    """Save the result, and print its tables or its JSON object; return the exit status."""
    from dvae_reports.tables.benchmark import benchmark_tables

    from ..console import say
    from ..inputs import command_line
    from .table import print_tables

    result = dataclasses.replace(result, command=command_line())
    if place.path:
        result.save(place.path)
    if as_json:
        click.echo(result.to_json())
    else:
        print_tables(benchmark_tables([result]), "text")
    say(str(result))
    if place.path:
        say(f"saved: {place}")
    return 0
