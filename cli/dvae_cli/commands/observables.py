"""dvae-eval observables: energy, specific heat, entropy, magnetisation and correlations of a Boltzmann machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import ConfigError
from dvae_core.io.files import remove_file
from dvae_core.text import estimate, plain
from dvae_eval.config import ObservablesConfig
from dvae_eval.readers import ReadConfig

from ..options import (
    OUTPUT,
    ModelFile,
    common_options,
    compute_options,
    config_options,
    given,
    output_options,
)
from ..runner import after_interrupt, ending_cleanly
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import ObservablesResult

    from ..outputs import Output

# With more inverse temperatures than this, no line per temperature is printed.
MOST_LINES = 40


@click.command("observables", cls=Command)
@click.argument("model", type=ModelFile())
@config_options(ObservablesConfig)
@config_options(ReadConfig)
@click.option("--csv", type=OUTPUT, help="Also write a table with one line per β to this file.")
@output_options("observables.json beside a run's model.pt")
@compute_options("CPU threads; the result does not depend on them. [default: all cores]")
@common_options
def command(
    model: Path,
    csv: Path | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Estimate energy, entropy and correlations.

    These are averages over the machine of MODEL at β = 1 and at other β, each with its standard error, and a
    verdict on all of them.

    \b
    Example:
      dvae-eval observables ising.npz --units pm1 --betas 0.1:2:20 --csv ising.csv
      dvae-eval observables rbm.npz --json
      dvae-eval observables runs/digits/model.pt --betas 0.5,1,2 -o o.json
      dvae-eval figure observables o.json -o o.pdf

    MODEL is anything that dvae-eval logz reads. Its distribution is p(x) ∝ exp(-β E(x)), where the energy E
    follows the convention of the file, with its units and its constant.

    The result has the mean energy, specific heat, entropy, log Z, magnetisation, and correlations of coupled
    pairs. They are exact where log Z is exact; elsewhere the standard errors come from the spread of independent
    replicates.

    With an output file, the command can be stopped at any time: run it again to continue.
    """
    config = ObservablesConfig(**given(ObservablesConfig, settings))
    from dvae_eval.observables.estimate_observables import estimate_observables

    from ..console import EstimateProgress
    from ..inputs import default_output, finish, open_machine, unfinished
    from ..outputs import find_output

    place = find_output(output, force, default_output(model, "observables.json", as_json))
    table = find_output(csv, force, option="--csv")
    if table.stream is not None:
        raise ConfigError(f"--csv: {csv} is not a file; give the name of a file (--json prints the whole result)")
    place.hold()
    found = open_machine(model, settings, device, threads)
    partial = unfinished(place, config)
    with (
        ending_cleanly(lambda: f"interrupted; {after_interrupt(partial)}"),
        EstimateProgress("log Z at the largest β") as progress,
    ):
        result = estimate_observables(
            found.machine,
            config,
            description=found.description,
            device=device,
            threads=threads,
            progress=progress,
            partial=partial,
            constant=found.constant,
        )
    table.write(result.to_csv())

    def saved(_place: Output) -> None:
        if partial:
            remove_file(partial)

    return finish(result, place, as_json, lambda: _details(result), saved=saved)


def _details(result: ObservablesResult) -> list[str]:
    """Return lines to print: log Z, and the averages at each β."""
    lines = [plain(f"log Z = {estimate(result.log_z, result.log_z_std_err)} nats")]
    along = result.along_beta
    if 1 < len(along["beta"]) <= MOST_LINES:
        for k, beta in enumerate(along["beta"]):
            parts = [
                f"{word} = {estimate(along[name][k], along[f'{name}_std_err'][k])}"
                for word, name in (("<E>", "energy"), ("C", "specific_heat"), ("S", "entropy"), ("log Z", "log_z"))
            ]
            lines.append(plain(f"β = {beta:<8.5g} {', '.join(parts)}"))
    return lines
