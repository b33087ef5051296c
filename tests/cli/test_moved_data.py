"""Runs and data that have moved: digests, not paths, say what belongs together."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.training.trainer import Trainer
from tests.commands import SMALL, status_of

TINY = (*SMALL[:-6], "--prior-hidden", "none", "--chains", "20", "--sweeps", "2", "--threads", "1", "--quiet")
LL = ("--samples", 20, "--limit", 3, "--simulated", 0, "--quiet")
GRADIENTS = ("--samples", 20, "--limit", 2, "--quiet")


def save_images(path, seed):
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.random.default_rng(seed).integers(0, 2, (40, 4, 4)).astype(np.uint8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs on old/mine.npy, whose data are now in new/; others.npy are not its own."""
    place = tmp_path_factory.mktemp("moved")
    save_images(place / "old" / "mine.npy", 0)
    assert status_of(dvae_train, place / "old" / "mine.npy", "--out", place / "run", "--epochs", 2, *TINY) == 0
    save_images(place / "others.npy", 1)
    (place / "old").rename(place / "new")
    return place


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, which is a run that has moved."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def refusal(capsys, main, *args):
    """Return the one line with which a command refuses."""
    capsys.readouterr()
    assert status_of(main, *args) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err


def commands(run):
    """Return the commands that need the data of the training."""
    return [
        (dvae_train, "--resume", "--out", run, "--quiet"),
        (dvae_eval, "report", run, "--quiet"),
        (dvae_eval, "samples", run, "--quiet"),
        (dvae_eval, "ll", run, *LL),
        (dvae_eval, "gradients", run, *GRADIENTS),
    ]


def test_where_the_data_are_gone_every_command_says_what_to_give(trained, run, capsys):
    before = {path: path.read_bytes() for path in run.iterdir()}
    gone = trained / "old" / "mine.npy"
    words = f"{gone}: the training data are not there; give --data PATH if they have moved\n"
    for command in commands(run):
        assert refusal(capsys, *command).split(": ", 1)[1] == words
    assert {path: path.read_bytes() for path in run.iterdir() if path.name != ".lock"} == {
        path: content for path, content in before.items() if path.name != ".lock"
    }


def test_other_data_are_refused(trained, run, capsys):
    """But by ll and gradients, which measure on any data, and name them."""
    others = trained / "others.npy"
    for command in commands(run)[:3]:
        said = refusal(capsys, *command, "--data", others)
        assert re.search(f"--data: {re.escape(str(others))} .*training", said)
        assert re.search("; give .*, or (leave it out|omit the option)\n$", said)
    assert "none.npy" in refusal(capsys, *commands(run)[0], "--data", trained / "none.npy")
    assert not list(run.glob("samples*"))
    assert not list(run.glob("report*"))


def test_data_that_were_altered_in_their_place_are_refused(trained, run, capsys):
    gone = trained / "old" / "mine.npy"
    save_images(gone, 1)
    try:
        for command in commands(run):
            assert re.search(f"{re.escape(str(gone))}: .* the training; ", refusal(capsys, *command))
    finally:
        shutil.rmtree(gone.parent)


def test_data_elsewhere_serve_every_command(trained, run):
    """With the results of the training's data: ll.json and gradients.json that name no other data."""
    new = ("--data", trained / "new" / "mine.npy")
    for command in commands(run):
        assert status_of(*command, *new) in (0, 3)
    assert {"report.html", "samples.npz", "ll.json", "gradients.json"} <= {path.name for path in run.iterdir()}
    for name in ("ll.json", "gradients.json"):
        assert "data" not in json.loads((run / name).read_text())["settings"]


def test_a_run_goes_on_bit_for_bit_with_data_that_moved(tmp_path, monkeypatch):
    """Stopped after its first epoch, moved, and resumed with its data elsewhere: the models are equal."""
    data, moved = tmp_path / "old" / "mine.npy", tmp_path / "new" / "mine.npy"
    save_images(data, 0)
    one_epoch = Trainer._one_epoch

    def stop_after_first(trainer, progress):
        trainer.stop_requested = trainer.epoch == 1
        one_epoch(trainer, progress)

    assert status_of(dvae_train, data, "--out", tmp_path / "whole", "--epochs", 2, *TINY) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_epoch", stop_after_first)
        assert status_of(dvae_train, data, "--out", tmp_path / "stopped", "--epochs", 2, *TINY) == 130
    data.parent.rename(moved.parent)
    again = (tmp_path / "stopped").rename(tmp_path / "again")
    options = ("--data", moved, "--threads", "1", "--quiet")
    assert status_of(dvae_train, "--resume", "--out", again, *options) == 0
    assert (again / "model.pt").read_bytes() == (tmp_path / "whole" / "model.pt").read_bytes()


def test_data_are_matched_to_the_runs_of_a_report(trained, run, tmp_path, capsys):
    """Several runs, of which one's data have moved: the digest says which."""
    builtin = tmp_path / "builtin"
    assert status_of(dvae_train, "bars-and-stripes", "--out", builtin, "--epochs", 1, *TINY) == 0
    new = trained / "new" / "mine.npy"
    page = tmp_path / "page.html"
    assert status_of(dvae_eval, "report", builtin, run, "--data", new, "-o", page, "--quiet") == 0
    assert page.exists()
    said = refusal(capsys, dvae_eval, "report", builtin, run, "--data", new, "--data", trained / "others.npy")
    assert "others.npy is not the training data of" in said


def test_results_of_a_run_that_moved_are_the_same_work(trained, run, tmp_path, capsys):
    """Nothing asks for a second file, though the results name the model by its former path."""
    new = ("--data", trained / "new" / "mine.npy")
    assert status_of(dvae_eval, "logz", run, "--quiet") == 0
    assert status_of(dvae_eval, "ll", run, *LL, *new) in (0, 3)
    moved = run.rename(tmp_path / "moved")
    names = {path.name for path in moved.iterdir()}
    for command in (("logz", moved, "--quiet"), ("ll", moved, *LL, *new), ("table", moved)):
        assert status_of(dvae_eval, *command) in (0, 3)
    assert {path.name for path in moved.iterdir()} == names
    result = json.loads((moved / "ll.json").read_text())
    assert result["model"]["file"] == str(moved / "model.pt")
    assert result["log_z_source"] == str(moved / "logz.json")


def test_data_are_for_a_run_that_is_resumed(run, tmp_path, capsys):
    said = refusal(capsys, dvae_train, "digits", "--out", tmp_path / "x", "--data", "digits")
    assert said == "dvae-train: --data: applies only with --resume or --end; give new data as DATASET\n"
    assert "--data PATH if the data have moved" in refusal(capsys, dvae_train, "digits", "--resume", "--out", run)
