"""Training: what it learns, and that a run that is stopped in any way ends as if it had not been."""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from dvae_cli.train import main as train_main
from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import load
from dvae_core.errors import CheckpointError, NumericalError
from dvae_core.training import trainer as train
from dvae_core.training.checkpoint import load_model
from dvae_core.training.objective import kl_weights
from dvae_core.training.run_directory import TRAJECTORY, read_config, write_config
from dvae_core.training.trainer import Interrupted, Trainer
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.trained import machine_of
from tests.commands import status_of
from tests.oracles import enumerate_states, exact_log_p_x
from tests.places import PACKAGE_ROOTS


class Silent:
    """Progress that nobody hears, and that can stop a run after so many steps."""

    def __init__(self, trainer=None, stop_after=None):
        self.trainer, self.stop_after, self.steps = trainer, stop_after, 0

    def step(self, epoch, step, n_steps, elbo):
        self.steps += 1
        if self.steps == self.stop_after:
            self.trainer.stop_requested = True

    def epoch(self, metrics):
        pass


def small(dataset="bars-and-stripes", epochs=3, prior="rbm", graph="", **settings):
    sizes = {"n_left": 4, "n_right": 4, "n_groups": 2, "n_layers": 1, "n_continuous": 2}
    model = ModelConfig(prior=prior, graph=graph, encoder_hidden=(16,), **sizes)
    return RunConfig(
        dataset, model, TrainConfig(epochs=epochs, batch_size=100, n_chains=20, n_sweeps=2, **settings)
    )


def start(run, config, data=None):
    run.mkdir()
    trainer = Trainer(run, config, data or load(config.dataset))
    trainer.save()
    write_config(run, config, {})
    return trainer


def resume(run):
    config = read_config(run)
    trainer = Trainer(run, config, load(config.dataset))
    trainer.restore()
    return trainer


def test_the_bound_rises_and_log_p_x_is_near_the_truth(tmp_path):
    """Bars and stripes of 3 x 3 have an entropy of 2.60 nats: no model can be better, a good one is near.

    Independent fair pixels have 9 log 2 = 6.24 nats.  The seed is fixed; the error over 300 images is 0.03.
    """
    model = ModelConfig(n_left=6, n_right=6, n_groups=3, n_layers=0, encoder_hidden=(40,), decoder_hidden=(40,))
    settings = {"epochs": 60, "batch_size": 50, "n_chains": 100, "n_sweeps": 5, "learning_rate": 0.01, "seed": 1}
    trainer = start(tmp_path / "run", RunConfig("bars-and-stripes-3x3", model, TrainConfig(**settings)))
    trainer.train(Silent())
    trained = load_model(tmp_path / "run" / "model.pt")
    images = load("bars-and-stripes-3x3").fixed("test")
    log_z = estimate_log_z(machine_of(trained))
    result = estimate_log_likelihood(trained, images, log_z, LikelihoodConfig(n_samples=500, limit=300))
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 60
    assert lines[-1]["valid"]["elbo"] > lines[0]["valid"]["elbo"] + 1
    assert -3.8 < result.log_likelihood < -2.5


def test_a_trained_models_log_p_x_is_exact_within_its_error(tmp_path):
    """Four units on bars and stripes of 2 x 2: p(x) by enumeration of z and quadrature over ζ.

    The error of log mean(w) is about 1/sqrt(effective samples); |z| < 5 for each of 16 images, and the fixed seed.
    """
    model = ModelConfig(n_left=2, n_right=2, n_groups=2, n_layers=0, encoder_hidden=(20,))
    settings = {"epochs": 40, "batch_size": 50, "n_chains": 50, "n_sweeps": 5, "learning_rate": 0.02}
    start(tmp_path / "run", RunConfig("bars-and-stripes-2x2", model, TrainConfig(**settings))).train(Silent())
    trained = load_model(tmp_path / "run" / "model.pt")
    images = enumerate_states(4).astype(np.uint8)
    log_z = estimate_log_z(machine_of(trained))
    result = estimate_log_likelihood(trained, images, log_z, LikelihoodConfig(n_samples=20_000))
    double = copy.deepcopy(trained.model).double()
    exact = np.array([exact_log_p_x(double, x) for x in torch.from_numpy(images).double()])
    assert abs(np.exp(exact).sum() - 1) < 1e-6
    error = 1 / np.sqrt(result.per_image["ess"])
    assert (np.abs(np.array(result.per_image["log_likelihood"]) - exact) / error).max() < 5
    assert np.median(error) < 0.05


@pytest.mark.parametrize("stop_after", [1, 10, 11, 25])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, stop_after):
    """Stopped within an epoch, at its end, and in the last one."""
    assert_resumed_is_uninterrupted(tmp_path, small(), stop_after)


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": "tempering", "n_rungs": 5},
        {"sampler": "tempering", "n_rungs": 4, "prior": "graph", "graph": "grid-2x4"},
        {"prior": "graph", "graph": "complete"},
        {"prior": "independent"},
    ],
)
def test_resumed_is_uninterrupted_with_every_prior_and_sampler(tmp_path, settings):
    """Two sweeps a step make one exchange: stopped after an odd number of them, the pairs must go on in turn."""
    assert_resumed_is_uninterrupted(tmp_path, small(**settings), stop_after=13)


