"""dvae-train --resume with other settings, --end, --init and --config, as their users meet them."""

import dataclasses
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.training.checkpoint import load_model
from dvae_core.training.run_directory import read_config, read_provenance
from dvae_core.training.trainer import Interrupted
from tests.commands import status_of
from tests.core.training.test_continue_training import assert_same, assert_same_weights, weights
from tests.core.training.test_train import ARGS, Silent, read_metrics, resume, small, start
from tests.core.training.test_train import dvae_train as train_process

# --- the command ------------------------------------------------------------------------------------------------

TINY = [word for word in ARGS if word != "--quiet"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two epochs, which is not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert status_of(dvae_train, "bars-and-stripes", "--out", run, *TINY, "--epochs", 2, "-q") == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def said(capsys):
    return capsys.readouterr().err


def test_a_finished_run_says_how_it_is_trained_further(run, capsys):
    before = {name: (run / name).read_bytes() for name in ("model.pt", "checkpoint.pt", "config.json")}
    capsys.readouterr()
    assert status_of(dvae_train, "--resume", "--out", run) == 0
    assert said(capsys).splitlines()[-1] == (
        f"{run} is finished after 2 epochs; train it further with: dvae-train --resume --out {run} --epochs 4"
    )
    assert {name: (run / name).read_bytes() for name in before} == before


def test_the_command_changes_settings_and_writes_down_what_and_when(run, capsys):
    command = ("--resume", "--out", run, "--epochs", 4, "--learning-rate", 1e-3, "--threads", 1)
    assert status_of(dvae_train, *command) == 0
    assert "epochs 2 → 4, learning rate 0.003 → 0.001 from epoch 3" in said(capsys).splitlines()
    stored = json.loads((run / "config.json").read_text())
    assert stored["train"]["epochs"] == 4
    assert stored["changes"] == [
        {"from_epoch": 3, "settings": {"epochs": [2, 4], "learning_rate": [0.003, 0.001]}}
    ]
    (entry,) = stored["provenance"]["changes"]
    assert (entry["from_epoch"], entry["command"][0]) == (3, "dvae-train")
    assert entry["date"].startswith("20")
    assert [line["learning_rate"] > 9e-4 for line in read_metrics(run)][2:] == [False, False]
    assert load_model(run).config == read_config(run)
    # The same line again changes nothing.
    model = (run / "model.pt").read_bytes()
    assert status_of(dvae_train, *command) == 0
    assert "is finished after 4 epochs" in said(capsys)
    assert (run / "model.pt").read_bytes() == model
    assert len(json.loads((run / "config.json").read_text())["changes"]) == 1
    assert status_of(dvae_eval, "report", run, "-q") == 0
    page = (run / "report.html").read_text()
    assert "Settings changed during training: epochs 2 → 4, learning rate 0.003 → 0.001 from epoch 3." in page
    assert "0.001 (0.003 before epoch 3)" in page
    assert "training from epoch 3" in page


def test_a_named_step_size_starts_again_even_if_it_is_the_same(run):
    assert status_of(dvae_train, "--resume", "--out", run, "--epochs", 3, "--learning-rate", 3e-3, "-q") == 0
    assert read_config(run).changes[0].settings["learning_rate"] == (3e-3, 3e-3)
    n_steps = read_metrics(run)[0]["step"]
    assert read_metrics(run)[2]["learning_rate"] == pytest.approx(3e-3 * 0.05 ** ((n_steps - 1) / n_steps))


def test_a_continued_run_is_killed_and_ends_as_an_undisturbed_one(tmp_path):
    """SIGKILL at two moments, with a checkpoint after every step; the second time --resume alone continues."""
    more = ("--resume", "--epochs", "6", "--batch-size", "77", "--chains", "31", "--threads", "1", "--quiet")
    for name in ("straight", "killed"):
        out = ("--out", tmp_path / name, *TINY, "--epochs", 2, "-q")
        assert status_of(dvae_train, "bars-and-stripes", *out) == 0
    assert status_of(dvae_train, "--out", tmp_path / "straight", *more) == 0
    run, rng, kills = tmp_path / "killed", np.random.default_rng(0), 0
    while True:
        process = train_process(run, *more, checkpoint_seconds=0)
        try:
            if kills < 2:
                while len(read_metrics(run)) < 2 + kills and process.poll() is None:
                    time.sleep(0.02)
                process.wait(0.15 + 0.2 * rng.random())
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        process.stderr.close()
        if read_config(run).changes:
            more = ("--resume", "--threads", "1", "--quiet")
        if process.returncode == 0:
            break
    assert kills
    assert_same(tmp_path / "straight", run, ("model.pt", "checkpoint.pt", "prior-trajectory.npz"))


# --- ended ------------------------------------------------------------------------------------------------------


def interrupted(run, n_steps, **settings):
    trainer = start(run, small(**settings))
    with pytest.raises(Interrupted):
        trainer.train(Silent(trainer, n_steps))


def test_a_run_that_is_ended_in_its_first_epoch_has_a_model(tmp_path, capsys):
    run = tmp_path / "run"
    interrupted(run, 4)
    assert not (run / "model.pt").exists()
    assert status_of(dvae_train, "--end", "--out", run) == 0
    assert "ended in epoch 1 of 3" in said(capsys)
    assert [(line["epoch"], line["step"]) for line in read_metrics(run)] == [(1, 5)]
    assert torch.equal(weights(run)["prior.W"], resume(run).model.prior.W)
    assert read_provenance(run)["ended"]["epoch"] == 1
    assert status_of(dvae_eval, "logz", run, "-q") == 0
    assert status_of(dvae_eval, "report", run, "-q") == 0


def test_an_ended_run_rests_until_epochs_are_named_and_then_ends_as_an_undisturbed_one(tmp_path, capsys):
    run = tmp_path / "run"
    interrupted(run, 15)
    start(tmp_path / "straight", small()).train(Silent())
    for _ in range(2):
        assert status_of(dvae_train, "--end", "--out", run, "-q") == 0
    checkpoint = (run / "checkpoint.pt").read_bytes()
    assert status_of(dvae_train, "--resume", "--out", run) == 0
    assert f"was ended in epoch 2; train it further with: dvae-train --resume --out {run} --epochs 3" in said(
        capsys
    )
    assert (run / "checkpoint.pt").read_bytes() == checkpoint
    assert status_of(dvae_train, "--resume", "--out", run, "--epochs", 3, "-q") == 0
    assert "ended" not in read_provenance(run)
    assert read_metrics(run) == read_metrics(tmp_path / "straight")
    assert_same_weights(run, tmp_path / "straight")


def test_nothing_is_ended_before_the_first_step_nor_after_the_last(tmp_path, run, capsys):
    start(tmp_path / "new", small())
    capsys.readouterr()
    assert status_of(dvae_train, "--end", "--out", tmp_path / "new") == 2
    assert "--end: the run in" in said(capsys)
    assert status_of(dvae_train, "--end", "--out", run) == 0
    assert "is finished after 2 epochs" in said(capsys)
    assert "ended" not in read_provenance(run)


# --- new runs from others ---------------------------------------------------------------------------------------


def test_a_run_starts_from_the_weights_of_another(run, tmp_path, capsys):
    out = tmp_path / "new"
    assert status_of(dvae_train, "--init", run, "--out", out, "--epochs", 1, "--ema-decay", 0.5, "-q") == 0
    config, provenance = read_config(out), read_provenance(out)
    trained = load_model(run)
    assert (config.dataset, config.model) == ("bars-and-stripes", trained.config.model)
    assert config.init == trained.sha256 == provenance["init"]["sha256"]
    assert provenance["init"]["file"] == str(run / "model.pt")
    first = read_metrics(out)[0]["train"]["reconstruction"]
    assert first > read_metrics(run)[0]["train"]["reconstruction"] + 0.4
    # Other weights make another run, with the same settings.
    assert status_of(dvae_train, "--resume", "--out", out, "-q") == 0


def test_the_weights_are_those_of_the_file_at_the_first_step(run, tmp_path):
    trainer = start(tmp_path / "new", small())
    trained = load_model(run)
    other = start(tmp_path / "other", dataclasses.replace(trained.config, init=trained.sha256))
    other.start_from(trained)
    theirs = trained.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in other.model.state_dict().items())
    assert not torch.equal(trainer.model.prior.W, trained.model.prior.W)


