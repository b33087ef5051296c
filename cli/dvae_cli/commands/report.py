"""dvae-eval report: one HTML page with all results of runs or of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ConfigError, DataError

from ..options import Place, common_options, file_options
from ..sections import Command
from ..standard_input import beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..outputs import Found, Output

PARTS_OF_RUNS = ("config.json", "model.pt", "checkpoint.pt", "metrics.jsonl")


@click.command("report", cls=Command)
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=Place("the directory of a run, or results of a machine", directory=True),
    metavar="RUN...|RESULT...",
)
@file_options("File to write. [default: report.html in the first RUN, or an .html file beside the first RESULT]")
@click.option(
    "--data",
    multiple=True,
    help="Present place of the training data, if they have moved. Repeatable, once per data set.",
)
@common_options
def command(runs: tuple[Path, ...], output: Path | None, data: tuple[str, ...], force: bool) -> None:
    """Write an HTML report on runs or on a machine.

    The page is a single file with all figures: what was measured, whether to trust it, and what to do next.

    \b
    Example:
      dvae-eval report runs/digits
      dvae-eval report runs/a runs/b -o comparison.html
      dvae-eval report logz.json observables.json samples.npz -o machine.html

    For each RUN, samples of its model are drawn if there are none yet; log Z and the log-likelihood are included
    if dvae-eval logz and ll have measured them. RESULTs are files from dvae-eval logz, observables and samples
    for the same machine, at most one of each.
    """
    if files := [run for run in runs if not run.is_dir()]:
        if len(files) < len(runs) or data:
            raise ConfigError("RESULT: results of a machine cannot be combined with runs or --data; omit these")
        return _on_machine(files, output, force)
    from dvae_reports.report.render import render_report
    from dvae_reports.results.run_directory import RunRecord

    from ..outputs import find_output

    place = find_output(output, force, runs[0] / "report.html")
    places = _places_of_data(runs, data)
    for run in runs:
        _draw_missing_samples(run, places.get(run))
    _write(render_report([RunRecord.load(run) for run in runs]), place)


def _on_machine(files: Sequence[Path], output: Path | None, force: bool) -> None:
    """Write the page on a machine from the files of its results."""
    from dvae_reports.report.machine import render_machine_report
    from dvae_reports.results.machine_record import MachineRecord

    from ..outputs import find_output

    for file in files:
        if file.name in PARTS_OF_RUNS and (file.parent / "config.json").exists():
            raise ConfigError(f"{file} is part of a run; give the run, {file.parent}")
    place = find_output(output, force, None if output else beside(files[0], f"{files[0].stem}.html"))
    _write(render_machine_report(MachineRecord.load(files)), place)


def _write(page: str, place: Output) -> None:
    """Write a page, and print its name."""
    from ..console import say
    from ..outputs import STANDARD_OUTPUT

    place = place.settle(lambda old: _found(old, page))
    place.write(page)
    if place.stream != STANDARD_OUTPUT:
        say(f"saved: {place}")


def _found(old: Path, page: str) -> Found:
    """Return the decision about an existing page."""
    from dvae_reports.report.contents import shows_as_much

    from ..outputs import Found

    if shows_as_much(page, old):
        return Found("replaced", is_repeat=True)
    return Found("kept", "has content that this page lacks")


def _places_of_data(runs: Sequence[Path], data: Sequence[str]) -> dict[Path, str]:
    """Return the place in `data` for each run that was trained on it; DataError if one belongs to no run."""
    from dvae_core.data import load
    from dvae_reports.results.run_directory import read_settings

    from ..console import is_quiet

    if not data:
        return {}
    digests = {run: read_settings(run / "config.json")[1].get("data_sha256") for run in runs}
    places = {load(place, quiet=is_quiet()).digest(): place for place in data}
    for digest, place in places.items():
        if digest not in digests.values():
            raise DataError(
                f"--data: {place} is not the training data of {' or '.join(map(str, runs))}; give the training "
                "data, or omit the option"
            )
    return {run: places[digest] for run, digest in digests.items() if digest in places}


def _draw_missing_samples(run: Path, data: str | None) -> None:
    """Draw samples of a run's model unless there are samples of this model already."""
    from dvae_core.io.files import sha256_file
    from dvae_eval.samples.grid import SampleGrid

    from ..console import say
    from ..outputs import find_output
    from .samples import make_samples

    model, samples = run / "model.pt", run / "samples.npz"
    if not model.exists():
        return
    if not samples.exists() or SampleGrid.load(samples).meta["model"]["sha256"] != sha256_file(model):
        say(f"drawing samples of {model}")
        make_samples(model, find_output(None, False, samples), seed=0, device="cpu", data=data)
