"""dvae-eval logz: the log partition function of a Boltzmann machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dvae_core.errors import ConfigError
from dvae_eval.config import LOG_Z_PRESETS, LogZConfig
from dvae_eval.readers import ReadConfig, read_trajectory

from ..options import (
    WIDE,
    FileOrName,
    ModelFile,
    common_options,
    compute_options,
    config_options,
    given,
    output_options,
    scheduler_option,
)
from ..runner import after_interrupt, ending_cleanly
from ..sections import Command

if TYPE_CHECKING:
    from ..many import Measurement


def _settings_shown(words: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of the preset that the help shows; empty without --preset."""
    return words.get("preset", ""), LOG_Z_PRESETS.get(words.get("preset", ""), {})


@click.command("logz", cls=Command, preset_of=_settings_shown)
@click.argument("models", metavar="MODEL...", type=ModelFile(), nargs=-1, required=True)
@click.option(
    "--preset",
    type=click.Choice(sorted(LOG_Z_PRESETS)),
    help="Named settings: paper = joint energies, random exchange, burn-in 0.5. Other options override them.",
)
@config_options(LogZConfig)
@config_options(ReadConfig)
@click.option(
    "--starts",
    metavar="FILE",
    type=FileOrName(),
    help="Start some replicates from these states of all units or of one side, 0/1 or -1/+1, or from codes of "
    "these images; or none. [default: codes of training images for the model.pt of a run, else none]",
)
@click.option(
    "--data",
    metavar="FILE|NAME",
    type=FileOrName(),
    help="Also report the mean log-likelihood of these data under an RBM over pixels: images, or states of one "
    "side.",
)
@click.option("--all-updates", is_flag=True, help="Measure every update in an archive, up to --update.")
@output_options("logz.json beside a run's model.pt")
@compute_options(
    "CPU threads, or processes with --repeats; the result does not depend on them. [default: all cores]"
)
@scheduler_option("--repeats")
@common_options
def command(
    models: tuple[Path, ...],
    preset: str | None,
    starts: str | None,
    data: str | None,
    all_updates: bool,
    as_json: bool,
    output: Path | None,
    force: bool,
    device: str,
    threads: int | None,
    scheduler: str | None,
    **settings: Any,
) -> int:
    """Estimate log Z of a Boltzmann machine, in nats.

    The result is exact where that is quick, else an estimate with a standard error; a verdict states whether to
    trust it.

    \b
    Example:
      dvae-eval logz runs/digits/model.pt
      dvae-eval logz rbm.npz --method pt-bar --precision 0.01 --json
      dvae-eval logz rbm.npz --starts data.npy
      dvae-eval logz runs/digits/model.pt --method pt-bar --preset paper --repeats 16
      dvae-eval logz runs/mnist/model.pt --repeats 100 --scheduler tcp://head:8786
      dvae-eval logz epoch1.npz epoch2.npz epoch3.npz --method pt-bar --path trajectory
      dvae-eval logz epoch*.npz --data mnist-static -o all.jsonl

    MODEL is a run, its model.pt, or a file with a Boltzmann machine: W with b_left and b_right, or J and b, in
    an npz, mat, safetensors, HDF5 or PyTorch file; an archive of the rbms package; a D-Wave
    GraphRestrictedBoltzmannMachine; a BernoulliRBM in a skops file; a dimod BQM; or a UAI model. The content
    decides the format; dvae-eval inspect MODEL shows how a file is read. log Z is in the convention of the file.

    With several files, or an archive and --all-updates, each machine is measured, and the results are printed as
    a table or, with --json, one per line. Machines of the same training start from states of the previous one,
    unless --starts none is given. A file that cannot be read is reported, and the others are measured.

    With --path trajectory, the path may follow the training of MODEL: through the saved priors of a run, the
    updates in an archive of the rbms package, or several files, oldest first. Only the last machine is measured.

    With an output file, the command can be stopped at any time: run it again to continue. A later command with a
    smaller --precision, more --sweeps or more --repeats continues from the existing result; if --output names it,
    add --force.
    """
    config = LogZConfig(**{**given(LogZConfig, settings), **_of_preset(preset)})
    if scheduler and config.n_repeats == 1:
        raise ConfigError("--scheduler: distributes repeats only; give --repeats as well, or omit the option")
    if all_updates and config.path == "trajectory":
        raise ConfigError("--all-updates: --path trajectory already reads all updates; omit one of the two")
    from dvae_eval.readers.data import read_rows
    from dvae_eval.runtime.dask_cluster import cluster

    from ..devices import prepare_device
    from ..many import Measurement, measure_all

    how, rows = ReadConfig(**given(ReadConfig, settings)), None if data is None else read_rows(data)
    what = Measurement(config, how, starts, rows, as_json, device, threads)
    if config.path == "trajectory" or (len(models) == 1 and not all_updates):
        return _measure_one(models, what, output, force, scheduler)
    prepare_device(device, threads, WIDE)
    with cluster(scheduler):
        return measure_all(models, all_updates, what, output, force)


def _measure_one(
    models: tuple[Path, ...], what: Measurement, output: Path | None, force: bool, scheduler: str | None
) -> int:
    """Measure the machine in the last file and print the result; return the exit status for its verdict."""
    from dvae_eval.runtime.dask_cluster import cluster

    from .. import inputs
    from ..details.log_z import details
    from ..devices import prepare_device
    from ..outputs import find_output
    from ..starts import find_starts

    config = what.config
    place = find_output(output, force, inputs.default_output(models[-1], what.name, what.as_json))
    place.hold()
    along = config.path == "trajectory"
    found, trajectory = (
        read_trajectory(models, what.how) if along else (inputs.read_model(models[0], what.how), None)
    )
    inputs.say_left_aside(found.description)
    inputs.check_data(what.data, found)
    states = find_starts(what.starts, models[-1], found)
    prepare_device(what.device, what.threads, len(found.machine.reduced().b))
    partial = inputs.unfinished(place, (config, _key(states)) if states else config)
    earlier = inputs.state_path(place.path) if place.path else None
    with ending_cleanly(lambda: f"interrupted; {after_interrupt(partial)}"), cluster(scheduler):
        result = inputs.estimate_with_progress(
            found.machine,
            config,
            found.description,
            what.device,
            threads=what.threads,
            partial=partial,
            finished=earlier,
            constant=found.constant,
            starts=states,
            trajectory=trajectory,
        )
    result = inputs.with_data(result, found, what.data, trajectory)
    inputs.say_unused_state(place.path, result)
    return inputs.finish(
        result,
        place,
        what.as_json,
        lambda: details(result),
        satellites=(inputs.STATE,),
        saved=lambda place: inputs.keep_state(partial, place),
    )


def _key(starts: Any) -> Any:
    """Return a key for the starts, so that estimates with other starts have another file of unfinished work."""
    return "codes" if callable(starts) else starts.source


def _of_preset(preset: str | None) -> dict[str, Any]:
    """Return the settings of the preset, without those that the user gave as options."""
    context = click.get_current_context()
    settings = LOG_Z_PRESETS[preset] if preset else {}
    was_given = {name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT}
    was_given |= {f.name for f in dataclasses.fields(LogZConfig) if f.metadata.get("formerly") in was_given}
    return {name: value for name, value in settings.items() if name not in was_given}
