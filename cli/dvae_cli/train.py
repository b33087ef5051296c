"""dvae-train: train a model on a data set."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dvae_core import __version__
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import NAMES
from dvae_core.errors import ConfigError
from dvae_core.terminal import terminal_width
from dvae_core.training.callbacks import LOGS, Callback, new_log
from dvae_core.training.presets import PRESETS, default_preset, find_preset

from .console import is_quiet, say, set_quiet
from .options import (
    THREADS_BY_WIDTH,
    F,
    ModelFile,
    Parsed,
    Place,
    common_options,
    compute_options,
    config_options,
    given,
)
from .preset_table import dataset_list, preset_table
from .runner import SIGNALS, CleanInterrupt, run
from .sections import Command

if TYPE_CHECKING:
    from dvae_core.training.train_model import Plan
    from dvae_core.training.trainer import Trainer

# Several signals within this time count as one request to stop.
SAME_REQUEST_SECONDS = 1.0


def _listing(name: str, lines: Callable[[int | None], Iterable[str]], text: str) -> Callable[[F], F]:
    """Return a decorator that adds an option to print lines, made for the width of the terminal, and exit."""

    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            for line in lines(terminal_width(sys.stdout)):
                click.echo(line)
            ctx.exit()

    return click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)


def _logs(text: str) -> tuple[str, ...]:
    """Return names of logs, separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    if unknown := [name for name in names if name not in LOGS]:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(LOGS)}")
    return names


