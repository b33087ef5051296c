"""dvae-eval export: write a result or samples as netCDF for ArviZ, or as CSV."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ConfigError

from ..options import Place, common_options, file_options
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import Result
    from dvae_eval.states.sampled import SampledStates

SUFFIXES = {".nc": "netcdf", ".csv": "csv"}


@click.command("export", cls=Command)
@click.argument("file", type=Place("a result file or samples"))
@file_options("A .nc or .csv file; - prints CSV.", required=True)
@click.option(
    "--format", type=click.Choice(("netcdf", "csv")), help="File format. [default: from the suffix of --output]"
)
@common_options
def command(file: Path, output: Path, format: str | None, force: bool) -> None:
    """Export a result or samples to netCDF or CSV.

    \b
    Example:
      dvae-eval export states.npz -o states.nc
      dvae-eval export logz.json -o replicates.csv

    FILE is a result, or samples from dvae-eval samples.

    netCDF is for samples and for estimates of log Z. It has the groups of ArviZ, with one chain per replicate, and
    needs arviz: pip install 'dvae-toolkit[arviz]'. CSV has one line per element of the result, such as a state, a
    replicate, an image or an inverse temperature, and needs pandas: pip install 'dvae-toolkit[pandas]'.
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
        say(f"NOT TO BE TRUSTED: {found}")
    if place.path:
        say(f"saved: {place}")


def _kind(output: Path, format: str | None) -> str:
    """Return the format from the option, else from the suffix of the file; ConfigError if neither names one."""
    if format is None and str(output) == "-":
        return "csv"
    if format is None and output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output: {output} has no known suffix; end it in .nc or .csv, or give --format")
    return format or SUFFIXES[output.suffix.lower()]


def _load(file: Path) -> Result | SampledStates:
    """Return the content of a file: samples if it is a zip archive, else a result."""
    if zipfile.is_zipfile(file):
        from dvae_eval.states.sampled import load_states

        return load_states(file)
    from dvae_eval.results import load_result

    return load_result(file)
