"""dvae-train: from a data set to a checkpoint."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dvae_core import __version__
from dvae_core.config import ModelConfig, RunConfig, TrainConfig, option_name
from dvae_core.data import NAMES, DataSet
from dvae_core.errors import ConfigError
from dvae_core.terminal import terminal_width
from dvae_core.training.presets import PRESETS, default_preset, find_preset

from .options import THREADS_BY_WIDTH, common_options, compute_options, config_options, given
from .own_data import load_own_data
from .preset_table import dataset_list, preset_table
from .runner import SIGNALS, CleanInterrupt, run
from .sections import Command

if TYPE_CHECKING:
    from dvae_core.training.trainer import Trainer

__all__ = ["command", "main", "new_config"]

# Signals to stop that come within so many seconds are one.
SAME_WISH_SECONDS = 1.0


def _list_presets(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """Print the presets and leave."""
    if not value:
        return
    for line in preset_table(PRESETS, terminal_width(sys.stdout)):
        click.echo(line)
    ctx.exit()


def _list_datasets(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """Print the data sets and leave."""
    if not value:
        return
    for line in dataset_list(NAMES, terminal_width(sys.stdout)):
        click.echo(line)
    ctx.exit()


def _settings_shown(words: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the preset that the help shows, with its settings: the one that the command line asks for."""
    name = words.get("preset") or default_preset(words.get("dataset", ""))
    preset = find_preset(name)
    parts = (preset.model, preset.train)
    return name, {f.name: getattr(part, f.name) for part in parts for f in dataclasses.fields(part)}


@click.command("dvae-train", cls=Command, preset_of=_settings_shown)
@click.argument("dataset", required=False)
@click.option(
    "--out", "-o", "run_directory", required=True, type=click.Path(path_type=Path), help="Run directory."
)
@click.option("--preset", help="Settings to start from. [default: the data set's small one]")
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out, to the same result as if never stopped."
)
@click.option("--data", help="With --resume: where DATASET lies now, if it has moved.")
@click.option(
    "--list-presets", is_flag=True, is_eager=True, expose_value=False, callback=_list_presets, help="List presets."
)
@click.option(
    "--list-datasets",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_datasets,
    help="List data sets.",
)
@compute_options(THREADS_BY_WIDTH)
@common_options
@config_options(TrainConfig, from_preset=True)
@config_options(ModelConfig, from_preset=True)
@click.version_option(__version__)
def command(
    dataset: str | None,
    run_directory: Path,
    preset: str | None,
    resume: bool,
    data: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    debug: bool,
    **settings: Any,
) -> None:
    """Train a discrete variational autoencoder on DATASET.

    \b
    Example:
      dvae-train digits --out runs/digits
      dvae-train my-images.npy --out runs/mine --epochs 50
      dvae-train --preset ablation-linear-128-small --out runs/linear
      dvae-train --resume --out runs/digits
      torchrun --nproc-per-node 2 -m dvae_cli.train digits --out runs/digits

    DATASET is a name that --list-datasets shows, or an .npz or .npy file of binary or grey images; without
    it, the preset's own. Settings that are not given come from the preset: below are those of the preset of
    DATASET, or of --preset, if given beside --help, else those of mnist-small. The run directory gets model.pt
    (the best by the validation bound), checkpoint.pt, config.json and metrics.jsonl.
    """
    if data is not None and not resume:
        raise ConfigError("--data: says where the data of a run to --resume lie now; give new data as DATASET")
    config = _stored_config(run_directory, dataset, preset, settings) if resume else None
    if config is None:
        config = new_config(dataset, preset, settings)
        _refuse_existing(run_directory)
    with _among_processes(config, device, threads) as device:
        images = _load_own(run_directory, config, data, quiet) if resume else _load(config.dataset, quiet)
        with _locked(run_directory):
            trainer = _prepare(run_directory, config, images, resume, device)
            _train(trainer, quiet)


def new_config(dataset: str | None, preset: str | None, settings: dict[str, Any]) -> RunConfig:
    """Return a preset's settings with those of the command line in their place."""
    if dataset is None and preset is None:
        raise ConfigError(f"DATASET is missing; give one of {', '.join(NAMES)}, or an .npz or .npy file")
    base = find_preset(preset or default_preset(dataset or "")).config(dataset)
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **given(ModelConfig, settings)),
        train=dataclasses.replace(base.train, **given(TrainConfig, settings)),
    )


def _stored_config(
    run_directory: Path, dataset: str | None, preset: str | None, settings: dict[str, Any]
) -> RunConfig:
    """Return the settings of the run in `run_directory`; ConfigError if the command line asks for others."""
    from dvae_core.training.run_directory import read_config

    stored = read_config(run_directory)
    base = find_preset(preset).config(stored.dataset) if preset else stored
    for part, cls in (("model", ModelConfig), ("train", TrainConfig)):
        asked = dataclasses.replace(getattr(base, part), **given(cls, settings))
        for field in dataclasses.fields(cls):
            kept, wanted = getattr(getattr(stored, part), field.name), getattr(asked, field.name)
            if kept != wanted:
                name = option_name(field.name)
                raise ConfigError(
                    f"{name}: the run in {run_directory} has {kept}, not {wanted}; leave it out to go on"
                )
    if dataset not in (None, stored.dataset):
        raise ConfigError(
            f"DATASET: the run in {run_directory} is on {stored.dataset}, not {dataset}; "
            "give that, or none (and --data PATH if it has moved)"
        )
    return stored


