"""dvae-eval report: one HTML page that says what was measured, and shows it."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import common_options, output_path

__all__ = ["command"]


@click.command("report")
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="RUN...",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="[default: report.html in the first RUN]",
)
@click.option("--force", is_flag=True, help="Overwrite the file that --output names.")
@common_options
def command(runs: tuple[Path, ...], output: Path | None, force: bool, quiet: bool, debug: bool) -> None:
    """Write a self-contained HTML page on one or several training runs and what was measured on them.

    \b
    Example:
      dvae-eval report runs/digits
      dvae-eval report runs/a runs/b -o comparison.html

    Samples are drawn if there are none of the run's model yet; log Z and log-likelihood are shown if
    dvae-eval logz and ll have measured them.
    """
    from dvae_core.io.files import write_text
    from dvae_reports.report.render import render_report
    from dvae_reports.results.run_directory import RunRecord

    from ..console import say

    path = output_path(output, force, runs[0] / "report.html")
    for run in runs:
        _draw_missing_samples(run, quiet)
    page = render_report([RunRecord.load(run) for run in runs])
    if path:
        write_text(path, page)
        say(f"saved: {path}", quiet)


def _draw_missing_samples(run: Path, quiet: bool) -> None:
    """Draw samples of a run's model unless there are some of that very model."""
    from dvae_core.io.files import sha256_file
    from dvae_eval.samples.grid import SampleGrid

    from ..console import say
    from .samples import make_samples

    model, samples = run / "model.pt", run / "samples.npz"
    if not model.exists():
        return
    if not samples.exists() or SampleGrid.load(samples).meta["model"]["sha256"] != sha256_file(model):
        say(f"drawing samples of {model}", quiet)
        make_samples(model, samples, seed=0, device="cpu")
