"""dvae-eval samples: pictures of what a model has learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..options import common_options, compute_options, output_path

__all__ = ["command", "make_samples"]

N_RECONSTRUCTIONS = 20


@click.command("samples")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Fixes the pictures.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="[default: samples.npz beside MODEL]"
)
@click.option("--force", is_flag=True, help="Overwrite the file that --output names.")
@compute_options("CPU threads. [default: one]")
@common_options
def command(
    model: Path,
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

    path = output_path(output, force, model.with_name("samples.npz"))
    prepare_device(device, threads, 0)
    if path:
        make_samples(model, path, seed, device)
        say(f"saved: {path}", quiet)


def make_samples(model: Path, path: Path, seed: int, device: str) -> None:
    """Draw the pictures of the model at `model` and write them to `path`."""
    from dvae_core.data import load
    from dvae_core.training.checkpoint import load_model
    from dvae_eval.samples.draw import draw_sample_grid

    from ..inputs import command_line

    trained = load_model(model, device)
    images = load(trained.config.dataset).fixed("test")
    # Evenly spread, since test sets may be sorted by class.
    spread = [i * len(images) // N_RECONSTRUCTIONS for i in range(N_RECONSTRUCTIONS)]
    grid = draw_sample_grid(trained, images[sorted(set(spread))], seed=seed)
    replace(grid, meta={**grid.meta, "command": command_line()}).save(path)