def _refuse_existing(run_directory: Path) -> None:
    """Raise if a run would be written over."""
    if (run_directory / "config.json").exists():
        raise ConfigError(
            f"--out: {run_directory} holds a run already; give --resume to go on with it, or another directory"
        )
    if run_directory.exists() and not run_directory.is_dir():
        raise ConfigError(f"--out: {run_directory} is a file; give a directory")


@contextmanager
def _among_processes(config: RunConfig, device: str, threads: int | None) -> Iterator[str]:
    """Yield the device of this process, in the group of those that torchrun started, if it did."""
    from dvae_core import distributed

    from .devices import prepare_device

    prepare_device(device, threads, config.model.width)
    try:
        yield distributed.init_process_group(device) if distributed.launched() else device
        # A process that leaves while another still speaks to it is now and then aborted by gloo.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _load(dataset: str, quiet: bool) -> DataSet:
    """Return the data set; of several processes the first downloads it if need be."""
    from dvae_core.data import load
    from dvae_core.distributed import first_process_first, rank

    from .console import say

    with first_process_first():
        data = load(dataset, quiet=quiet)
    for note in data.notes:
        say(note, quiet or rank() > 0)
    return data


def _load_own(run_directory: Path, config: RunConfig, data: str | None, quiet: bool) -> DataSet:
    """Return the data set of a run that is resumed, from where it lies now."""
    from dvae_core.distributed import first_process_first
    from dvae_core.training.run_directory import read_provenance

    with first_process_first():
        return load_own_data(config.dataset, data, read_provenance(run_directory), quiet)


def _locked(run_directory: Path) -> AbstractContextManager[None]:
    """Return a context that holds the run directory, in the first process."""
    from dvae_core.distributed import rank
    from dvae_core.training.run_directory import locked

    return locked(run_directory) if rank() == 0 else nullcontext()


def _prepare(run_directory: Path, config: RunConfig, data: DataSet, resume: bool, device: str) -> Trainer:
    """Make or restore the trainer and its run directory."""
    from dvae_core.distributed import first_process_first
    from dvae_core.training.trainer import Trainer

    with first_process_first():
        trainer = Trainer(run_directory, config, data, device)
        if resume:
            trainer.restore()
        else:
            _begin(trainer)
    return trainer


def _begin(trainer: Trainer) -> None:
    """Write the first files of a run."""
    from dvae_core.distributed import rank
    from dvae_core.training.run_directory import write_config
    from dvae_core.versions import package_versions

    if rank() == 0:
        _refuse_existing(trainer.run)  # again: another process may have made a run while the data were loaded
    # The checkpoint first: a directory with settings can always be resumed.
    trainer.save()
    provenance = {
        "command": ["dvae-train", *sys.argv[1:]],
        "data": trainer.data.provenance,
        "data_sha256": trainer.data.digest(),
        "versions": package_versions("torch", "numpy"),
    }
    if rank() == 0:
        write_config(trainer.run, trainer.config, provenance)


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C, or its like, within the block ask the trainer to stop, a later one end it all."""
    asked = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        # A terminal or a scheduler signals all processes, and torchrun passes on what it gets: that is one wish.
        if trainer.stop_requested and time.monotonic() - asked > SAME_WISH_SECONDS:
            signal.default_int_handler(number, frame)
        if not trainer.stop_requested:
            trainer.stop_requested, asked = True, time.monotonic()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    # What nohup ignores stays ignored; SIGINT never is, since a sweep in the background sends it to its runs.
    wished = [n for n, handler in before.items() if n == signal.SIGINT or handler is not signal.SIG_IGN]
    try:
        for number in wished:
            signal.signal(number, stop)
        yield
    finally:
        for number in wished:
            signal.signal(number, before[number])


def _train(trainer: Trainer, quiet: bool) -> None:
    """Train with progress; the first Ctrl-C, or signal of its kind, ends the current step and saves."""
    from dvae_core.distributed import rank
    from dvae_core.training.trainer import Interrupted

    from .console import TrainingProgress, say

    quiet = quiet or rank() > 0

    with _stopping(trainer), TrainingProgress(trainer.config.train.epochs, quiet) as progress:
        try:
            trainer.train(progress)
        except Interrupted as error:
            raise CleanInterrupt(
                f"stopped in epoch {trainer.epoch + 1} and saved; go on with: "
                f"dvae-train --resume --out {trainer.run}"
            ) from error
        progress.finish(trainer.epoch)
    best = trainer.best
    if trainer.stopped_early:
        n = trainer.config.train.patience
        say(
            f"stopped early after epoch {trainer.epoch}: no better validation bound in {n} epoch{'s'[: n > 1]}",
            quiet,
        )
    say(
        f"made {trainer.run}/model.pt: best of epoch {best['epoch']}, "
        f"validation bound about {best['elbo']:.2f} nats (log Z tracked roughly)",
        quiet,
    )
    say(f"next: dvae-eval logz {trainer.run}/model.pt", quiet)


def main(args: list[str] | None = None) -> NoReturn:
    """Run dvae-train."""
    run(command, "dvae-train", args)


if __name__ == "__main__":
    main()