def test_a_run_is_repeated_from_its_settings(run, tmp_path, capsys):
    """With the changes on its way; and what is given on the line takes their place, and is said."""
    assert status_of(dvae_train, "--resume", "--out", run, "--epochs", 3, "--sweeps", 1, "--threads", 1, "-q") == 0
    assert status_of(dvae_train, "--config", run, "--out", tmp_path / "again", "--threads", 1, "-q") == 0
    assert_same(run, tmp_path / "again")
    capsys.readouterr()
    config = run / "config.json"
    assert status_of(dvae_train, "--config", config, "--out", tmp_path / "seed", "--seed", 1, "--epochs", 1) == 0
    lines = said(capsys).splitlines()
    assert f"settings of {config}, but --epochs 1 (was 3), --seed 1 (was 0)" in lines
    assert any("changed during training; its final settings apply" in line for line in lines)
    assert read_config(tmp_path / "seed").changes == ()
    assert read_provenance(tmp_path / "seed")["settings_of"] == str(config)


def test_settings_of_a_run_are_for_the_data_that_it_had(tmp_path, capsys):
    images = (np.random.default_rng(0).random((60, 4, 4)) < 0.3).astype(np.uint8)
    data = tmp_path / "mine.npy"
    np.save(data, images)
    assert status_of(dvae_train, data, "--out", tmp_path / "run", *TINY, "--epochs", 1, "-q") == 0
    np.save(data, 1 - images)
    capsys.readouterr()
    assert status_of(dvae_train, "--config", tmp_path / "run", "--out", tmp_path / "x", "-q") == 2
    assert "holds other images than" in said(capsys)
    assert not (tmp_path / "x").exists()
    assert status_of(dvae_train, data, "--config", tmp_path / "run", "--out", tmp_path / "x", "-q") == 0
