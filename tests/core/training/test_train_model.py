"""Training from Python: a run like the command's; and the callbacks and logs that hear of it."""

import dataclasses
import inspect
import json
import shutil
import sys

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core import (
    Callback,
    ModelConfig,
    TrainConfig,
    flat_metrics,
    load_data,
    load_model,
    train_model,
)
from dvae_core.errors import CheckpointError, ConfigError, DataError
from dvae_core.training.run_directory import read_config, read_provenance
from tests.cli.test_continue_command import TINY, said
from tests.commands import status_of
from tests.core.training.test_train import read_metrics

SETTINGS = {"n_left": 4, "n_right": 4, "n_groups": 2, "n_layers": 1, "n_continuous": 2, "encoder_hidden": [16]}
SETTINGS |= {"epochs": 2, "n_chains": 20, "n_sweeps": 2, "batch_size": 50}


class Heard(Callback):
    """Counts steps and keeps the metrics."""

    def __init__(self):
        self.steps, self.epochs = 0, []

    def step(self, epoch, step, n_steps, elbo):
        self.steps += 1

    def epoch(self, metrics):
        self.epochs.append(metrics)


def images(seed=0, n=60):
    return (np.random.default_rng(seed).random((n, 4, 4)) < 0.3).astype(np.uint8)


def files(run):
    return {path.name for path in run.iterdir() if path.name != ".lock"}


def test_a_run_from_python_is_the_commands(tmp_path):
    out = tmp_path / "command"
    assert status_of(dvae_train, "bars-and-stripes", "--out", out, *TINY, "--epochs", 2, "-q") == 0
    run = train_model("bars-and-stripes", out=tmp_path / "python", **SETTINGS)
    assert files(run) == files(out)
    for name in ("model.pt", "checkpoint.pt", "prior-trajectory.npz"):
        assert (run / name).read_bytes() == (out / name).read_bytes()
    assert read_config(run) == read_config(out)
    ours, theirs = read_provenance(run), read_provenance(out)
    assert theirs.pop("command")[0] == "dvae-train"
    assert ours == theirs
    # And continued.
    more = ("--epochs", 3, "--learning-rate", 1e-3, "--threads", 1, "-q")
    assert status_of(dvae_train, "--resume", "--out", out, *more) == 0
    assert train_model(out=run, resume=True, epochs=3, learning_rate=1e-3) == run
    assert (run / "model.pt").read_bytes() == (out / "model.pt").read_bytes()


