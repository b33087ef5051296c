"""dvae-eval convert: write a Boltzmann machine in another file format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dvae_eval.readers import ReadConfig

from ..options import OUTPUT, ModelFile, common_options, config_options, given
from ..sections import Command


@click.command("convert", cls=Command)
@click.argument("source", type=ModelFile())
@click.argument("target", type=OUTPUT)
@config_options(ReadConfig)
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
@common_options
def command(source: Path, target: Path, force: bool, **settings: Any) -> None:
    """Convert a Boltzmann machine to another file format.

    SOURCE is anything that dvae-eval logz reads; TARGET is an .npz, .safetensors, .mat or .uai file.

    \b
    Example:
      dvae-eval convert runs/digits/model.pt prior.uai
      dvae-eval convert ising.bqm machine.npz

    TARGET has units 0 and 1, and a constant with which log Z is the same as in the convention of SOURCE.
    """
    from dvae_eval.readers.write import write_machine

    from ..console import say
    from ..inputs import read_model, say_left_aside
    from ..outputs import find_output

    place = find_output(target, force, option="TARGET", text=False)
    found = read_model(source, ReadConfig(**given(ReadConfig, settings)))
    say_left_aside(found.description)
    for assumed in found.description.get("assumed", []):
        say(f"read with {assumed}")
    write_machine(place.path or target, found.machine, found.constant)
    say(f"saved: {target}")
