"""dvae-eval ll as its users meet it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.data import load
from dvae_core.errors import ResultError
from dvae_eval.likelihood import checks as likelihood_checks
from dvae_eval.likelihood import image_tasks
from dvae_eval.results import LikelihoodResult, load_result
from dvae_eval.runtime import resume
from tests.commands import SMALL, status_of
from tests.places import PACKAGE_ROOTS


@pytest.fixture
def args(run, tmp_path):
    """The command on 20 images, with a result in an empty directory."""
    return ["ll", run / "model.pt", "--samples", "50", "--limit", "20", "-o", tmp_path / "ll.json"]


def result_of(tmp_path, name="ll.json"):
    return json.loads((tmp_path / name).read_text())


def test_a_result_says_all_that_belongs_to_it(args, tmp_path, capsys):
    assert status_of(dvae_eval, *args, "--bits") == 0
    words = capsys.readouterr().err
    assert "20 images x 50 samples: about" in words
    assert "20 simulated images x 50 samples: about" in words
    assert "gap on 20 simulated images: " in words
    assert "50 samples are too few to estimate how far the bound lies below log p(x)" in words
    assert "bits per dimension" in words
    assert {p.name for p in tmp_path.iterdir()} == {"ll.json", "ll.images.npz", "ll.state.npz"}
    result = result_of(tmp_path)
    assert result["gap"] is None
    assert result["method"] == "importance"
    assert result["bits_per_dim"] == pytest.approx(-result["log_likelihood"] / 16 / 0.6931471805599453)
    assert set(result["per_image"]) == {"index", "log_likelihood", "elbo", "ess", "pareto_k", "bias", "label"}


def test_a_result_of_an_earlier_version_reads_as_one_of_today(args, tmp_path):
    """Parts that have new names are found under them; hostile ones are left as they are."""
    assert status_of(dvae_eval, *args, "--quiet", "--no-smoothing", "--samples", 200) in (0, 3)
    today = load_result(tmp_path / "ll.json")
    assert today.settings["as_trained"] is False
    data = result_of(tmp_path)
    data["settings"]["smoothing"] = data["settings"].pop("as_trained")
    simulated = data["diagnostics"]["simulated"]
    simulated["told"] = simulated.pop("gap_from_proposals")
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert load_result(tmp_path / "old.json") == today
    data["diagnostics"] = {"simulated": [1]}
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert load_result(tmp_path / "old.json").diagnostics == {"simulated": [1]}


def test_inspect_says_a_number_whose_gap_is_not_known(args, tmp_path, capsys):
    assert status_of(dvae_eval, *args, "--quiet") == 0
    assert status_of(dvae_eval, "inspect", tmp_path / "ll.json") == 0
    assert f"says: {load_result(tmp_path / 'll.json')}\n" in capsys.readouterr().out


def test_a_gap_that_is_too_wide_is_a_warning(args, tmp_path, monkeypatch, capsys):
    """A bound that is loose holds all the same."""
    monkeypatch.setattr(likelihood_checks, "GAP_LIMIT", -1.0)
    assert status_of(dvae_eval, *args, "--samples", 200) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("log p(x) >=")
    assert "verdict: loose; " in captured.err
    found = json.loads((tmp_path / "ll.json").read_text())
    assert (found["verdict"], found["trustworthy"], found["reasons"]) == ("loose", True, [])
    assert any("limit <= -1" in warning for warning in found["warnings"])
    assert "estimated gap of the bound below log p(x): " in captured.err
    assert "the bound holds, but is loose" in captured.err


def test_simulated_images_are_as_many_as_asked_for(args, tmp_path, capsys):
    assert status_of(dvae_eval, *args, "--simulated", 0) == 0
    assert "the gap was not estimated on simulated images: --simulated 0" in capsys.readouterr().err
    assert result_of(tmp_path)["simulated_gap"] is None
    status = status_of(dvae_eval, *args, "--force", "--simulated", 1, "--samples", 100)
    assert "gap on 1 simulated images" not in (words := capsys.readouterr().err)
    assert "gap on 1 simulated image: " in words
    found = result_of(tmp_path)
    assert status == (0 if found["trustworthy"] else 3)
    assert len(found["diagnostics"]["simulated"]["differences"]) == 1
    assert found["simulated_std_err"] is None


def test_a_part_that_q_misses_is_said_first_and_exits_3(args, monkeypatch, capsys):
    monkeypatch.setattr(likelihood_checks, "HIDDEN_GAP", -9.0)
    monkeypatch.setattr(likelihood_checks, "HIDDEN_SHARE", -9.0)
    assert status_of(dvae_eval, *args, "--samples", 200) == 3
    captured = capsys.readouterr()
    assert captured.out.startswith("NOT TO BE TRUSTED: log p(x) >=")
    assert "q rarely proposes some latents that the model uses" in captured.err


def test_annealing_has_a_file_of_its_own(run, tmp_path, capsys):
    """RUN/ll.json stays what importance weighting found."""
    place = tmp_path / "run"
    place.mkdir()
    for name in ("model.pt", "config.json"):
        (place / name).write_bytes((run / name).read_bytes())
    options = ("--samples", 100, "--limit", 3, "--ais-chains", 20, "--ais-steps", 20)
    assert status_of(dvae_eval, "ll", place / "model.pt", "--method", "ais", *options) in (0, 3)
    made = {"ll-ais.json", "ll-ais.images.npz", "ll-ais.state.npz"}
    assert {p.name for p in place.iterdir()} == {"model.pt", "config.json", *made}
    assert "importance weighting on the same images" in capsys.readouterr().err
    assert result_of(place, "ll-ais.json")["n_samples"] == 20


def test_other_data_have_a_file_of_their_own_and_are_named_in_it(run, tmp_path):
    """RUN/ll.json stays that of the training's data, whatever their name is; a table says what was measured."""
    place, options = tmp_path / "run", ("--samples", 20, "--limit", 3, "--simulated", 0, "--quiet")
    place.mkdir()
    for name in ("model.pt", "config.json"):
        (place / name).write_bytes((run / name).read_bytes())
    np.save(tmp_path / "others.npy", np.random.default_rng(0).integers(0, 2, (40, 4, 4)).astype(np.uint8))
    model = place / "model.pt"
    assert status_of(dvae_eval, "ll", model, *options) == 0
    before = (place / "ll.json").read_bytes()
    assert status_of(dvae_eval, "ll", model, "--data", tmp_path / "others.npy", *options) == 0
    assert (place / "ll.json").read_bytes() == before
    settings = result_of(place, "ll-others.json")["settings"]
    assert settings["data"] == str(tmp_path / "others.npy")
    assert settings["data_sha256"] == load(str(tmp_path / "others.npy")).digest()
    assert status_of(dvae_eval, "ll", model, "--data", "bars-and-stripes-4x4", *options) == 0
    assert not (place / "ll-bars-and-stripes-4x4.json").exists()
    assert "data" not in result_of(place)["settings"]