def test_arrays_are_kept_in_the_run_and_every_command_finds_them(tmp_path):
    heard, other = Heard(), Heard()
    run = train_model(images(), out=tmp_path / "run", callback=[heard, other], **SETTINGS)
    assert [metrics["epoch"] for metrics in heard.epochs] == [1, 2]
    assert heard.epochs == [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert (heard.steps, heard.epochs) == (other.steps, other.epochs)
    assert heard.steps == heard.epochs[-1]["step"]
    assert load_data(run / "data.npz").digest() == read_provenance(run)["data_sha256"]
    for args in (("logz", run), ("ll", run, "--samples", 20, "--limit", 5), ("report", run)):
        assert status_of(dvae_eval, *args, "-q") in (0, 3)
    assert json.loads((run / "ll.json").read_text())["n_images"] == 5
    # Settings of that run, for other images that are given.
    splits = {"train": images(1), "valid": images(2, 9), "test": images(3, 8)}
    again = train_model(splits, out=tmp_path / "b", config=run, epochs=1)
    assert read_config(again).model == read_config(run).model
    assert len(load_data(again / "data.npz").valid) == 9


def test_grey_and_dim_images_are_read_back_as_they_were(tmp_path):
    """Kept as they were given: as whole numbers, dim ones would be taken for another scale."""
    dim = np.random.default_rng(0).random((40, 16)) * 0.4
    run = train_model(dim, out=tmp_path / "run", **SETTINGS | {"epochs": 1})
    assert load_data(run / "data.npz").digest() == read_provenance(run)["data_sha256"]
    assert train_model(dim, out=run, resume=True, epochs=2) == run
    with pytest.raises(DataError, match="holds other images"):
        train_model(dim[::-1] / 2, out=run, resume=True, epochs=3)


def test_a_model_is_read_from_its_run_and_starts_another(tmp_path):
    first = train_model("bars-and-stripes", out=tmp_path / "first", **SETTINGS)
    assert load_model(first).sha256 == load_model(first / "model.pt").sha256
    second = train_model("bars-and-stripes", out=tmp_path / "second", init=first, epochs=1, n_sweeps=2)
    assert read_config(second).init == load_model(first).sha256
    # Repeated from its settings, which remember the weights; and refused when they are gone.
    third = train_model(out=tmp_path / "third", config=second)
    assert (third / "checkpoint.pt").read_bytes() == (second / "checkpoint.pt").read_bytes()
    shutil.rmtree(first)
    with pytest.raises(ConfigError, match="which no longer exists; give --init"):
        train_model(out=tmp_path / "fourth", config=second)


def test_a_graph_is_a_name_or_a_file_of_edges(tmp_path):
    (tmp_path / "edges.txt").write_text("0 1\n1 2\n3 7\n")
    settings = SETTINGS | {"epochs": 1, "prior": "graph"}
    run = train_model("bars-and-stripes", out=tmp_path / "run", graph=tmp_path / "edges.txt", **settings)
    assert read_config(run).model.graph == "0-1,1-2,3-7"
    with pytest.raises(ConfigError, match=r"prior of .* has another graph"):
        train_model(out=tmp_path / "x", init=run, graph="1-2,3-4,5-7")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"epoch": 3}, ConfigError, r"epoch: no such setting; did you mean epochs\?"),
        ({"epochs": 0}, ConfigError, "--epochs: 0 is not allowed"),
        ({"preset": "huge"}, ConfigError, "huge"),
        ({"resume": True}, CheckpointError, r"holds no run that can be resumed or ended .*; check the path"),
        ({"resume": True, "init": "x"}, ConfigError, "--init: begins a new run"),
        ({"log": "paper"}, ConfigError, "--log: 'paper' is not known"),
        ({"init": "nowhere.pt"}, CheckpointError, "nowhere.pt"),
        ({"data": np.full((9, 4), 7.5)}, DataError, "data.npz"),
        ({"data": None}, ConfigError, "DATASET is missing"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(tmp_path, arguments, error, words):
    with pytest.raises(error, match=words):
        train_model(**{"data": "digits", "out": tmp_path / "x", **arguments})
    assert not (tmp_path / "x" / "config.json").exists()
    assert not (tmp_path / "x" / "data.npz").exists()


def test_a_callback_that_fails_leaves_a_run_that_can_be_resumed(tmp_path):
    class Fails(Heard):
        def epoch(self, metrics):
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        train_model("bars-and-stripes", out=tmp_path / "run", callback=Fails(), **SETTINGS)
    run = train_model(out=tmp_path / "run", resume=True)
    straight = train_model("bars-and-stripes", out=tmp_path / "straight", **SETTINGS)
    assert (run / "model.pt").read_bytes() == (straight / "model.pt").read_bytes()


def test_metrics_are_flattened():
    line = {"epoch": 2, "valid": {"elbo": -3.5, "kl_continuous": [0.5, 0.25]}}
    assert flat_metrics(line) == {
        "epoch": 2,
        "valid/elbo": -3.5,
        "valid/kl_continuous/1": 0.5,
        "valid/kl_continuous/2": 0.25,
    }


# --- TensorBoard ------------------------------------------------------------------------------------------------


def scalars(run):
    """Return the steps and values that TensorBoard shows, by name."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_every_epoch_once_whatever_was_stopped(tmp_path):
    """Stopped when two epochs were logged and not saved: they are made, and written, again."""
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    args = ("--out", run, *TINY, "--epochs", 2, "-q", "--log", "tensorboard")
    assert status_of(dvae_train, "bars-and-stripes", *args) == 0
    checkpoint = (run / "checkpoint.pt").read_bytes()
    more = ("--resume", "--out", run, "--epochs", 4, "--threads", 1, "-q", "--log", "tensorboard")
    assert status_of(dvae_train, *more) == 0
    (run / "checkpoint.pt").write_bytes(checkpoint)
    assert status_of(dvae_train, *more) == 0
    lines = read_metrics(run)
    shown = scalars(run)
    assert [step for step, _ in shown["valid/elbo"]] == [line["step"] for line in lines]
    assert [value for _, value in shown["valid/elbo"]] == pytest.approx([line["valid"]["elbo"] for line in lines])
    assert set(shown) == set(flat_metrics(json.loads((run / "metrics.jsonl").read_text().splitlines()[0]))) - {
        "step"
    }


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    args = ("bars-and-stripes", "--out", tmp_path / "x", *TINY)
    assert status_of(dvae_train, *args, "--log", "tensorboard") == 2
    assert said(capsys) == (
        "dvae-train: --log: tensorboard is not installed; run pip install 'dvae-toolkit[tensorboard]'\n"
    )
    assert not (tmp_path / "x").exists()


def test_nothing_of_tensorboard_is_imported_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    train_model("bars-and-stripes", out=tmp_path / "run", **SETTINGS | {"epochs": 1})


def test_help_and_completion_show_every_setting():
    shown = inspect.signature(train_model).parameters
    names = {field.name for cls in (ModelConfig, TrainConfig) for field in dataclasses.fields(cls)}
    assert names <= set(shown)
    assert "settings" not in shown
    assert "batch_size : int | None\n    Images per minibatch." in inspect.getdoc(train_model)
