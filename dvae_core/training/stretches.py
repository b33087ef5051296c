"""The stretches of a run, which are the epochs between two changes of its settings, and their step sizes.

Within a stretch the step size decreases geometrically, and would reach `learning_rate * learning_rate_decay` at
the last step of the run.  It starts from `learning_rate` in the first stretch and after a change that includes
`learning_rate`, otherwise from the last step size of the previous stretch.  A finished run that is only given more
epochs therefore continues with its last step size.  Settings and changes determine all this; no state is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Change, RunConfig, TrainConfig


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive epochs of a run with the same settings.

    Attributes
    ----------
    first : int
        The first epoch, counted from 0.
    train : TrainConfig
        Their settings.
    n_steps : int
        Steps per epoch.
    first_count : int
        Steps of the run before the first epoch.
    start : float
        Step size at the first step.
    share : float
        Step size at the last step of the run as a share of `start`.
    """

    first: int
    train: TrainConfig
    n_steps: int
    first_count: int
    start: float
    share: float

    def count(self, epoch: int) -> int:
        """Return the number of steps of the run before `epoch`, which is in this stretch or directly after it."""
        return self.first_count + (epoch - self.first) * self.n_steps

    def learning_rate(self, count: int) -> float:
        """Return the step size after `count` steps of the run."""
        planned = (self.train.epochs - self.first) * self.n_steps
        if planned <= 0:
            return self.start
        decay: float = self.share ** ((count - self.first_count) / planned)
        return self.start * decay


def stretches(config: RunConfig, n_images: int) -> list[Stretch]:
    """Return the stretches of a run with `n_images` training images, oldest first."""
    history = config.history()
    first = history[0][1]
    found = [Stretch(0, first, _n_steps(first, n_images), 0, first.learning_rate, first.learning_rate_decay)]
    for change, (from_epoch, train) in zip(config.changes, history[1:], strict=True):
        before, epoch = found[-1], from_epoch - 1
        count = before.count(epoch)
        if "learning_rate" in change.settings:
            start, share = train.learning_rate, train.learning_rate_decay
        else:
            start = before.learning_rate(count)
            share = train.learning_rate * train.learning_rate_decay / start
        found.append(Stretch(epoch, train, _n_steps(train, n_images), count, start, share))
    return found


def stretch_at(found: list[Stretch], epoch: int, step: int) -> int:
    """Return the index of a run's current stretch; between two epochs, that of the earlier epoch."""
    return max(0, sum((stretch.first, 0) < (epoch, step) for stretch in found) - 1)


def agree_until(a: RunConfig, b: RunConfig, epoch: int, step: int) -> bool:
    """Return whether two configurations describe the same run up to a step; later changes may differ."""

    def passed(config: RunConfig) -> list[tuple[Change | None, TrainConfig]]:
        trains = [train for _, train in config.history()]
        later = zip(config.changes, trains[1:], strict=True)
        return [(None, trains[0]), *(pair for pair in later if (pair[0].from_epoch - 1, 0) < (epoch, step))]

    return (a.dataset, a.model, a.init) == (b.dataset, b.model, b.init) and passed(a) == passed(b)


def _n_steps(train: TrainConfig, n_images: int) -> int:
    """Return the number of steps per epoch."""
    return -(-n_images // train.batch_size)
