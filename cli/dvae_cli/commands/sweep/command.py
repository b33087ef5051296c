"""dvae-eval sweep: train and measure a grid of runs, and print one table of all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ConfigError

from ...options import Parsed, common_options, device_option, refuse_both, scheduler_option
from ...sections import Command

if TYPE_CHECKING:
    from .grid import Point, Runs
    from .progress import Watch

FAILED = 1
MANIFEST = ".sweep.json"


def _option_and_values(text: str) -> tuple[str, list[str]]:
    """Return the name of an option of dvae-train and its values, such as those of `groups=1 2 4`."""
    name, sign, values = text.partition("=")
    if not (sign and values.split()):
        raise ValueError(f"{text!r} is not of the form OPTION=VALUES, such as 'groups=1 2 4'")
    return ",".join(part.strip().lstrip("-") for part in name.split(",")), values.split()


def _one_of_equal_parts(text: str) -> tuple[int, int]:
    """Return the number of a part, counted from 0, and that of all parts, such as (2, 16) for `3/16`."""
    try:
        k, n = map(int, text.split("/"))
    except ValueError:
        k, n = 0, 0
    if not 1 <= k <= n:
        raise ValueError(f"{text!r} is not of the form K/N, such as 3/16")
    return k - 1, n


# Everything after the first word that is not an option of the sweep belongs to dvae-train.
@click.command("sweep", cls=Command, context_settings={"allow_interspersed_args": False})
@click.argument(
    "training", nargs=-1, required=True, type=click.UNPROCESSED, metavar="DATASET [TRAINING OPTIONS]..."
)
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Directory for the run directories."
)
@click.option(
    "--vary",
    multiple=True,
    type=Parsed("option=value value ...", _option_and_values),
    help="An option of dvae-train with its values; several options, separated by commas, share their values. "
    "Repeatable.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of seeds per setting: 0, 1, ...",
)
@click.option("--workers", type=click.IntRange(1), help="Number of runs at a time. [default: 1]")
@click.option(
    "--part",
    type=Parsed("k/n", _one_of_equal_parts),
    help="Run only the K-th of N parts of the grid, such as one part per computer.",
)
@click.option("--logz", "log_z", default="", metavar="OPTIONS", help="Options for dvae-eval logz.")
@click.option("--ll", "likelihood", default="", metavar="OPTIONS", help="Options for dvae-eval ll.")
@device_option
@scheduler_option("runs")
@click.option(
    "--dry-run", is_flag=True, help="Print the runs that would be made, and the time they take if it is known."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per run, one per line, instead of the table."
)
@common_options
def command(
    training: tuple[str, ...],
    out: Path,
    vary: tuple[tuple[str, list[str]], ...],
    seeds: int,
    workers: int | None,
    part: tuple[int, int] | None,
    log_z: str,
    likelihood: str,
    device: str,
    scheduler: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Train and measure a grid of models.

    \b
    Example:
      dvae-eval sweep --out sweeps/groups --vary "groups=1 2 4 8" --seeds 4 digits --epochs 50
      dvae-eval sweep --out sweeps/rbm --vary "left,right=8 16 32 64" mnist --epochs 20
      dvae-eval sweep --out sweeps/widths --vary "prior-hidden=100 400 100,100 400,400" mnist-static
      dvae-eval sweep --out sweeps/groups --vary "groups=1 2 4 8" --part 2/4 digits
      dvae-eval sweep --out sweeps/groups --vary "groups=1 2 4 8" --scheduler tcp://head:8786 digits
      dvae-eval sweep --out sweeps/groups --vary "groups=1 2 4 8" --json digits > runs.jsonl
      dvae-eval figure posterior-layers sweeps/groups/* -o figure6c.pdf

    The command trains a model for each combination of the values of --vary and each seed, estimates its log Z and
    log-likelihood, and prints one table of all runs. Arguments after the data set are passed to dvae-train.

    Run the same command again to continue, or with more values or seeds to extend the sweep; finished runs are
    skipped. The output of each run is in a hidden .log file beside its directory.
    """
    from dvae_eval.runtime.dask_cluster import cluster, cluster_size

    from ...runner import CONTINUE, CleanInterrupt
    from .grid import Runs, grid, measuring, refuse_other_settings, refuse_own_options
    from .progress import Watch

    refuse_both(workers, scheduler)
    varied = dict(vary)
    if len(varied) < len(vary):
        raise ConfigError("--vary: the same option is given twice; give all its values in one --vary")
    refuse_own_options(training, varied, click.get_current_context().command.params)
    points = grid(out, training, varied, range(seeds))
    for point in points:
        refuse_other_settings(point)
    options = {"logz": measuring("logz", log_z), "ll": measuring("ll", likelihood)}
    _refuse_other_measuring(out, options)
    chosen = points if part is None else points[part[0] :: part[1]]
    new_runs = partial(Runs, tuple(options["logz"]), tuple(options["ll"]), device, place=Path.cwd())
    with cluster(scheduler):
        watch = Watch(chosen, workers or (cluster_size() if scheduler else 1))
        if dry_run:
            return _print_plan(watch, as_json)
        _remember(out, options)
        try:
            _follow(_make_there(new_runs, watch) if scheduler else _make(new_runs, watch), watch)
        except KeyboardInterrupt as error:
            if as_json:
                _print_lines(watch)
            raise CleanInterrupt(f"interrupted; finished work is saved: {CONTINUE}") from error
    distrusted = _show(chosen, as_json)
    if as_json:
        _print_lines(watch)
    return FAILED if watch.failures else distrusted


