"""Callbacks that follow a training: the protocol, several callbacks as one, and the log for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError


class Callback(Protocol):
    """The protocol of callbacks; a subclass defines only the methods that it needs.

    With several processes (torchrun), the first one calls.  An exception in a callback ends the training; the last
    checkpoint stays.
    """

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Handle the end of a step.

        Parameters
        ----------
        epoch : int
            Number of completed epochs.
        step, n_steps : int
            Number of completed steps of the present epoch, and number of its steps.
        elbo : float
            Mean bound over the minibatches of the epoch so far, nats per image; nan before the first value.
        """
        return None

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Handle the end of an epoch, after its line was written to metrics.jsonl.

        Parameters
        ----------
        metrics : dict
            The content of that line: numbers, and dicts and lists of numbers; `flat_metrics` makes one flat
            dict.  A resumed run calls again for the epochs after its last checkpoint, with the same numbers except
            times.
        """
        return None


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, members: Iterable[Callback]) -> None:
        self.members = tuple(members)

    def step(self, epoch: int, step: int, n_steps: int, elbo: float) -> None:
        """Call `step` of each member."""
        for member in self.members:
            member.step(epoch, step, n_steps, elbo)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Call `epoch` of each member."""
        for member in self.members:
            member.epoch(metrics)


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's metrics as one dict of numbers: `valid/elbo`, `train/kl_continuous/1`, ...

    Parameters
    ----------
    metrics : mapping
        The argument of `Callback.epoch`, or a parsed line of metrics.jsonl.
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
    """Writes the metrics of each epoch for TensorBoard, against the steps of the run.

    Parameters
    ----------
    directory : Path
        Directory of the event files.

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
        """Write and flush the metrics of an epoch."""
        step = metrics["step"]
        if self._writer is None:  # discards what an interrupted run wrote for this and later steps
            self._writer = self._new_writer(str(self.directory), purge_step=step)
        for name, value in flat_metrics(metrics).items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()


# Values of --log.
LOGS = ("tensorboard",)


def new_log(name: str, run: Path) -> Callback:
    """Return the log called `name` for a run; ConfigError if it is unknown or not installed."""
    if name not in LOGS:
        raise ConfigError(f"--log: {name!r} is not known; give {', '.join(LOGS)}")
    return TensorBoardLog(run / "tensorboard")
