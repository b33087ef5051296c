"""Runs that are trained further, with other settings: what they equal, to the last bit."""

import dataclasses
import json
import os

import pytest
import torch

from dvae_core.config import Change, RunConfig, TrainConfig
from dvae_core.data import load
from dvae_core.errors import ConfigError
from dvae_core.training.checkpoint import load_model
from dvae_core.training.metrics import truncate_metrics
from dvae_core.training.run_directory import read_config, write_config
from dvae_core.training.stretches import stretch_at, stretches
from dvae_core.training.trainer import Interrupted
from tests.core.training.test_train import Silent, read_metrics, resume, small, start

CHANGES = [
    {"epochs": 4},
    {"epochs": 4, "learning_rate": 1e-3, "batch_size": 130, "n_sweeps": 3, "gradient_clip": 1.0},
    {"epochs": 4, "n_chains": 33, "sampler": "tempering", "n_rungs": 3, "n_importance": 2},
    {"epochs": 4, "n_chains": 7, "ema_decay": 0.9, "warmup_epochs": 7, "amp": True},
]


def continued(run, changes):
    """Return the trainer of a run, told to continue with other settings as the command line does."""
    trainer = resume(run)
    trainer.change(changes)
    write_config(run, trainer.config, {})
    return trainer


def weights(run):
    return load_model(run / "model.pt").model.state_dict()


def assert_same(a, b, names=("model.pt", "checkpoint.pt")):
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert read_metrics(a) == read_metrics(b)


def assert_same_weights(a, b):
    ours, theirs = weights(a), weights(b)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- longer runs ------------------------------------------------------------------------------------------------


def test_with_a_constant_step_size_a_longer_run_is_that_from_the_start(tmp_path):
    """And with one that falls it is not, since the first epochs planned a shorter fall."""
    for name, decay in (("constant", 1.0), ("falling", 0.05)):
        start(tmp_path / f"{name}-4", small(epochs=4, learning_rate_decay=decay)).train(Silent())
        start(tmp_path / name, small(epochs=2, learning_rate_decay=decay)).train(Silent())
        continued(tmp_path / name, {"epochs": 4}).train(Silent())
    assert read_metrics(tmp_path / "constant") == read_metrics(tmp_path / "constant-4")
    assert_same_weights(tmp_path / "constant", tmp_path / "constant-4")
    assert read_metrics(tmp_path / "falling") != read_metrics(tmp_path / "falling-4")


@pytest.mark.parametrize(("stop_after", "changes"), [*zip([1, 9, 1, 9], CHANGES, strict=True)])
def test_a_continued_run_that_is_stopped_ends_as_an_undisturbed_one(tmp_path, changes, stop_after):
    """Stopped in the first new epoch, and later; and a run that knows its changes from the start is the same."""
    config = small(epochs=2)
    for name in ("straight", "stopped"):
        start(tmp_path / name, config).train(Silent())
    continued(tmp_path / "straight", changes).train(Silent())
    stopped = continued(tmp_path / "stopped", changes)
    with pytest.raises(Interrupted):
        stopped.train(Silent(stopped, stop_after))
    resume(tmp_path / "stopped").train(Silent())
    assert_same(tmp_path / "straight", tmp_path / "stopped")
    start(tmp_path / "again", read_config(tmp_path / "straight")).train(Silent())
    assert_same(tmp_path / "straight", tmp_path / "again")


@pytest.mark.parametrize("changes", CHANGES[1:3])
def test_an_epoch_that_has_begun_is_finished_with_its_own_settings(tmp_path, changes):
    """Interrupted in the second epoch: its line is that of the old settings, and further stops change nothing."""
    config = small(epochs=3)
    start(tmp_path / "old", config).train(Silent())
    for name in ("straight", "stopped"):
        trainer = start(tmp_path / name, config)
        with pytest.raises(Interrupted):
            trainer.train(Silent(trainer, 13))
    assert resume(tmp_path / "straight").step > 0
    continued(tmp_path / "straight", changes).train(Silent())
    stopped = continued(tmp_path / "stopped", changes)
    with pytest.raises(Interrupted):  # still with the old settings
        stopped.train(Silent(stopped, 2))
    stopped = resume(tmp_path / "stopped")
    assert stopped.settings == config.train
    with pytest.raises(Interrupted):  # and with the new ones
        stopped.train(Silent(stopped, stopped.n_steps))
    assert resume(tmp_path / "stopped").settings != config.train
    resume(tmp_path / "stopped").train(Silent())
    assert_same(tmp_path / "straight", tmp_path / "stopped")
    ours, theirs = read_metrics(tmp_path / "straight"), read_metrics(tmp_path / "old")
    assert ours[:2] == theirs[:2]
    assert ours[2] != theirs[2]
    assert [line["epoch"] for line in ours] == [1, 2, 3, 4]