def _settings_shown(words: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of the preset that the help shows: the one for this command line."""
    name = words.get("preset") or default_preset(words.get("dataset", ""))
    preset = find_preset(name)
    parts = (preset.model, preset.train)
    return name, {f.name: getattr(part, f.name) for part in parts for f in dataclasses.fields(part)}


@click.command("dvae-train", cls=Command, preset_of=_settings_shown)
@click.argument("dataset", required=False)
@click.option(
    "--out", "-o", "run_directory", required=True, type=click.Path(path_type=Path), help="Run directory."
)
@click.option("--preset", help="Settings to start from. [default: the small preset of the data set]")
@click.option(
    "--config",
    type=Place("a run directory, or its config.json", directory=True),
    help="Repeat a run with its settings and data set: its directory or config.json.",
)
@click.option(
    "--init", type=ModelFile(), help="Start from the weights of a trained model: a run, or its model.pt."
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in --out; the result is the same as without the interruption. With more --epochs or "
    "other training settings, train it further.",
)
@click.option("--end", is_flag=True, help="Finish the run in --out now, without further training.")
@click.option("--data", help="With --resume or --end: the present place of DATASET, if it has moved.")
@click.option(
    "--log",
    "--log-to",  # torchrun would read --log as an abbreviation of its options
    "logs",
    multiple=True,
    type=Parsed("name,...", _logs),
    help="Also write a log: tensorboard, into the run directory.",
)
@_listing("--list-presets", lambda width: preset_table(PRESETS, width), "List presets.")
@_listing("--list-datasets", lambda width: dataset_list(NAMES, width), "List data sets.")
@compute_options(THREADS_BY_WIDTH)
@common_options
@config_options(TrainConfig, from_preset=True)
@config_options(ModelConfig, from_preset=True)
@click.version_option(__version__)
def command(
    run_directory: Path,
    device: str,
    threads: int | None,
    logs: tuple[tuple[str, ...], ...],
    **asked: Any,
) -> None:
    """Train a discrete variational autoencoder on DATASET.

    \b
    Example:
      dvae-train digits --out runs/digits
      dvae-train my-images.npy --out runs/mine --epochs 50
      dvae-train --preset ablation-linear-128-small --out runs/linear
      dvae-train --resume --out runs/digits
      dvae-train --resume --out runs/digits --epochs 600 --learning-rate 1e-3
      dvae-train --config runs/digits --seed 1 --out runs/digits-1
      torchrun --nproc-per-node 2 -m dvae_cli.train digits --out runs/digits

    DATASET is a name from --list-datasets, or an .npz or .npy file of binary or grey images. [default: the data
    set of --preset]

    Settings that are not given come from a preset. This help shows those of mnist-small; with DATASET or --preset
    beside --help, it shows the settings of their preset.

    The run directory receives model.pt (of the epoch with the best validation bound), checkpoint.pt, config.json
    and metrics.jsonl.
    """
    from dvae_core.training.train_model import open_run

    plan = plan_of(run_directory, asked)
    with _among_processes(plan.config, device, threads) as device:
        if _rank():
            set_quiet(True)
        callbacks = [new_log(name, run_directory) for name in dict.fromkeys(sum(logs, ()))] if not _rank() else []
        for note in plan.notes:
            say(note)
        with open_run(plan, device, command=["dvae-train", *sys.argv[1:]], quiet=is_quiet()) as trainer:
            changed = [str(change) for change in trainer.config.changes[-1:] if plan.changes]
            for note in (*trainer.data.notes, *changed):
                say(note)
            _train(plan, trainer, callbacks)


def plan_of(run_directory: Path, asked: dict[str, Any]) -> Plan:
    """Return the plan for the options of the command line; ConfigError if they contradict each other."""
    from dvae_core.training.train_model import plan_new, plan_resumed, refuse_start

    dataset, preset, data = asked["dataset"], asked["preset"], asked["data"]
    config, init = asked["config"], asked["init"]
    settings = given(ModelConfig, asked) | given(TrainConfig, asked)
    if not (asked["resume"] or asked["end"]):
        if data is not None:
            raise ConfigError("--data: applies only with --resume or --end; give new data as DATASET")
        return plan_new(dataset, run_directory, settings, preset=preset, config=config, init=init)
    refuse_start(config, init)
    plan = plan_resumed(run_directory, settings, preset=preset, data=data, ends=asked["end"])
    if dataset not in (None, plan.config.dataset):
        raise ConfigError(
            f"DATASET: the run in {run_directory} was trained on {plan.config.dataset}, not {dataset}; "
            "give that name or omit it (and give --data PATH if the data have moved)"
        )
    return plan


def _rank() -> int:
    """Return the number of this process among those of torchrun, 0 without torchrun."""
    from dvae_core.distributed import rank

    return rank()


@contextmanager
def _among_processes(config: RunConfig, device: str, threads: int | None) -> Iterator[str]:
    """Yield the device of this process, which joins the process group if torchrun started it."""
    from dvae_core import distributed

    from .devices import prepare_device

    prepare_device(device, threads, config.model.width)
    try:
        yield distributed.init_process_group(device) if distributed.launched() else device
        # Gloo sometimes aborts a process that exits while another still communicates with it.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[None]:
    """Within the block, the first Ctrl-C or signal asks the trainer to stop; a later one interrupts at once."""
    asked = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        # A terminal or a scheduler signals all processes, and torchrun forwards the signal: that is one request.
        if trainer.stop_requested and time.monotonic() - asked > SAME_REQUEST_SECONDS:
            signal.default_int_handler(number, frame)
        if not trainer.stop_requested:
            trainer.stop_requested, asked = True, time.monotonic()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    # Signals that nohup ignores stay ignored, except SIGINT, which a sweep in the background sends to its runs.
    handled = [n for n, handler in before.items() if n == signal.SIGINT or handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stop)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _train(plan: Plan, trainer: Trainer, callbacks: list[Callback]) -> None:
    """Train with progress; after the first Ctrl-C or signal, finish the current step and save."""
    from dvae_core.training.callbacks import Callbacks
    from dvae_core.training.train_model import carry_out
    from dvae_core.training.trainer import Interrupted

    from .console import TrainingProgress

    was_over = plan.rests or trainer.is_finished
    with _stopping(trainer), TrainingProgress(trainer.config.train.epochs) as progress:
        try:
            carry_out(plan, trainer, Callbacks([progress, *callbacks]))
        except Interrupted as error:
            raise CleanInterrupt(
                f"stopped in epoch {trainer.epoch + 1} and saved; continue with: "
                f"dvae-train --resume --out {trainer.run}"
            ) from error
        progress.finish(trainer.epoch)
    if was_over:
        say(_how_to_continue(plan, trainer))
    else:
        _say_result(plan, trainer)


def _how_to_continue(plan: Plan, trainer: Trainer) -> str:
    """Return the message for a run that is finished: why, and how to train it further."""
    epochs = trainer.config.train.epochs
    if plan.rests:
        why, more = f"was ended in epoch {plan.provenance['ended']['epoch']}", f"--epochs {epochs}"
    elif trainer.stopped_early and trainer.epoch < epochs:
        why, more = f"stopped early after epoch {trainer.epoch}", "--patience 0"
    else:
        why, more = f"is finished after {epochs} epoch{'s'[: epochs > 1]}", f"--epochs {2 * epochs}"
    return f"{trainer.run} {why}; train it further with: dvae-train --resume --out {trainer.run} {more}"


def _say_result(plan: Plan, trainer: Trainer) -> None:
    """Print the result of the training and the next command."""
    if plan.ends:
        say(f"ended in epoch {trainer.epoch + (trainer.step > 0)} of {trainer.config.train.epochs}")
    elif trainer.stopped_early:
        n = trainer.settings.patience
        say(
            f"stopped early after epoch {trainer.epoch}: no better validation bound for {n} epoch{'s'[: n > 1]}",
        )
    best = trainer.best
    say(
        f"saved: {trainer.run}/model.pt (best epoch: {best['epoch']}); validation bound about "
        f"{best['elbo']:.2f} nats per image (log Z is tracked only roughly in training)",
    )
    say(f"next: dvae-eval logz {trainer.run}/model.pt")


def main(args: list[str] | None = None) -> NoReturn:
    """Run dvae-train."""
    run(command, "dvae-train", args)


if __name__ == "__main__":
    main()