def assert_resumed_is_uninterrupted(tmp_path, config, stop_after):
    straight = start(tmp_path / "straight", config)
    straight.train(Silent())
    stopped = start(tmp_path / "stopped", config)
    with pytest.raises(Interrupted):
        stopped.train(Silent(stopped, stop_after))
    resume(tmp_path / "stopped").train(Silent())
    for name in ("model.pt", "checkpoint.pt"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    for a, b in zip(*(read_metrics(tmp_path / run) for run in ("stopped", "straight")), strict=True):
        assert a == b


def read_metrics(run):
    """Return the metrics without the times, which are never the same."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


TRAIN = "import sys; sys.path[:0] = {roots!r}\nfrom dvae_cli.train import main\nmain({args!r})"
ARGS = [
    "--left",
    "4",
    "--right",
    "4",
    "--groups",
    "2",
    "--layers",
    "1",
    "--continuous",
    "2",
    "--encoder-hidden",
    "16",
]
ARGS += ["--epochs", "6", "--chains", "20", "--sweeps", "2", "--batch-size", "50", "--threads", "1", "--quiet"]


def dvae_train(run, *more, checkpoint_seconds=None):
    """Start dvae-train in a process of its own."""
    code = TRAIN.format(roots=PACKAGE_ROOTS, args=["--out", str(run), *more])
    if checkpoint_seconds is not None:
        code = code.replace(
            "\nmain(",
            f"\nimport dvae_core.training.trainer as t; t.CHECKPOINT_SECONDS = {checkpoint_seconds}\nmain(",
        )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def test_kill_9_at_any_moment_loses_nothing_but_time(tmp_path):
    """Killed again and again, with a checkpoint after every step: some kills fall inside a write."""
    straight = tmp_path / "straight"
    assert status_of(train_main, "bars-and-stripes", "--out", straight, *ARGS) == 0
    # With a checkpoint after every step a run takes longer: a kill within this time falls inside it.
    undisturbed = time.time() - (straight / "config.json").stat().st_mtime
    run, more, rng = tmp_path / "killed", ("bars-and-stripes", *ARGS), np.random.default_rng(0)
    kills = 0
    while True:
        process = dvae_train(run, *more, checkpoint_seconds=0)
        while not (run / "config.json").exists() and process.poll() is None:
            time.sleep(0.05)
        try:
            if kills < 3:
                process.wait((0.5 + 0.4 * rng.random()) * undisturbed)
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        process.stderr.close()
        more = ("--resume", "--threads", "1", "--quiet")
        if process.returncode == 0:
            break
    assert kills >= 1
    for name in ("model.pt", "checkpoint.pt", TRAJECTORY):
        assert (run / name).read_bytes() == (straight / name).read_bytes()


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    process = dvae_train(run, "bars-and-stripes", *ARGS, "--epochs", "100000")
    while not (run / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert message.count("\n") == 1
    assert f"dvae-train --resume --out {run}" in message
    resume(run)


def test_files_of_other_makers_are_not_resumed_from(tmp_path):
    trainer = start(tmp_path / "run", small())
    path = tmp_path / "run" / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        trainer.restore()
    path.write_bytes(whole)
    write_config(tmp_path / "run", small(epochs=4), {})
    with pytest.raises(CheckpointError, match="other settings"):
        resume(tmp_path / "run")


def test_nan_stops_training_and_keeps_the_last_checkpoint(tmp_path):
    trainer = start(tmp_path / "run", small())
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        trainer.model.decoder.linears[0].weight[0, 0] = torch.nan
    with pytest.raises(NumericalError, match=r"reconstruction is not finite at epoch 1, step 1"):
        trainer.train(Silent())
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_warm_up_weights_rise_linearly_to_one():
    config = small(warmup_strength=20.0, warmup_epochs=5, rbm_warmup_strength=2.0, rbm_warmup_epochs=20)
    assert kl_weights(config.train, 0) == (1 / 20, 1 / 2)
    assert kl_weights(config.train, 2.5) == pytest.approx(((1 + 1 / 20) / 2, 1 / 2 + 2.5 / 40))
    assert kl_weights(config.train, 20) == (1.0, 1.0)


def test_the_same_seed_gives_the_same_model_and_another_does_not(tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        start(tmp_path / name, small(epochs=1, seed=seed)).train(Silent())
        digests.append(load_model(tmp_path / name / "model.pt").model.prior.W.clone())
    assert torch.equal(digests[0], digests[1])
    assert not torch.equal(digests[0], digests[2])


def test_a_model_file_is_plain_data_and_refuses_all_else(tmp_path):
    start(tmp_path / "run", small(epochs=1)).train(Silent())
    path = tmp_path / "run" / "model.pt"
    trained = load_model(path)
    assert trained.image_shape == (4, 4)
    assert not trained.model.training
    whole = path.read_bytes()
    for bad in (b"", whole[:1000], b"PK\x03\x04" + whole[5:2000], os.urandom(500)):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"model\.pt"):
            load_model(path)
    torch.save({"W": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match="not a dvae-model file but another"):
        load_model(path)
    torch.save({"format": "dvae-model", "version": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="its version is not"):
        load_model(path)
    torch.save(print, path)
    with pytest.raises(CheckpointError, match="not a readable"):
        load_model(path)


def test_checkpoints_are_written_while_an_epoch_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    trainer = start(tmp_path / "run", small(epochs=1))
    saved = []
    monkeypatch.setattr(trainer, "save", lambda: saved.append(trainer.step))
    trainer.train(Silent())
    assert len(saved) == trainer.n_steps + 1
