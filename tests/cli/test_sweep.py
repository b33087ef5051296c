"""dvae-eval sweep: which runs a grid has, that it goes on where it was left, and that nothing is mixed up."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dvae_cli.commands.sweep.grid import Point, Runs, config_of, grid
from dvae_cli.commands.sweep.progress import STARTING_SECONDS, RunState, plan_line, seconds_left
from dvae_cli.console import SweepProgress
from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ConfigError
from tests.commands import status_of
from tests.places import PACKAGE_ROOTS

TINY = ["bars-and-stripes-2x2", "--left", "3", "--right", "2", "--encoder-hidden", "8"]
TINY += ["--epochs", "1", "--chains", "20", "--sweeps", "2"]
LL = ["--ll", "--samples 20 --limit 30"]


@pytest.fixture
def in_process(monkeypatch):
    """Let the commands run in this process, which spares the start of six; return the list of those that ran."""
    ran = []

    def run(self, arguments, log):
        module, *rest = arguments
        ran.append(arguments)
        return status_of(importlib.import_module(f"dvae_cli.{module}").main, *rest)

    monkeypatch.setattr(Runs, "_run", run)
    return ran


def test_a_grid_is_every_combination_with_every_seed():
    varied = {"groups": ["1", "2"], "encoder-hidden": ["8,8"], "left,right": ["3", "4"]}
    points = grid(Path("out"), ["digits"], varied, range(2))
    assert len(points) == 8
    assert points[1] == Point(
        Path("out/groups-1_encoder-hidden-8x8_left+right-3_seed-1"),
        ("digits", *("--groups", "1", "--encoder-hidden", "8,8", "--left", "3", "--right", "3", "--seed", "1")),
    )
    config = config_of(points[1])
    assert (config.model.n_groups, config.model.encoder_hidden, config.train.seed) == (1, (8, 8), 1)
    assert (config.model.n_left, config.model.n_right) == (3, 3)
    assert [point.name for point in grid(Path("out"), ["digits"], {}, [0])] == ["seed-0"]


def test_two_values_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two runs would have the name"):
        grid(Path("out"), ["digits"], {"groups": ["1", "1"]}, [0])


def test_a_grid_is_made_measured_shown_and_extended(in_process, tmp_path, capsys):
    out = tmp_path / "sweep"
    args = ("--out", out, "--vary", "groups=1 2", *LL)
    assert status_of(dvae_eval, "sweep", *args, *TINY) == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines() if line.startswith("groups")] == [
        *("groups-1_seed-0", "groups-2_seed-0")
    ]
    assert "groups-2_seed-0: log-likelihood" in captured.err
    assert [command[1] for command in in_process if command[0] == "main"] == ["logz", "ll"] * 2
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}

    # Nothing is done twice, and further values and seeds are made beside what there is.
    in_process.clear()
    assert status_of(dvae_eval, "sweep", *args, "-q", *TINY) == 0
    assert in_process == []
    part = ("--out", out, "--vary", "groups=1 2 3", "--seeds", 2, "--part", "2/3", *LL, "-q", *TINY)
    assert status_of(dvae_eval, "sweep", *part) == 0
    assert len(in_process) == 3 * 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.name for path in out.glob("*")} >= {"groups-1_seed-1", "groups-3_seed-0"}
    # Seeds become one row.
    capsys.readouterr()
    assert status_of(dvae_eval, "sweep", "--out", out, "--vary", "groups=1", "--seeds", 2, *LL, "-q", *TINY) == 0
    assert capsys.readouterr().out.count("\ngroups-1 ") == 1

    # The figure of the same runs.
    figure = ("figure", "posterior-layers", *out.glob("*_seed-0"), "-o", tmp_path / "f.svg", "-q")
    assert status_of(dvae_eval, *figure) == 0


def test_a_run_that_was_left_half_way_is_resumed(in_process, tmp_path):
    out = tmp_path / "sweep"
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    (out / "seed-0" / "ll.json").unlink()
    in_process.clear()
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    assert "--resume" in in_process[0]
    assert (out / "seed-0" / "ll.json").exists()


def test_a_run_that_was_ended_is_measured_as_it_is(in_process, tmp_path):
    """Its settings are those of the grid; one that was trained further by hand is refused."""
    out = tmp_path / "sweep"
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    run = out / "seed-0"
    (run / "ll.json").unlink()
    config = json.loads((run / "config.json").read_text())
    config["provenance"]["ended"] = {"epoch": 1, "step": 3, "date": "2026-01-01"}
    (run / "config.json").write_text(json.dumps(config))
    in_process.clear()
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    assert [command[:2] for command in in_process] == [["main", "logz"], ["main", "ll"]]
    config["changes"] = [{"from_epoch": 1, "settings": {"n_sweeps": [9, config["train"]["n_sweeps"]]}}]
    (run / "config.json").write_text(json.dumps(config))
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 2


def test_other_settings_are_refused_before_anything_runs(in_process, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    in_process.clear()
    capsys.readouterr()
    for args, words in (
        ((*LL, *TINY, "--epochs", "2"), "seed-0 has other settings"),
        (("--ll", "--samples 30", *TINY), "--logz, --ll"),
        (("--logz", "--no-such-option", *TINY), "--no-such-option"),
        (("--logz", "--precision=-1", *TINY), "--precision: -1.0 is not allowed"),
        (("--ll", "--samples many", *TINY), "--samples"),
        (("--ll", "--samples 0", *TINY), "--samples: 0 is not allowed"),
        (("--ll", "-o elsewhere.json", *TINY), "--ll: --output is set by the sweep"),
        (("--ll", "--data digits", *TINY), "--ll: --data is set by the sweep"),
        (("--ll", "--method ais", *TINY), "--ll: --method is set by the sweep"),
        (("--ll", "--data 'mine", *TINY), "--ll: No closing quotation"),
        ((*LL, "--vary", "groups=0", *TINY), "--groups: 0 is not allowed"),
        ((*LL, "--vary", "smoothing=sandpaper", *TINY), "sandpaper"),
        ((*LL, "--vary", "colour=red", *TINY), "--colour"),
        ((*LL, "--vary", "groups", *TINY), "groups=1 2 4"),
        ((*LL, "--vary", "groups=1", "--vary", "groups=2", *TINY), "the same option is given twice"),
        ((*LL, "--part", "3/2", *TINY), "3/16"),
        # Of two options of one name the last would count, and runs that differ in name alone come out.
        ((*LL, "--vary", "seed=1 2", *TINY), "--seed: the sweep sets it"),
        ((*LL, *TINY, "--seed", "3"), "--seed: the sweep sets it"),
        ((*LL, *TINY, "-o", "elsewhere"), "--out: the sweep sets it"),
        ((*LL, *TINY, "--device", "cpu"), "--device: the sweep sets it"),
        ((*LL, *TINY, "--resume"), "--resume: the sweep sets it"),
        ((*LL, *TINY, "--data", "digits"), "--data: the sweep sets it for every run; give DATASET"),
    ):
        assert status_of(dvae_eval, "sweep", "--out", out, *args) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err.count("\n")) == ("", 1)
        assert words in captured.err
    assert in_process == []


def test_a_run_that_fails_is_named_and_the_others_go_on(in_process, tmp_path, capsys, monkeypatch):
    out, right = tmp_path / "sweep", Runs._run

    def run(self, arguments, log):
        return 1 if "groups-1_seed-0" in " ".join(arguments) else right(self, arguments, log)

    monkeypatch.setattr(Runs, "_run", run)
    assert status_of(dvae_eval, "sweep", "--out", out, "--vary", "groups=1 2", *LL, *TINY) == 1
    captured = capsys.readouterr()
    assert "groups-1_seed-0: training failed; the reason is at the end of" in captured.err
    assert "groups-2_seed-0" in captured.out


def test_a_number_that_is_not_to_be_trusted_is_the_exit_status(in_process, tmp_path):
    out = tmp_path / "sweep"
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    path = out / "seed-0" / "ll.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trustworthy": False}))
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 3


def test_each_number_is_shown_as_it_comes_and_the_cost_beforehand(in_process, tmp_path, capsys):
    args = ("--out", tmp_path / "sweep", "--vary", "groups=1 2", *LL)
    assert status_of(dvae_eval, "sweep", *args, *TINY) == 0
    said = capsys.readouterr().err
    assert said.startswith("2 runs: 2 epochs of training, then log Z and log-likelihood of each run; the duration")
    first, last = (line for line in said.splitlines() if " of 2 done" in line)
    number = r"log p\(x\) >= -\d+\.\d+ ± \S+ \(images\) ± 0 \(log Z\), checked; log Z = \d+\.\d+, exact"
    assert re.fullmatch(rf"1 of 2 done; about .* left; groups-1_seed-0: {number}", first)
    assert re.fullmatch(rf"2 of 2 done; groups-2_seed-0: {number}", last)
    likelihood = json.loads((tmp_path / "sweep" / "groups-2_seed-0" / "ll.json").read_text())["log_likelihood"]
    assert f">= {likelihood:.2f}" in last


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(in_process, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert status_of(dvae_eval, "sweep", "--out", out, *LL, "-q", *TINY) == 0
    in_process.clear()
    capsys.readouterr()
    assert status_of(dvae_eval, "sweep", "--out", out, "--seeds", 3, *LL, "--dry-run", *TINY) == 0
    first, *points = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "2 runs (1 of 3 are done already): 2 epochs of training, then log Z and log-likelihood of each run; about"
    )
    assert points == ["seed-0: done", "seed-1: pending", "seed-2: pending"]
    assert status_of(dvae_eval, "sweep", "--out", out, "--ll", "--samples 30", "--dry-run", *TINY) == 2
    assert status_of(dvae_eval, "sweep", "--out", tmp_path / "other", "--dry-run", *TINY) == 0
    assert not (tmp_path / "other").exists()
    assert in_process == []


def test_json_has_a_line_for_every_run(in_process, tmp_path, capsys, monkeypatch):
    out, right = tmp_path / "sweep", Runs._run

    def run(self, arguments, log):
        if "groups-2_seed-0" in " ".join(arguments) and arguments[:2] == ["main", "ll"]:
            return 1
        return right(self, arguments, log)

    monkeypatch.setattr(Runs, "_run", run)
    args = ("--out", out, "--vary", "groups=1 2 3", *LL, "--json", *TINY)
    assert status_of(dvae_eval, "sweep", *args[: -len(TINY)], "--dry-run", *TINY) == 0
    pending = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["status"] for one in pending] == ["pending"] * 3
    assert pending[1]["settings"] == {"groups": "2"}
    assert status_of(dvae_eval, "sweep", *args) == 1
    # Commands that run in this process print as well.
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('{"kind": "sweep-run"')]
    found = [json.loads(line) for line in lines]
    assert [one["status"] for one in found] == ["done", "failed", "done"]
    assert found[1]["failure"] == "log-likelihood failed"
    assert found[1]["ll"] is None
    log_z = json.loads((out / "groups-3_seed-0" / "logz.json").read_text())
    assert found[2]["logz"] == {name: log_z[name] for name in ("log_z", "std_err", "verdict", "trustworthy")}
    assert found[2]["directory"] == str(out / "groups-3_seed-0")
    assert found[2]["seed"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_quiet_holds_in_the_threads_of_the_runs_too(monkeypatch, tmp_path, capsys, workers):
    """The context of the command, which knows --quiet, belongs to one thread; with two workers others print."""
    threads = set()

    def fail(self, arguments, log):
        threads.add(threading.current_thread() is threading.main_thread())
        return 1

    monkeypatch.setattr(Runs, "_run", fail)
    args = ("--out", tmp_path / "s", "--vary", "groups=1 2", "--workers", workers, *LL)
    assert status_of(dvae_eval, "sweep", *args, *TINY) == 1
    assert "groups-2_seed-0: training\n" in capsys.readouterr().err
    assert status_of(dvae_eval, "sweep", *args, "--quiet", *TINY) == 1
    assert capsys.readouterr().err == ""
    assert threads == {workers == 1}


def test_the_time_left_is_that_of_epochs_and_measurements_so_far():
    new = RunState(10)
    assert seconds_left([new, new], 1) is None
    half = RunState(10, n_done=5, seconds=20.0)
    # 15 epochs of 4 s; nothing has been measured.
    assert seconds_left([half, new], 1) == 60
    assert seconds_left([half, new], 2) == 30
    assert plan_line([half, new], 1).endswith("about 1 min 0 s left for training, without measurements")
    done = RunState(10, n_done=10, seconds=40.0, measuring=7.0)
    assert seconds_left([done, half, new], 1) == 60 + 2 * 7
    assert seconds_left([done, half, new], 8) == (60 + 2 * 7) / 2
    # What was timed here, with the starts of processes, counts for what is left here.
    timed = RunState(10, n_done=10, seconds=40.0, measuring=13.0, begun=0.0)
    assert seconds_left([done, timed, half], 1) == 20 + 13
    assert seconds_left([done, timed], 1) == 0
    assert plan_line([done, timed], 1) == "all 2 runs are done"


def test_the_bar_claims_no_time_left_while_the_first_runs_are_measured():
    progress = SweepProgress()
    progress.terminal = True

    def left(n_done, seconds):
        progress.runs(n_done, 2, (10, 20), seconds, [])
        return progress.phases["runs"].left()

    assert left(0, None) is None
    assert left(0, 0.0) is None
    assert left(1, 30.0) == 30.0
    assert left(2, 0.0) == 0.0


def test_training_that_stopped_early_has_no_epochs_left(in_process, tmp_path):
    assert status_of(dvae_eval, "sweep", "--out", tmp_path / "s", *LL, "-q", *TINY) == 0
    [point] = grid(tmp_path / "s", TINY, {}, [0])
    state = RunState.of(replace(point, arguments=(*TINY[:-6], "--epochs", "9", *TINY[-4:])))
    assert (state.epochs, state.n_done) == (1, 1)
    assert state.measuring > STARTING_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_all_processes(tmp_path, workers):
    """Training that would take hours is stopped after its first epochs: all processes end, and say so."""
    out = tmp_path / "sweep"
    roots = os.pathsep.join(PACKAGE_ROOTS)
    training = [*TINY[:-6], "--epochs", "100000", "--chains", "20", "--sweeps", "2"]
    args = ["sweep", "--out", str(out), "--vary", "groups=1 2", "--workers", str(workers), *LL, *training]
    command = [sys.executable, "-m", "dvae_cli.main", *args]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": roots}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started = [out / f"groups-{n}_seed-0" / "metrics.jsonl" for n in range(1, workers + 1)]
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in started) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "run the same command again to continue" in said
    for path in started:
        assert "stopped in epoch" in (out / f".{path.parent.name}.log").read_text()
        # Nobody is left: the directory can be locked by the next one.
        lengths = [len(path.read_text().splitlines()) for _ in range(2) if not time.sleep(1)]
        assert lengths[0] == lengths[1] > 0
