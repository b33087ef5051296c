"""dvae-eval samples: states of a Boltzmann machine, or pictures of what a model has learned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dvae_core.config import option_name
from dvae_core.errors import ConfigError, ResultError
from dvae_eval.readers import ReadConfig
from dvae_eval.states.config import FORMATS, StatesConfig

from ..options import FORCE, OUTPUT, ModelFile, common_options, compute_options, config_options
from ..own_data import load_own_data
from ..sections import Command
from ..standard_input import beside, named

if TYPE_CHECKING:
    from dvae_eval.samples.grid import SampleGrid

    from ..outputs import Found, Output

N_RECONSTRUCTIONS = 20
PICTURES = ("image_rows", "chains", "draws", "reconstructions", "data")
SHARED = ("n", "seed")  # by states and pictures


@click.command("samples", cls=Command)
@click.argument("model", type=ModelFile())
@config_options(StatesConfig)
@config_options(ReadConfig)
@click.option("--format", type=click.Choice(FORMATS), help="Of the states. [default: as --output ends]")
@click.option("--image-rows", type=click.IntRange(1), default=8, show_default=True, help="Rows of pictures.")
@click.option(
    "--chains", type=click.IntRange(1), default=4, show_default=True, help="Chains in a row of pictures."
)
@click.option(
    "--draws", type=click.IntRange(1), default=5, show_default=True, help="Pictures of each chain's state."
)
@click.option(
    "--reconstructions",
    type=click.IntRange(1),
    default=N_RECONSTRUCTIONS,
    show_default=True,
    help="Test images that are reconstructed.",
)
@click.option(
    "--data", help="Where the data of the training lie now, if they have moved. [default: where they were]"
)
@click.option("--output", "-o", type=OUTPUT, help="[default: samples.npz beside a run's model.pt, for pictures]")
@click.option("--force", is_flag=True, help=FORCE)
@compute_options("CPU threads; they change no state. [default: one for pictures, all cores for states]")
@common_options
def command(
    model: Path,
    format: str | None,
    image_rows: int,
    chains: int,
    draws: int,
    reconstructions: int,
    data: str | None,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    debug: bool,
    **settings: Any,
) -> int:
    """Draw samples of MODEL: states of a Boltzmann machine, or pictures of what a run has learned.

    \b
    Example:
      dvae-eval samples ising.bqm --n 1000 --seed 0 -o states.npz
      dvae-eval samples rbm.npz --n 1000 --clamp held.txt --best -o states.csv
      dvae-eval samples runs/digits/model.pt
      dvae-eval samples runs/digits/model.pt --n 1000 -o prior.npz

    Of any machine that dvae-eval logz reads, states of all units are drawn, in its own order, values and labels:
    independent ones where log Z can be had exactly, else states of a run of parallel tempering, with a verdict.
    An npz file has the array states (n, n_units), labels, log-probabilities and the checks; CSV has a line of
    labels and a line for each state; dimod's SampleSet, in JSON, needs dimod.

    Of a run, pictures are drawn as in Figure 5 of the paper, test images are reconstructed, and the latents are
    kept, unless --n asks for states of its prior.
    """
    from ..console import say
    from ..devices import prepare_device
    from ..inputs import is_own_model
    from ..outputs import find_output

    if not _was_given("n") and is_own_model(model):
        _refuse_given(
            [*settings, "format"], "is for states; give --n for those of the run's prior, or leave it out"
        )
        place = find_output(output, force, None if output else beside(model, "samples.npz"), text=False)
        prepare_device(device, threads, 0)
        sizes = {"n_rows": image_rows, "n_chains": chains, "n_draws": draws}
        path = make_samples(model, place, settings["seed"], device, quiet, data, reconstructions, sizes)
        say(f"saved: {path}", quiet)
        return 0
    _refuse_given(PICTURES, "is for pictures of a run; leave it out")
    from ..draw_states import draw_states

    return draw_states(model, output, format, force, device, threads, quiet, settings)


def _was_given(name: str) -> bool:
    """Return whether an option was given."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source != ParameterSource.DEFAULT


def _refuse_given(names: Iterable[str], why: str) -> None:
    """Raise ConfigError for the first of these options that was given."""
    for name in names:
        if name not in SHARED and _was_given(name):
            raise ConfigError(f"{option_name(name)}: {why}")


def make_samples(
    model: Path,
    place: Output,
    seed: int,
    device: str,
    quiet: bool,
    data: str | None = None,
    n_images: int = N_RECONSTRUCTIONS,
    sizes: dict[str, int] | None = None,
) -> Path:
    """Draw the pictures of the model at `model`; return where they were written to, after no better ones' loss.

    `data` is where the data set of the training lies now, if it has moved; `sizes` go to `draw_sample_grid`.
    """
    from dvae_eval.samples.draw import draw_sample_grid

    from ..inputs import command_line, load_own_model

    trained = load_own_model(model, device)
    images = load_own_data(trained.config.dataset, data, trained.provenance, quiet).fixed("test")
    # Evenly spread, since test sets may be sorted by class.
    spread = [i * len(images) // n_images for i in range(n_images)]
    grid = draw_sample_grid(trained, images[sorted(set(spread))], seed=seed, **(sizes or {}))
    grid = replace(grid, meta=named({**grid.meta, "command": command_line()}))
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