def test_steps_are_counted_over_batch_sizes(tmp_path):
    start(tmp_path / "run", small(epochs=2)).train(Silent())
    continued(tmp_path / "run", {"epochs": 3, "batch_size": 333}).train(Silent())
    n_images = len(load("bars-and-stripes").train)
    long, short = -(-n_images // 100), -(-n_images // 333)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [long, 2 * long, 2 * long + short]


# --- the step size ----------------------------------------------------------------------------------------------


def rates(config, n_images=1000):
    """Return the step size at the beginning of every epoch, and at the end."""
    found = stretches(config, n_images)
    count = [found[stretch_at(found, epoch, 1)].count(epoch) for epoch in range(config.train.epochs)]
    here = [found[stretch_at(found, epoch, 1)] for epoch in range(config.train.epochs)]
    last = here[-1].count(config.train.epochs)
    return [s.learning_rate(c) for s, c in zip(here, count, strict=True)] + [here[-1].learning_rate(last)]


def test_the_step_size_falls_to_its_end_in_every_stretch():
    first = TrainConfig(epochs=4, learning_rate=1e-2, learning_rate_decay=1e-2)
    whole = RunConfig("digits", train=first)
    assert rates(whole) == pytest.approx([1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4])
    longer = Change(5, {"epochs": (4, 6)})
    assert rates(dataclasses.replace(whole, train=dataclasses.replace(first, epochs=6), changes=(longer,))) == (
        pytest.approx([1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4, 1e-4, 1e-4])
    )
    half_way = Change(3, {"epochs": (4, 6)})
    assert rates(dataclasses.replace(whole, train=dataclasses.replace(first, epochs=6), changes=(half_way,))) == (
        pytest.approx([1e-2, 10**-2.5, 1e-3, 10**-3.25, 10**-3.5, 10**-3.75, 1e-4])
    )
    named = Change(3, {"learning_rate": (1e-2, 1e-1), "batch_size": (100, 50)})
    train = dataclasses.replace(first, learning_rate=1e-1, batch_size=50)
    assert rates(dataclasses.replace(whole, train=train, changes=(named,))) == (
        pytest.approx([1e-2, 10**-2.5, 1e-1, 1e-2, 1e-3])
    )


def test_another_batch_size_alone_leaves_the_course_of_the_step_size():
    first = TrainConfig(epochs=4, learning_rate=1e-2, learning_rate_decay=1e-2)
    changed = dataclasses.replace(first, batch_size=30)
    config = RunConfig("digits", train=changed, changes=(Change(2, {"batch_size": (100, 30)}),))
    assert rates(config) == pytest.approx(rates(RunConfig("digits", train=first)))


# --- what is written --------------------------------------------------------------------------------------------


def test_changes_before_any_step_are_one_and_what_is_undone_is_none(tmp_path):
    start(tmp_path / "run", small(epochs=2)).train(Silent())
    trainer = continued(tmp_path / "run", {"epochs": 5, "n_sweeps": 9})
    trainer = continued(tmp_path / "run", {"epochs": 4, "n_sweeps": 2, "batch_size": 50})
    assert trainer.config.changes == (Change(3, {"epochs": (2, 4), "batch_size": (100, 50)}),)
    assert str(trainer.config.changes[0]) == "epochs 2 → 4, batch size 100 → 50 from epoch 3"
    assert RunConfig.from_dict(json.loads(json.dumps(trainer.config.to_dict()))) == trainer.config


@pytest.mark.parametrize(
    "change",
    [
        {"from_epoch": 3, "settings": {"epochs": [2, 5]}},  # not the present settings
        {"from_epoch": 4, "settings": {"epochs": [2, 4]}},  # after a gap
        {"from_epoch": 0, "settings": {"epochs": [2, 4]}},
        {"from_epoch": 3, "settings": {"colour": [2, 4]}},
        {"from_epoch": 3, "settings": {"epochs": [2]}},
        {"from_epoch": "x", "settings": {"epochs": [2, 4]}},
        {"from_epoch": 3},
    ],
)
def test_changes_that_cannot_be_are_refused(change):
    data = {**small(epochs=4).to_dict(), "changes": [change]}
    with pytest.raises(ConfigError):
        RunConfig.from_dict(data)


def test_a_run_that_stopped_early_is_trained_further_with_another_patience(tmp_path):
    settings = {"warmup_epochs": 0, "rbm_warmup_epochs": 0, "learning_rate": 0.5}
    start(tmp_path / "run", small(epochs=12, patience=1, **settings)).train(Silent())
    stopped = resume(tmp_path / "run")
    assert stopped.stopped_early
    assert stopped.is_finished
    continued(tmp_path / "run", {"patience": 2, "learning_rate": 1e-3}).train(Silent())
    assert resume(tmp_path / "run").epoch >= stopped.epoch + 2


def test_metrics_are_written_only_where_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"seconds": 1.5}\n{"seconds": 2.5}\n')
    os.utime(path, (0, 0))
    assert truncate_metrics(tmp_path, 2) == 2.5
    assert path.stat().st_mtime == 0
    assert truncate_metrics(tmp_path, 1) == 1.5
    assert path.read_text() == '{"seconds": 1.5}\n'
