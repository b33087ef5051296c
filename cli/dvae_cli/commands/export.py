"""dvae-eval export: a result or samples for other programs, as netCDF for ArviZ or as a table in CSV."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ConfigError

from ..options import OUTPUT, Place, common_options
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import Result
    from dvae_eval.states.sampled import SampledStates

SUFFIXES = {".nc": "netcdf", ".csv": "csv"}


@click.command("export", cls=Command)
@click.argument("file", type=Place("a result file or samples"))
@click.option("--output", "-o", required=True, type=OUTPUT, help="A .nc or .csv; - prints CSV.")
@click.option("--format", type=click.Choice(("netcdf", "csv")), help="[default: as --output ends]")
@click.option("--force", is_flag=True, help="Overwrite the file that --output names.")
@common_options
def command(file: Path, output: Path, format: str | None, force: bool, quiet: bool, debug: bool) -> None:
    """Write FILE, a result or samples of a machine, for other programs.

    \b
    Example:
      dvae-eval export states.npz -o states.nc
      dvae-eval export logz.json -o replicates.csv

    netCDF has the groups of ArviZ, a chain for each replicate, and is made of samples (dvae-eval samples) and of
    estimates of log Z; it needs the extra arviz. CSV has a line for each of what FILE is made of, such as states,
    replicates, images or inverse temperatures; it needs the extra pandas.
    """
    from ..console import say
    from ..outputs import find_output

    kind = _kind(output, format)
    place = find_output(output, force, text=kind == "csv")
    found = _load(file)
    if kind == "csv":
        content: str | bytes = found.to_frame().to_csv(index=False)
    else:
        from dvae_eval.states.chains import netcdf_bytes, to_arviz

        content = netcdf_bytes(to_arviz(found))
    place.write(content)
    if not found.trustworthy:
        say(f"NOT TO BE TRUSTED: {found}", quiet)
    if place.path:
        say(f"saved: {place}", quiet)


def _kind(output: Path, format: str | None) -> str:
    """Return the format that was asked for, or that a file's name says."""
    if format is None and str(output) == "-":
        return "csv"
    if format is None and output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output: {output} does not say its format; end it with .nc or .csv, or --format")
    return format or SUFFIXES[output.suffix.lower()]


def _load(file: Path) -> Result | SampledStates:
    """Return what a file holds: a zip archive is samples, all else a result."""
    if zipfile.is_zipfile(file):
        from dvae_eval.states.sampled import load_states

        return load_states(file)
    from dvae_eval.results import load_result

    return load_result(file)
