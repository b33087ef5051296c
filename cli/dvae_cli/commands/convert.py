"""dvae-eval convert: a Boltzmann machine from one file format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dvae_eval.readers import ReadConfig

from ..options import common_options, config_options, given, output_path

__all__ = ["command"]


@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@config_options(ReadConfig)
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
@common_options
def command(source: Path, target: Path, force: bool, quiet: bool, debug: bool, **settings: Any) -> None:
    """Write the Boltzmann machine in SOURCE to TARGET, an .npz, .safetensors, .mat or .uai file.

    \b
    Example:
      dvae-eval convert runs/digits/model.pt prior.uai
      dvae-eval convert ising.bqm machine.npz

    SOURCE is whatever dvae-eval logz reads. TARGET has units 0 and 1, and the constant that keeps log Z what it
    is in SOURCE's own convention.
    """
    from dvae_eval.readers import read_machine
    from dvae_eval.readers.write import write_machine

    from ..console import say

    output_path(target, force, None, "TARGET")
    found = read_machine(source, ReadConfig(**given(ReadConfig, settings)))
    write_machine(target, found.machine, found.constant)
    say(f"saved: {target}", quiet)
