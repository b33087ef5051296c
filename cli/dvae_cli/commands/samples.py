"""dvae-eval samples: pictures of what a model has learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ResultError

from ..options import FORCE, OUTPUT, ModelFile, common_options, compute_options
from ..own_data import load_own_data

if TYPE_CHECKING:
    from dvae_eval.samples.grid import SampleGrid

    from ..outputs import Found, Output

__all__ = ["command", "make_samples"]

N_RECONSTRUCTIONS = 20


@click.command("samples")
@click.argument("model", type=ModelFile())
@click.option(
    "--data", help="Where the data of the training lie now, if they have moved. [default: where they were]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes the pictures.")
@click.option("--output", "-o", type=OUTPUT, help="[default: samples.npz beside MODEL]")
@click.option("--force", is_flag=True, help=FORCE)
@compute_options("CPU threads. [default: one]")
@common_options
def command(
    model: Path,
    data: str | None,
    seed: int,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Draw samples of MODEL as in Figure 5 of the paper, and reconstruct test images, into an npz file.

    \b
    Example:
      dvae-eval samples runs/digits/model.pt
    """
    from ..console import say
    from ..devices import prepare_device
    from ..outputs import find_output

    place = find_output(output, force, model.with_name("samples.npz"), text=False)
    prepare_device(device, threads, 0)
    say(f"saved: {make_samples(model, place, seed, device, quiet, data)}", quiet)


def make_samples(model: Path, place: Output, seed: int, device: str, quiet: bool, data: str | None = None) -> Path:
    """Draw the pictures of the model at `model`; return where they were written to, after no better ones' loss.

    `data` is where the data set of the training lies now, if it has moved.
    """
    from dvae_eval.samples.draw import draw_sample_grid

    from ..inputs import command_line, load_own_model

    trained = load_own_model(model, device)
    images = load_own_data(trained.config.dataset, data, trained.provenance, quiet).fixed("test")
    # Evenly spread, since test sets may be sorted by class.
    spread = [i * len(images) // N_RECONSTRUCTIONS for i in range(N_RECONSTRUCTIONS)]
    grid = draw_sample_grid(trained, images[sorted(set(spread))], seed=seed)
    grid = replace(grid, meta={**grid.meta, "command": command_line()})
    path = place.settle(lambda path: _found(path, grid), quiet).path
    assert path is not None  # there is a default
    grid.save(path)
    return path


def _found(path: Path, grid: SampleGrid) -> Found:
    """Return what is to happen to samples that are there."""
    from dvae_eval.samples.grid import SampleGrid

    from ..outputs import Found, judge_by_model

    try:
        old = SampleGrid.load(path)
    except ResultError:
        return Found("moved", "cannot be read as samples")
    if grid.supersedes(old):
        return Found("replaced", is_repeat=grid.meta["seed"] == old.meta.get("seed"))
    return judge_by_model(path, old.meta["model"], grid.meta["model"], "holds more samples, or others")
