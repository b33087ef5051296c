"""What a training keeps of its priors: equally far apart, the same after any interruption, and at no price."""

import dataclasses

import numpy as np
import pytest
import torch

from dvae_core.io.containers import read_npz
from dvae_core.model.rbm import RBM
from dvae_core.training import trajectory as kept
from dvae_core.training.run_directory import TRAJECTORY
from dvae_core.training.trainer import Interrupted
from dvae_core.training.trajectory import PriorTrajectory
from tests.core.training.test_train import Silent, resume, small, start
from tests.oracles.trajectories import acceptance

NAMES = ("steps", "steps_per_epoch", "W", "b_left", "b_right", "states")


def moving(**settings):
    """Return settings with which the prior moves far enough to be kept now and then."""
    config = small(epochs=12, learning_rate=0.1, warmup_epochs=0, rbm_warmup_epochs=0, **settings)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, n_left=16, n_right=16))


def arrays_of(run):
    return read_npz(run / TRAJECTORY, NAMES)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    trainer = start(tmp_path_factory.mktemp("runs") / "run", moving())
    trainer.train(Silent())
    return trainer.run


def test_the_file_holds_priors_and_states_in_the_order_of_the_steps(run):
    found = arrays_of(run)
    n = len(found["steps"])
    assert n > 4
    assert found["steps"][0] == 0
    assert (np.diff(found["steps"]) > 0).all()
    assert (found["steps"] % kept.LOOK_EVERY == 0).all()
    assert found["W"].shape == (n, 16, 16)
    assert found["states"].shape == (n, 20, 32)
    assert found["steps_per_epoch"] * 12 > found["steps"][-1]


def test_neighbours_would_exchange_in_less_than_half_of_all_attempts(run):
    """By a formula of its own.  At the look before it was more, so that it is not far below."""
    found = arrays_of(run)
    for i in range(len(found["steps"]) - 1):
        one, other = ([found[name][j].astype(float) for name in ("W", "b_left", "b_right")] for j in (i, i + 1))
        v, u = (found["states"][j, :, :16].astype(float) for j in (i, i + 1))
        assert 0.1 < acceptance(one, other, v, u) < kept.ACCEPTANCE


def test_training_is_the_same_with_and_without_it(run, tmp_path):
    """To the last bit of the weights, the optimiser and the chains."""
    trainer = start(tmp_path / "without", moving(trajectory=False))
    trainer.train(Silent())
    assert not (tmp_path / "without" / TRAJECTORY).exists()
    with_it, without = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (run, trainer.run))
    for name, value in without["model"].items():
        assert torch.equal(value, with_it["model"][name]), name
    assert torch.equal(with_it["chains"]["z"], without["chains"]["z"])


@pytest.mark.parametrize("stop_after", [1, 10, 25, 77])
def test_a_resumed_run_keeps_the_same_file(run, tmp_path, stop_after):
    stopped = start(tmp_path / "stopped", moving())
    with pytest.raises(Interrupted):
        stopped.train(Silent(stopped, stop_after))
    resume(tmp_path / "stopped").train(Silent())
    assert (tmp_path / "stopped" / TRAJECTORY).read_bytes() == (run / TRAJECTORY).read_bytes()


def test_a_file_that_is_ahead_of_the_checkpoint_is_written_again(run, tmp_path):
    """Killed between the two writes of a save, or the file removed: what is kept is in the checkpoint."""
    stopped = start(tmp_path / "stopped", moving())
    with pytest.raises(Interrupted):
        stopped.train(Silent(stopped, 60))
    (tmp_path / "stopped" / TRAJECTORY).write_bytes(b"")
    resume(tmp_path / "stopped").train(Silent())
    assert (tmp_path / "stopped" / TRAJECTORY).read_bytes() == (run / TRAJECTORY).read_bytes()


def test_there_are_never_too_many_and_they_stay_equally_far_apart(monkeypatch):
    """A prior that moves for ever: every second one goes, then every fourth, and the first stays."""
    monkeypatch.setattr(kept, "MOST", 10)
    prior, trajectory = RBM(3, 3), PriorTrajectory()
    generator = torch.Generator().manual_seed(0)
    for step in range(0, 2000, kept.LOOK_EVERY):
        with torch.no_grad():
            prior.b_left.fill_(3 * np.sin(step / 100))
        states = torch.bernoulli(prior.b_left.sigmoid().expand(64, -1), generator=generator)
        trajectory.look(prior, torch.cat((states, torch.zeros(64, 3)), 1), step)
    steps = [step for step, _, _ in trajectory.entries]
    assert 5 <= len(steps) <= 10
    assert steps[0] == 0
    assert trajectory.stride > 1
    assert trajectory.n_marks > 10
