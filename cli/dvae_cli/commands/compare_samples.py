"""dvae-eval compare-samples: check samples made elsewhere against a Boltzmann machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import DataError
from dvae_core.text import estimate, fixed, plain
from dvae_eval.comparison.config import CompareConfig
from dvae_eval.readers import ReadConfig

from ..options import ModelFile, Place, common_options, compute_options, config_options, given, output_options
from ..runner import ending_cleanly
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.results import ComparisonResult

FEW = 3  # deviations, and basins, that are printed


@click.command("compare-samples", cls=Command)
@click.argument("model", type=ModelFile())
@click.argument("samples", type=Place("a file of samples", directory=False))
@click.option(
    "--classes",
    type=Place("a file of integers", directory=False),
    help="File with one integer per read, such as its number of broken chains: also report β and the energy of "
    "each class.",
)
@config_options(CompareConfig)
@config_options(ReadConfig)
@output_options("none; give --output or --json to keep the result")
@compute_options("CPU threads; the result does not depend on them. [default: all cores]")
@common_options
def command(
    model: Path,
    samples: Path,
    classes: Path | None,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Check samples made elsewhere against a machine.

    The command reports whether SAMPLES follow the Boltzmann distribution of MODEL, and at which β.

    \b
    Example:
      dvae-eval compare-samples ising.bqm reads.json -o comparison.json
      dvae-eval compare-samples rbm.npz states.npz --classes broken.txt
      dvae-eval figure comparison comparison.json -o comparison.pdf

    SAMPLES are independent reads of all units, 0 and 1 or -1 and +1: an npz file with states, or with v_samples
    and h_samples, and possibly occurrences or weights; npy; CSV, with or without labels; a dimod SampleSet in
    JSON. MODEL is anything that dvae-eval logz reads.

    The result has the effective β by energy and by pseudo-likelihood, bounds on KL(samples || machine),
    deviations of the energy, of units and of pairs, and the weights of the machine's basins. Exit status 3: the
    samples follow the Boltzmann distribution of this machine at no β, or the machine's own averages may be
    wrong.
    """
    config = CompareConfig(**given(CompareConfig, settings))
    from dvae_eval.comparison.compare_samples import compare_samples
    from dvae_eval.readers.samples import read_classes, read_samples

    from ..console import EstimateProgress
    from ..inputs import finish, open_machine
    from ..outputs import find_output

    place = find_output(output, force)
    place.hold()
    reading = open_machine(model, settings, device, threads)
    found = read_samples(samples)
    classes_of = None if classes is None else read_classes(classes, len(found.states))
    again = "interrupted; nothing was saved, run the same command to start again"
    try:
        with ending_cleanly(lambda: again), EstimateProgress("log Z") as progress:
            result = compare_samples(
                reading,
                found.states,
                found.weights,
                config,
                labels=found.labels,
                classes=classes_of,
                source=found.source,
                device=device,
                threads=threads,
                progress=progress,
            )
    except DataError as error:
        raise error if str(samples) in str(error) else DataError(f"{samples}: {error}") from error
    return finish(result, place, as_json, lambda: _details(result))


def _details(result: ComparisonResult) -> list[str]:
    """Return lines to print: energies, KL, deviations, basins and classes."""
    low, high = (fixed(bound, 3) for bound in result.entropy)
    lines = [f"{result.n_reads:.5g} reads, {result.n_distinct} distinct; entropy {low} ... {high} nats"]
    for at in filter(None, (result.at_one, result.at_beta)):
        low, high = (fixed(bound, 3) for bound in at["kl"])
        energies = [
            estimate(*pair)
            for pair in ((result.energy, result.energy_std_err), (at["energy"], at["energy_std_err"]))
        ]
        lines.append(
            f"β = {fixed(at['beta'], 3)}: <E> = {energies[0]}, machine {energies[1]}; KL = {low} ... {high} nats"
        )
        for one in at["deviations"][:FEW]:
            what = "unit" if len(one["units"]) == 1 else "pair"
            values = f"{one['samples']:.4g}, machine {one['machine']:.4g}"
            lines.append(f"  {what} {', '.join(one['names'])}: {values} ({one['z']:+.1f} errors)")
    for k, basin in enumerate(result.basins[:FEW], 1):
        weights = [estimate(basin[name], basin[f"{name}_std_err"]) for name in ("samples", "machine")]
        lines.append(f"basin {k}: weight {weights[0]}, machine {weights[1]}")
    for one in result.classes:
        betas = [estimate(one[name], one[f"{name}_std_err"]) for name in ("beta_energy", "beta_pl")]
        energy = estimate(one["energy"], one["energy_std_err"])
        lines.append(
            f"class {one['class']}: {one['n_reads']:.5g} reads, <E> = {energy}, "
            f"β = {betas[0]} by energy, {betas[1]} by pseudo-likelihood"
        )
    return [plain(line) for line in lines]
