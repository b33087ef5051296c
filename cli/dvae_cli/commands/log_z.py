"""dvae-eval logz: the log partition function of a Boltzmann machine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from dvae_core.errors import ConfigError
from dvae_core.text import decimals, error_text, fixed, plain, signed
from dvae_eval.config import LOG_Z_PRESETS, LogZConfig
from dvae_eval.readers import ReadConfig, Reading, read_trajectory

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
from ..runner import CleanInterrupt, after_interrupt
from ..sections import Command

if TYPE_CHECKING:
    from dvae_eval.readers.data import Rows
    from dvae_eval.results import LogZResult
    from dvae_eval.trajectory import Trajectory


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
    quiet: bool,
    debug: bool,
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
    from dvae_eval.runtime.dask_cluster import cluster

    from ..devices import prepare_device
    from ..inputs import (
        STATE,
        check_data,
        command_line,
        default_output,
        estimate_with_progress,
        finish,
        keep_state,
        say_left_aside,
        say_unused_state,
        settle,
        state_path,
        unfinished,
        with_data,
    )
    from ..outputs import find_output
    from ..starts import find_starts

    how, rows = ReadConfig(**given(ReadConfig, settings)), _rows(data)
    if config.path != "trajectory" and (len(models) > 1 or all_updates):
        from ..many import Measurement, measure_all

        prepare_device(device, threads, WIDE)
        what = Measurement(config, how, starts, rows, as_json, device, threads, quiet)
        with cluster(scheduler):
            return measure_all(models, all_updates, what, output, force)
    name = "logz-clamped.json" if settings["clamp"] else "logz.json"
    place = find_output(output, force, default_output(models[-1], name, as_json))
    place.hold()
    found, trajectory = _read(models, how, config.path)
    say_left_aside(found.description, quiet)
    check_data(rows, found)
    states = find_starts(starts, models[-1], found, quiet)
    prepare_device(device, threads, len(found.machine.reduced().b))
    partial = unfinished(place, (config, _key(states)) if states else config)
    earlier = state_path(place.path) if place.path else None
    try:
        with cluster(scheduler):
            result = estimate_with_progress(
                found.machine,
                config,
                found.description,
                device,
                quiet,
                threads=threads,
                partial=partial,
                finished=earlier,
                constant=found.constant,
                starts=states,
                trajectory=trajectory,
            )
    except KeyboardInterrupt:
        raise CleanInterrupt(f"interrupted; {after_interrupt(partial)}") from None
    result = with_data(dataclasses.replace(result, command=command_line()), found, rows, trajectory)
    say_unused_state(place.path, result, quiet)
    place = settle(place, result, quiet, (STATE,))
    return finish(
        result, place, as_json, quiet, lambda: _details(result), lambda: keep_state(partial, place, quiet)
    )


def _key(starts: Any) -> Any:
    """Return a key for the starts, so that estimates with other starts have another file of unfinished work."""
    return "codes" if callable(starts) else starts.source


def _read(models: tuple[Path, ...], how: ReadConfig, path: str) -> tuple[Reading, Trajectory | None]:
    """Return the machine to measure and, for --path trajectory, its training."""
    from ..inputs import read_model

    if path == "trajectory":
        return read_trajectory(models, how)
    return read_model(models[0], how), None


def _rows(data: str | None) -> Rows | None:
    """Return the data of --data."""
    from dvae_eval.readers.data import read_rows

    return None if data is None else read_rows(data)


def _of_preset(preset: str | None) -> dict[str, Any]:
    """Return the settings of the preset, without those that the user gave as options."""
    context = click.get_current_context()
    settings = LOG_Z_PRESETS[preset] if preset else {}
    was_given = {name for name in context.params if context.get_parameter_source(name) != ParameterSource.DEFAULT}
    was_given |= {f.name for f in dataclasses.fields(LogZConfig) if f.metadata.get("formerly") in was_given}
    return {name: value for name, value in settings.items() if name not in was_given}


def _details(result: LogZResult) -> list[str]:
    """Return lines to print: how the estimate was made."""
    found = result.diagnostics
    lines = []
    if "exact" in found:
        difference = result.log_z - found["exact"]["log_z"]
        in_errors = f" = {difference / result.std_err:+.1f} standard errors" if result.std_err else ""
        digits = decimals(result.std_err)
        exact = plain(fixed(found["exact"]["log_z"], digits))
        lines.append(f"exact log Z = {exact}; difference {plain(signed(difference, digits))}{in_errors}")
    if "betas" in found:
        low, high = (plain(fixed(end, decimals(result.std_err))) for end in result.ci95)
        kind = "repeats" if "repeats_std_err" in found else "replicates"
        lines.append(
            f"95% interval [{low}, {high}]; {len(result.repeats)} {kind} "
            f"of {len(found['betas'])} rungs, {found['n_sweeps']} sweeps (ended by {found['stopped']}), "
            f"lowest exchange rate {min(found['exchange_rates']):.2f}; "
            f"{sum(c['passed'] for c in found['checks'])} of {len(found['checks'])} checks passed"
        )
    for name, mean in found.get("log_likelihood", {}).get("splits", {}).items():
        digits = decimals(mean["std_err_images"])
        what = "rows" if name == "all" else f"{name} images"
        lines.append(
            f"log-likelihood of {mean['n_images']} {what}: {plain(fixed(mean['mean'], digits))} "
            f"± {error_text(mean['std_err_images'])} nats per image"
        )
    if starts := result.settings.get("starts"):
        lines.append(f"some replicates started from {starts['n_states']} states: {_source(starts)}")
    lines += [_continued(part) for part in found.get("continued_from", [])[-1:]]
    if "uniform_run" in found:
        first = found["uniform_run"]
        log_z, error = (
            fixed(first["log_z"], decimals(first["std_err"])),
            fixed(first["std_err"], decimals(first["std_err"])),
        )
        lines.append(
            f"reference: the machine's modes; a shorter run from the uniform reference gave {plain(log_z)} ± "
            f"{error}"
        )
    if "path" in found:
        path = found["path"]
        what = {"beta": "all couplings scaled", "trajectory": "along the training"}[path["chosen"]]
        lines.append(
            f"path: {what}; communication barrier {path['barrier_beta']:.1f} in beta, "
            f"{path['barrier_trajectory']:.1f} along the training"
        )
    if bounds := found.get("sandwich"):
        digits = decimals(result.std_err)
        low, high = (plain(fixed(bounds[side], digits)) for side in ("lower_bound", "upper_bound"))
        lines.append(f"bounds by annealing (95%): {low} <= log Z <= {high}")
    if "lower_bound" in found:
        n, bound = found["n_basins"], math.floor(found["lower_bound"] * 1e4) / 1e4
        lines.append(f"strict lower bound: log Z >= {bound:.4f}, from {n} known {'basin' if n == 1 else 'basins'}")
    return lines


def _continued(part: dict[str, Any]) -> str:
    """Return the line about the earlier result that was continued."""
    if "n_repeats" in part:
        return f"continued from {part['n_done']} repeats"
    error = "" if part["std_err"] is None else f", ± {error_text(part['std_err'])}"
    return f"continued from {part['n_done']} sweeps{error} ({part['date'][:10]})"


def _source(starts: dict[str, Any]) -> str:
    """Return the source of the starting states."""
    place = starts.get("file") or starts.get("data") or starts.get("codes_of") or starts.get("states_of", "")
    return f"codes of {place}" if "codes_of" in starts else str(place)