def _follow(made: Generator[tuple[int, str]], watch: Watch) -> None:
    """Make the runs, with progress."""
    with watch.showing_progress(), closing(made):
        for i, failure in made:
            watch.run_ended(i, failure)


def _refuse_other_measuring(out: Path, options: dict[str, list[str]]) -> None:
    """Raise ConfigError if existing runs in `out` were measured with other options."""
    path = out / MANIFEST
    if path.exists() and path.read_text(encoding="utf-8") != _manifest(options):
        raise ConfigError(
            f"--logz, --ll: the runs in {out} were measured with other options; give the same ones, or another "
            "--out"
        )


def _remember(out: Path, options: dict[str, list[str]]) -> None:
    """Record the options of the measurements."""
    from dvae_core.io.files import write_text

    out.mkdir(parents=True, exist_ok=True)
    write_text(out / MANIFEST, _manifest(options))


def _manifest(options: dict[str, list[str]]) -> str:
    return json.dumps(options) + "\n"


def _make(new_runs: Callable[..., Runs], watch: Watch) -> Generator[tuple[int, str]]:
    """Make the runs that are not done, `watch.n_workers` at a time; yield (number, failure or "") as each ends."""
    from joblib import Parallel, delayed

    from ...console import is_quiet, say

    runs = new_runs(threads=max(1, (os.cpu_count() or 1) // watch.n_workers))

    # The threads below have no context, and so would print with --quiet, too.
    tell = (lambda words: None) if is_quiet() else say

    def make(i: int) -> tuple[int, str]:
        watch.run_begun(i)
        return i, runs.make(watch.points[i], tell)

    # Threads suffice: each waits for its own processes.
    jobs = Parallel(n_jobs=watch.n_workers, backend="threading", return_as="generator_unordered")
    try:
        yield from jobs(delayed(make)(i) for i in watch.pending)
    finally:
        runs.stop()


def _make_there(new_runs: Callable[..., Runs], watch: Watch) -> Generator[tuple[int, str]]:
    """Make the runs that are not done on the workers of the cluster; yield the same as `_make`."""
    from dvae_eval.runtime.pool import map_unordered

    from ...console import is_quiet
    from .grid import make_on_worker

    pending = watch.pending
    points = [watch.points[i] for i in pending]
    for i, failure in map_unordered(make_on_worker, (new_runs, is_quiet()), points):
        yield pending[i], failure


def _print_plan(watch: Watch, as_json: bool) -> int:
    """Print what would be done; return the exit status."""
    from .progress import plan_line, run_object

    if as_json:
        _print_lines(watch)
        return 0
    click.echo(plan_line(watch.states, watch.n_workers))
    for point in watch.points:
        click.echo(f"{point.name}: {run_object(point)['status']}")
    return 0


def _print_lines(watch: Watch) -> None:
    """Print one JSON object per run, one per line."""
    from .progress import run_object

    for i, point in enumerate(watch.points):
        failure = watch.failures.get(i, "").removeprefix(f"{point.name}: ")
        click.echo(json.dumps(run_object(point, failure), allow_nan=False))


def _show(points: list[Point], as_json: bool) -> int:
    """Print the table of measured runs unless JSON is printed; return the exit status for their verdicts."""
    from dvae_reports.results.loaded import load_results
    from dvae_reports.tables import make_tables

    from ...runner import NOT_TRUSTWORTHY
    from ..table import print_tables
    from .grid import is_measured

    measured = [one for point in points if is_measured(point) for one in load_results(point.directory)]
    likelihoods = [one for one in measured if one.result.kind == "ll"]
    if likelihoods and not as_json:
        print_tables(make_tables("results", likelihoods), "text")
    return 0 if all(one.result.trustworthy for one in measured) else NOT_TRUSTWORTHY
