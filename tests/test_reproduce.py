"""reproduce/: its scripts ask for what the commands offer, and the results page is what its commands print."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dvae_cli.commands.sweep import command as sweep
from dvae_cli.commands.sweep.grid import config_of, grid
from dvae_cli.main import group
from dvae_cli.main import main as dvae_eval

ROOT = Path(__file__).resolve().parent.parent
REPRODUCE = ROOT / "reproduce"
RECORD = '#!/bin/sh\nfor word; do printf "%s\\037" "$word"; done >> "$CALLS"\necho >> "$CALLS"\n'


def module(name):
    """Return a script of reproduce/ as a module."""
    spec = importlib.util.spec_from_file_location(f"reproduce_{name}", REPRODUCE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def calls(script, tmp_path, **environment):
    """Return the arguments of every dvae-eval that a script runs."""
    (tmp_path / "dvae-eval").write_text(RECORD)
    (tmp_path / "dvae-eval").chmod(0o755)
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "RUNS": str(tmp_path)}
    for data in ("caltech101", "mnist-static", "omniglot", "mnist"):
        run = tmp_path / "datasets" / data / "prior-rbm_seed-0"
        run.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "metrics.jsonl", "model.pt", "logz.json"):
            (run / file).touch()
    subprocess.run(["sh", REPRODUCE / script], check=True, capture_output=True, env=known | environment)
    return [line.split("\x1f")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.parametrize(
    ("script", "n_runs"),
    [
        ("ablation.sh", 7),
        ("datasets.sh", 8),
        ("table1.sh", 0),
        ("lowest-rung.sh", 3),
        ("figure6.sh", 12),
        ("later.sh", 6),
    ],
)
def test_the_scripts_ask_for_runs_that_can_be_made(script, n_runs, tmp_path):
    found = 0
    for name, *arguments in calls(script, tmp_path):
        command = group.get_command(click.Context(group), name)
        parameters = command.make_context(name, arguments).params
        if command is sweep.command:
            points = grid(
                parameters["out"], parameters["training"], dict(parameters["vary"]), range(parameters["seeds"])
            )
            assert all(config_of(point).train.epochs > 0 for point in points)
            found += len(points)
    assert found == n_runs


def test_settings_come_from_the_environment(tmp_path):
    first, *_ = calls("ablation.sh", tmp_path, EPOCHS="3", SAMPLES="70", LIMIT="8", WORKERS="5", SEEDS="2")
    parameters = sweep.command.make_context("sweep", first[1:]).params
    assert (parameters["workers"], parameters["seeds"]) == (5, 2)
    assert parameters["likelihood"] == "--samples 70 --limit 8"
    points = grid(parameters["out"], parameters["training"], dict(parameters["vary"]), [0])
    assert {config_of(point).train.epochs for point in points} == {3}


def test_table_1_measures_the_whole_test_set_once(tmp_path):
    found = calls("table1.sh", tmp_path, LIMIT="8")
    assert len(found) == 4
    assert not any("--limit" in arguments for arguments in found)
    (tmp_path / "table1" / "omniglot" / "ll.json").touch()
    assert not any("omniglot" in " ".join(words) for words in calls("table1.sh", tmp_path)[len(found) :])


def test_a_failure_ends_a_script_and_a_verdict_does_not(tmp_path):
    for status, reached in ((2, ""), (3, "end")):
        text = f'. {REPRODUCE}/settings.sh; go sh -c "exit {status}"; echo end'
        done = subprocess.run(["sh", "-c", text], capture_output=True, encoding="utf-8")
        assert done.stdout.strip() == reached


def test_what_is_kept_of_a_run_is_measured_as_the_run_is(tmp_path, capsys):
    run = tmp_path / "runs" / "one"
    training = ["bars-and-stripes-2x2", "--left", "3", "--right", "2", "--encoder-hidden", "8", "--epochs", "1"]
    subprocess.run([sys.executable, "-m", "dvae_cli.train", *training, "-q", "--out", run], check=True)
    for arguments in (["logz", "-q", f"{run}/model.pt"], ["ll", "--samples", "20", "-q", f"{run}/model.pt"]):
        with pytest.raises(SystemExit) as exit:
            dvae_eval(arguments)
        assert exit.value.code in (0, 3)
    module("collect").main(tmp_path / "runs", tmp_path / "kept")
    kept = tmp_path / "kept" / "one"
    assert sorted(path.name for path in kept.iterdir()) == [
        *("config.json", "ll.json", "logz.json", "metrics.jsonl", "prior.npz")
    ]
    tables = []
    for directory in (run, kept):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            dvae_eval(["table", "--kind", "results", str(directory)])
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != ""
    with pytest.raises(SystemExit):
        dvae_eval(["logz", str(kept / "prior.npz"), "--json", "-q"])
    log_z = json.loads(capsys.readouterr().out)["log_z"]
    assert log_z == pytest.approx(json.loads((run / "logz.json").read_text())["log_z"], abs=1e-12)


def test_the_page_holds_what_its_commands_print(monkeypatch, capsys):
    """Tables are made again; figures, which would be written into the tree, are only looked for."""
    page = module("page")
    run = page.output

    def printed(command):
        if command.startswith("python"):
            return run(command)
        words = [part for word in command.split() for part in page.expanded(word)][1:]
        if "-o" in words:
            assert (ROOT / words[words.index("-o") + 1]).exists()
            return ""
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            dvae_eval(words)
        assert exit.value.code in (0, None, 3)
        return capsys.readouterr().out

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(page, "output", printed)
    made = page.made(page.TEMPLATE.read_text(encoding="utf-8"))
    assert made == page.PAGE.read_text(encoding="utf-8"), "run python reproduce/page.py"


def test_a_command_that_fails_ends_the_page():
    with pytest.raises(SystemExit, match=r"table.*missing"):
        module("page").output("dvae-eval table missing")
