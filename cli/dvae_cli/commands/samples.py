"""dvae-eval samples: states of a Boltzmann machine, or images from a trained model."""

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

from ..options import ModelFile, common_options, compute_options, config_options, file_options
from ..own_data import load_own_data
from ..sections import Command
from ..standard_input import beside, named

if TYPE_CHECKING:
    from dvae_eval.samples.grid import SampleGrid

    from ..outputs import Found, Output

N_RECONSTRUCTIONS = 20
IMAGES = ("image_rows", "chains", "draws", "reconstructions", "data")
SHARED = ("n", "seed")  # options for states and for images


@click.command("samples", cls=Command)
@click.argument("model", type=ModelFile())
@config_options(StatesConfig)
@config_options(ReadConfig)
@click.option(
    "--format", type=click.Choice(FORMATS), help="Format of the states. [default: from the suffix of --output]"
)
@click.option("--image-rows", type=click.IntRange(1), default=8, show_default=True, help="Rows of images.")
@click.option("--chains", type=click.IntRange(1), default=4, show_default=True, help="Chains per row of images.")
@click.option("--draws", type=click.IntRange(1), default=5, show_default=True, help="Images per state of a chain.")
@click.option(
    "--reconstructions",
    type=click.IntRange(1),
    default=N_RECONSTRUCTIONS,
    show_default=True,
    help="Number of test images to reconstruct.",
)
@click.option(
    "--data", help="Present place of the training data, if they have moved. [default: their former place]"
)
@file_options(
    "File to write; required for states. [default: samples.npz beside a run's model.pt, for images]",
    keeps_better=True,
)
@compute_options(
    "CPU threads; the result does not depend on them. [default: one for images, all cores for states]"
)
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
    **settings: Any,
) -> int:
    """Draw samples of a machine or a trained model.

    \b
    Example:
      dvae-eval samples ising.bqm --n 1000 --seed 0 -o states.npz
      dvae-eval samples rbm.npz --n 1000 --clamp held.txt --best -o states.csv
      dvae-eval samples runs/digits/model.pt
      dvae-eval samples runs/digits/model.pt --n 1000 -o prior.npz

    For a machine that dvae-eval logz reads, the samples are states of all its units, in the order, values and
    labels of its file. They are independent where log Z can be computed exactly; elsewhere they come from
    parallel tempering, with a verdict. An npz file has the array states (n, n_units), labels, log-probabilities
    and the checks; CSV has a line of labels and one line per state; the JSON of a dimod SampleSet needs dimod.

    For a run, the samples are images as in Figure 5 of the paper and reconstructions of test images, saved with
    their latents. With --n, they are states of its prior instead.
    """
    from ..console import say
    from ..devices import prepare_device
    from ..inputs import is_own_model
    from ..outputs import find_output

    if not _was_given("n") and is_own_model(model):
        _refuse_given(
            [*settings, "format"], "is for states; give --n to draw states of the run's prior, or omit the option"
        )
        place = find_output(output, force, None if output else beside(model, "samples.npz"), text=False)
        prepare_device(device, threads, 0)
        sizes = {"n_rows": image_rows, "n_chains": chains, "n_draws": draws}
        path = make_samples(model, place, settings["seed"], device, data, reconstructions, sizes)
        say(f"saved: {path}")
        return 0
    _refuse_given(IMAGES, "is for images of a run; omit the option")
    from ..draw_states import draw_states

    return draw_states(model, output, format, force, device, threads, settings)


def _was_given(name: str) -> bool:
    """Return whether the user gave an option."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source != ParameterSource.DEFAULT


def _refuse_given(names: Iterable[str], why: str) -> None:
    """Raise ConfigError for the first of these options that the user gave."""
    for name in names:
        if name not in SHARED and _was_given(name):
            raise ConfigError(f"{option_name(name)}: {why}")


def make_samples(
    model: Path,
    place: Output,
    seed: int,
    device: str,
    data: str | None = None,
    n_images: int = N_RECONSTRUCTIONS,
    sizes: dict[str, int] | None = None,
) -> Path:
    """Draw images of the model at `model`; return the file, in which they replace no better ones.

    `data` is the present place of the training data, if they have moved; `sizes` goes to `draw_sample_grid`.
    """
    from dvae_eval.samples.draw import draw_sample_grid

    from ..inputs import command_line, load_own_model

    trained = load_own_model(model, device)
    images = load_own_data(trained.config.dataset, data, trained.provenance).fixed("test")
    # Evenly spread: test sets may be sorted by class.
    spread = [i * len(images) // n_images for i in range(n_images)]
    grid = draw_sample_grid(trained, images[sorted(set(spread))], seed=seed, **(sizes or {}))
    grid = replace(grid, meta=named({**grid.meta, "command": command_line()}))
    path = place.settle(lambda path: _found(path, grid)).path
    assert path is not None  # there is a default
    grid.save(path)
    return path


def _found(path: Path, grid: SampleGrid) -> Found:
    """Return the decision about existing samples."""
    from dvae_eval.samples.grid import SampleGrid

    from ..outputs import Found, judge_by_model

    try:
        old = SampleGrid.load(path)
    except ResultError:
        return Found("moved", "cannot be read as samples")
    if grid.supersedes(old):
        return Found("replaced", is_repeat=grid.meta["seed"] == old.meta.get("seed"))
    return judge_by_model(path, old.meta["model"], grid.meta["model"], "holds more or other samples")
