"""What hears of a training while it works: one protocol, several at once, and the log for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError


class Callback(Protocol):
    """What a training calls; a subclass needs only the method that it is interested in.

    Of several processes (torchrun) the first one calls.  An exception ends the training; what it last saved stays.
    """

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Hear of a step.

        Parameters
        ----------
        epoch : int
            Epochs that are done.
        step, n_steps : int
            Steps of the present epoch that are done, and that there are.
        elbo : float
            Mean bound of the epoch's minibatches so far, nats per image; nan before there is one.
        """
        return None

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Hear of a finished epoch, after its line was written to metrics.jsonl.

        Parameters
        ----------
        metrics : dict
            That line: numbers, and dicts and lists of numbers; `flat_metrics` makes one dict of them.  A run that
            is resumed calls again for the epochs after its last checkpoint, with the same numbers but for times.
        """
        return None


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, members: Iterable[Callback]) -> None:
        self.members = tuple(members)

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Tell every member."""
        for member in self.members:
            member.step(epoch, step, n_steps, elbo)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Tell every member."""
        for member in self.members:
            member.epoch(metrics)


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's metrics as one dict of numbers: `valid/elbo`, `train/kl_continuous/1`, ...

    Parameters
    ----------
    metrics : mapping
        What `Callback.epoch` is given, or a line of metrics.jsonl.
    """
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, list | tuple):
            value = {str(i): item for i, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            flat |= {f"{name}/{key}": number for key, number in flat_metrics(value).items()}
        else:
            flat[name] = value
    return flat


class TensorBoardLog(Callback):
    """Writes an epoch's metrics for TensorBoard, against the steps of the run.

    Parameters
    ----------
    directory : Path
        Where the event files go.

    Raises
    ------
    ConfigError
        If TensorBoard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "--log: tensorboard is not installed; run pip install 'dvae-toolkit[tensorboard]'"
            ) from error
        self.directory, self._new_writer = directory, SummaryWriter
        self._writer: Any = None

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Write the metrics, so that they are on the disk before the next epoch begins."""
        step = metrics["step"]
        if self._writer is None:  # what a killed run wrote of this and later steps is taken back
            self._writer = self._new_writer(str(self.directory), purge_step=step)
        for name, value in flat_metrics(metrics).items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()


# What --log takes.
LOGS = ("tensorboard",)


def new_log(name: str, run: Path) -> Callback:
    """Return the log of that name for a run; ConfigError if there is none, or it is not installed."""
    if name not in LOGS:
        raise ConfigError(f"--log: {name!r} is not known; give {', '.join(LOGS)}")
    return TensorBoardLog(run / "tensorboard")