def test_data_that_changed_since_training_are_refused_unless_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("mine.npy", rng.integers(0, 2, (40, 4, 4)).astype(np.uint8))
    tiny = (*SMALL[:-6], "--epochs", "1")
    assert status_of(dvae_train, "mine.npy", "--out", "run", "--quiet", *tiny) == 0
    np.save("mine.npy", rng.integers(0, 2, (40, 4, 4)).astype(np.uint8))
    options = ("--samples", 20, "--simulated", 0, "--quiet")
    assert status_of(dvae_eval, "ll", "run/model.pt", *options) == 2
    words = (
        "mine.npy: changed since the training; restore it, or give --data mine.npy to measure on the new images"
    )
    assert capsys.readouterr().err == f"dvae-eval: {words}\n"
    assert not list(Path("run").glob("ll*"))
    assert status_of(dvae_eval, "ll", "run/model.pt", "--data", "mine.npy", "-o", "new.json", *options) == 0
    assert result_of(Path(), "new.json")["settings"]["data"] == "mine.npy"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "5 elephants"), "--memory"),
        (("--memory", "1MB"), "is less than the"),
        (("--precision", "tf32"), "--precision: tf32 needs CUDA"),
        (("--plot", "figure.txt"), "--plot"),
        (("--workers", "0"), "--workers"),
        (("--log-z-error", "0"), "--log-z-error"),
    ],
)
def test_bad_options_give_one_line_and_status_2(args, tmp_path, capsys, options, words):
    assert status_of(dvae_eval, *args, "--quiet", *options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not (tmp_path / "ll.json").exists()


def test_another_file_of_a_run_is_refused_by_what_it_is(run, capsys):
    assert status_of(dvae_eval, "ll", run / "checkpoint.pt") == 2
    words = "not a dvae-model file but dvae-training; give that of a training run"
    assert capsys.readouterr().err == f"dvae-eval: {run / 'checkpoint.pt'}: {words}\n"


def test_a_figure_is_drawn(args, tmp_path):
    assert status_of(dvae_eval, *args, "--quiet", "--plot", tmp_path / "ll.png") == 0
    assert (tmp_path / "ll.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["ll", "gradients"])
def test_a_figure_is_not_written_over(run, tmp_path, capsys, command):
    """The message named --output."""
    (tmp_path / "old.png").touch()
    args = (command, run / "model.pt", "-o", tmp_path / "new.json", "--plot", tmp_path / "old.png")
    assert status_of(dvae_eval, *args) == 2
    assert capsys.readouterr().err.startswith(f"dvae-eval: --plot: {tmp_path / 'old.png'} exists; give --force")


def test_log_z_is_estimated_until_it_is_precise_enough(args, tmp_path, monkeypatch):
    """By tempering, though the machine is small enough for the exact value."""
    from dvae_cli import inputs

    estimate = inputs.estimate_with_progress

    def tempered(machine, config, *others, **more):
        return estimate(machine, dataclasses.replace(config, method="pt-bar"), *others, **more)

    monkeypatch.setattr(inputs, "estimate_with_progress", tempered)
    assert status_of(dvae_eval, *args, "--quiet", "--log-z-error", "0.01") == 0
    result = result_of(tmp_path)
    assert 0 < result["std_err_log_z"] <= 0.01
    assert result["log_z_source"] == "estimated on the way"


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(args, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)
    assert status_of(dvae_eval, *args, "--quiet", "-o", tmp_path / "whole.json") == 0
    save, saved = resume.PartStore.save, []

    def interrupted(self, positions, weights):
        save(self, positions, weights)
        saved.append(positions)
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.PartStore, "save", interrupted)
        assert status_of(dvae_eval, *args, "--quiet") == 130
    said = capsys.readouterr().err
    assert f"images are saved in {tmp_path / 'll.shards'}; run the same command again to continue" in said
    assert status_of(dvae_eval, *args) == 0
    assert "3 of them finished before" in capsys.readouterr().err
    assert not (tmp_path / "ll.shards").exists()
    assert result_of(tmp_path)["per_image"] == result_of(tmp_path, "whole.json")["per_image"]


def test_a_state_with_other_settings_is_reported(args, tmp_path, capsys):
    assert status_of(dvae_eval, *args) == 0
    said = "ll.state.npz could not be continued (another model, other settings, or too short a run)"
    assert status_of(dvae_eval, *args, "--force") == 0
    assert said not in capsys.readouterr().err
    assert status_of(dvae_eval, *args, "--force", "--limit", 25) == 0
    assert said not in capsys.readouterr().err
    assert status_of(dvae_eval, *args, "--force", "--seed", 1) == 0
    assert said in capsys.readouterr().err


def test_shards_stay_until_the_result_is_written(args, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "ll.json")

    with monkeypatch.context() as patch:
        patch.setattr(LikelihoodResult, "save", full)
        assert status_of(dvae_eval, *args, "--quiet") == 2
    assert list(tmp_path.glob("ll.shards/*/*.npz"))
    assert status_of(dvae_eval, *args, "--quiet") == 0
    assert not (tmp_path / "ll.shards").exists()


@pytest.mark.slow
def test_ctrl_c_among_processes(args, tmp_path):
    """A terminal sends SIGINT to all processes of a command: one line, no traceback, and nobody is left."""
    code = f"import sys; sys.path[:0] = {PACKAGE_ROOTS!r}\nfrom dvae_eval.likelihood import image_tasks\n"
    code += "image_tasks.SHARD_SECONDS = 0.0\n"
    code += "from dvae_cli.main import main\nmain(sys.argv[1:])"
    line = [sys.executable, "-c", code, *map(str, args), "--workers", "2", "--samples", "2000000"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("ll.shards/*/*.npz")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "run the same command again to continue" in said


def test_a_result_of_an_earlier_version_is_read(args, tmp_path):
    assert status_of(dvae_eval, *args, "--quiet") == 0
    data = result_of(tmp_path)
    for name in (
        "gap",
        "n_suspect",
        "bits_per_dim",
        "method",
        "simulated_gap",
        "simulated_std_err",
        "simulated_bound",
    ):
        del data[name]
    del data["diagnostics"]["simulated"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    old = load_result(tmp_path / "old.json")
    assert isinstance(old, LikelihoodResult)
    assert (old.gap, old.method) == (None, "importance")
    (tmp_path / "new.json").write_text(json.dumps({**data, "wonder": 1}))
    with pytest.raises(ResultError, match="wonder; make the result again"):
        load_result(tmp_path / "new.json")
