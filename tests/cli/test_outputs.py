"""What commands write is never lost to something lesser, and no pipe, device or link becomes a file."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_eval.results import load_result
from dvae_eval.samples.grid import SampleGrid
from tests.commands import SMALL, status_of
from tests.places import PACKAGE_ROOTS

LONG, SHORT = ("--method", "pt-bar", "--sweeps", "2000"), ("--method", "pt-bar", "--sweeps", "60")


def results(run, pattern):
    return sorted(path.name for path in run.glob(pattern))


def test_a_better_log_z_stays(run, capsys):
    assert status_of(dvae_eval, "logz", run, *LONG) == 0
    before = (run / "logz.json").read_bytes()
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    assert (run / "logz.json").read_bytes() == before
    lesser = load_result(run / "logz-2.json")
    assert lesser.std_err > load_result(run / "logz.json").std_err
    said = f"{run}/logz.json holds a better result and is kept; this result goes to {run}/logz-2.json"
    assert said in capsys.readouterr().err
    # The same again is no third result, and another one is.
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    assert results(run, "logz*.json") == ["logz-2.json", "logz.json"]
    assert status_of(dvae_eval, "logz", run, *SHORT, "--seed", 1) == 0
    assert results(run, "logz*.json") == ["logz-2.json", "logz-3.json", "logz.json"]
    assert (run / "logz.json").read_bytes() == before


def test_a_better_log_z_takes_the_place_of_a_worse_one(run):
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    assert status_of(dvae_eval, "logz", run, *LONG) == 0
    assert status_of(dvae_eval, "logz", run) == 0
    assert load_result(run / "logz.json").method == "exact"
    assert results(run, "logz*.json") == ["logz.json"]


def test_force_replaces_what_is_better(run):
    assert status_of(dvae_eval, "logz", run) == 0
    assert status_of(dvae_eval, "logz", run, *SHORT, "--force") == 0
    assert load_result(run / "logz.json").method == "pt-bar"
    assert results(run, "logz*.json") == ["logz.json"]


def test_a_trustworthy_log_z_stays_whatever_error_a_doubtful_one_claims(run):
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    old = json.loads((run / "logz.json").read_text())
    path = run / "logz.json"
    path.write_text(json.dumps({**old, "std_err": 1e-9, "trustworthy": False, "reasons": ["no round trips"]}))
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    assert load_result(path).trustworthy
    assert results(run, "logz*.json") == ["logz.json"]


@pytest.mark.parametrize("less", [("--samples", 20, "--limit", 30), ("--samples", 50, "--limit", 20)])
def test_a_likelihood_of_more_images_and_samples_stays(run, less, capsys):
    assert status_of(dvae_eval, "ll", run, "--samples", 50, "--limit", 30) == 0
    before = {name: (run / name).read_bytes() for name in ("ll.json", "ll.images.npz")}
    assert status_of(dvae_eval, "ll", run, *less) == 0
    assert before == {name: (run / name).read_bytes() for name in before}
    assert results(run, "ll*") == [
        f"ll{n}.{what}" for n in ("-2", "") for what in ("images.npz", "json", "state.npz")
    ]
    assert "is kept; this result goes to" in capsys.readouterr().err
    assert not list(run.glob("*.shards"))


def test_more_images_take_the_place_of_fewer(run):
    assert status_of(dvae_eval, "ll", run, "--samples", 20, "--limit", 10, "-q") == 0
    assert status_of(dvae_eval, "ll", run, "--samples", 20, "--limit", 30, "-q") == 0
    assert load_result(run / "ll.json").n_images == 30
    assert results(run, "ll*.json") == ["ll.json"]


def test_another_split_has_a_file_of_its_own(run):
    assert status_of(dvae_eval, "ll", run, "--samples", 20, "--limit", 10, "--split", "valid", "-q") == 0
    assert results(run, "ll*.json") == ["ll-valid.json"]


def test_a_result_of_the_runs_former_model_makes_way_and_is_kept(run, tmp_path, capsys):
    assert status_of(dvae_eval, "logz", run) == 0
    former = (run / "logz.json").read_bytes()
    other = tmp_path / "other"
    assert status_of(dvae_train, "bars-and-stripes", "--out", other, "--quiet", *SMALL, "--seed", 5) == 0
    shutil.copy(other / "model.pt", run / "model.pt")
    assert status_of(dvae_eval, "logz", run, *SHORT) == 0
    assert (run / "logz-2.json").read_bytes() == former
    assert load_result(run / "logz.json").method == "pt-bar"
    assert f"belongs to another model than {run}/model.pt; renamed to {run}/logz-2.json" in capsys.readouterr().err


def test_a_file_that_is_no_result_is_kept(run):
    (run / "logz.json").write_text("my notes")
    assert status_of(dvae_eval, "logz", run) == 0
    assert (run / "logz-2.json").read_text() == "my notes"
    assert load_result(run / "logz.json").method == "exact"


def test_gradients_of_more_draws_stay(run):
    args = ("gradients", run, "--limit", 2, "--reference", 400, "--pilot", 100, "-q")
    assert status_of(dvae_eval, *args, "--samples", 200) == 0
    before = (run / "gradients.json").read_bytes()
    assert status_of(dvae_eval, *args, "--samples", 100) == 0
    assert (run / "gradients.json").read_bytes() == before
    assert results(run, "gradients*.json") == ["gradients-2.json", "gradients.json"]


def test_more_samples_stay(run):
    assert status_of(dvae_eval, "samples", run, "-q") == 0
    grid = SampleGrid.load(run / "samples.npz")
    more = SampleGrid(grid.samples.repeat(2, axis=0), grid.originals, grid.reconstructions, grid.meta)
    more.save(run / "samples.npz")
    before = (run / "samples.npz").read_bytes()
    assert status_of(dvae_eval, "samples", run, "-q") == 0
    assert (run / "samples.npz").read_bytes() == before
    assert results(run, "samples*") == ["samples-2.npz", "samples.npz"]


def test_a_page_that_shows_more_stays(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    assert status_of(dvae_eval, "logz", run, "-q") == 0
    assert status_of(dvae_eval, "report", run, "-q") == 0
    assert status_of(dvae_eval, "report", run, other, "-q") == 0
    both = (run / "report.html").read_bytes()
    assert b"other" in both
    assert results(run, "report*") == ["report.html"]
    assert status_of(dvae_eval, "report", run) == 0
    assert (run / "report.html").read_bytes() == both
    assert results(run, "report*") == ["report-2.html", "report.html"]
    assert "has content that this page lacks and is kept" in capsys.readouterr().err
    (run / "report-2.html").write_text("<title>my own page</title>")
    assert status_of(dvae_eval, "report", run, "-q") == 0
    assert results(run, "report*") == ["report-2.html", "report-3.html", "report.html"]


def test_unfinished_work_of_other_settings_is_left_alone(run):
    """A quick look in between does not cost what an interrupted estimate has done."""
    kept = run / f".logz.json.{'0' * 8}.partial.npz"
    kept.write_bytes(b"of other settings")
    assert status_of(dvae_eval, "logz", run, *SHORT, "-q") == 0
    assert kept.read_bytes() == b"of other settings"
    assert [path.name for path in run.glob(".logz*")] == [kept.name]


# --- streams and links ----------------------------------------------------------------------------------------


def read_in_background(path, into):
    thread = threading.Thread(target=lambda: into.append(path.read_text()))
    thread.start()
    return thread


def test_a_pipe_stays_a_pipe(run, tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = read_in_background(pipe, got)
    assert status_of(dvae_eval, "logz", run, "-q", "-o", pipe) == 0
    reader.join(20)
    assert json.loads(got[0])["kind"] == "logz"
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe"]


def test_a_device_stays_a_device(run, capsys):
    assert status_of(dvae_eval, "logz", run, "-q", "-o", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()
    assert capsys.readouterr().out.startswith("log Z = ")


def test_a_link_is_written_through(run, tmp_path):
    (tmp_path / "link.json").symlink_to("there.json")
    assert status_of(dvae_eval, "logz", run, "-q", "-o", tmp_path / "link.json") == 0
    assert (tmp_path / "link.json").is_symlink()
    assert load_result(tmp_path / "there.json").kind == "logz"
    assert status_of(dvae_eval, "logz", run, "-q", "-o", tmp_path / "link.json") == 2
    (run / "logz.json").symlink_to(tmp_path / "elsewhere.json")
    assert status_of(dvae_eval, "logz", run, "-q") == 0
    assert (run / "logz.json").is_symlink()
    assert load_result(tmp_path / "elsewhere.json").kind == "logz"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output(run, capsys, name):
    assert status_of(dvae_eval, "logz", run, "-q", "-o", name) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "logz"
    assert not (run / "logz.json").exists()
    assert not Path("-").exists()


def test_tables_and_pages_go_to_standard_output(run, capsys):
    assert status_of(dvae_eval, "table", "-o", "-") == 0
    assert "Discrete VAE" in capsys.readouterr().out
    assert status_of(dvae_eval, "report", run, "-o", "-", "-q") == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("command", [("samples", "RUN"), ("convert", "RUN")])
def test_what_is_no_text_is_not_printed(run, command, capsys):
    words = [run if word == "RUN" else word for word in command]
    assert status_of(dvae_eval, *words, *(["-"] if command[0] == "convert" else ["-o", "-"])) == 2
    assert "binary data cannot be written to" in capsys.readouterr().err


# --- what is given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["logz", "gradients", "ll", "samples"])
def test_a_run_stands_for_its_model(run, command):
    small = {"ll": ["--samples", 10, "--limit", 5], "gradients": ["--samples", 50, "--limit", 1]}
    assert status_of(dvae_eval, command, run, "-q", *small.get(command, [])) == 0


def test_a_directory_without_a_model_is_said(tmp_path, capsys):
    assert status_of(dvae_eval, "logz", tmp_path) == 2
    assert f"{tmp_path} has no model.pt; give a run" in capsys.readouterr().err


def test_a_file_is_no_run_and_a_directory_no_file(run, capsys):
    assert status_of(dvae_eval, "report", run / "config.json") == 2
    assert f"config.json is part of a run; give the run, {run}" in capsys.readouterr().err
    assert status_of(dvae_eval, "logz", run, "-o", run) == 2
    assert f"{run} is a directory; give the name of a file" in capsys.readouterr().err


def test_a_machine_is_no_model_of_this_project(tmp_path, capsys):
    path = tmp_path / "bqm.json"
    path.write_text(json.dumps({"type": "BinaryQuadraticModel", "version": {"bqm_schema": "3.0.0"}}))
    for command in ("ll", "gradients"):
        assert status_of(dvae_eval, command, path) == 2
        assert "is not a model of dvae-train, which this command needs" in capsys.readouterr().err


def test_a_table_of_an_unknown_format_is_refused(tmp_path, capsys):
    assert status_of(dvae_eval, "table", "-o", tmp_path / "t.xlsx") == 2
    assert "unknown suffix .xlsx; end it in .txt, .md, .tex, .csv, .json, .html" in capsys.readouterr().err
    assert status_of(dvae_eval, "table", "-o", tmp_path / "t.xlsx", "--format", "csv", "-q") == 0
    assert status_of(dvae_eval, "table", "-o", tmp_path / "T.CSV", "-q") == 0
    assert (tmp_path / "T.CSV").read_text() == (tmp_path / "t.xlsx").read_text()


def test_no_arguments_print_the_help(capsys):
    assert status_of(dvae_eval) == 2
    assert capsys.readouterr().err.startswith("Usage: dvae-eval [OPTIONS] COMMAND")


def test_an_option_of_the_sweep_behind_the_data_set_is_named(tmp_path, capsys):
    args = ("sweep", "--out", tmp_path / "s", "--vary", "groups=1 2", "digits", "--logz", "--sweeps 3")
    assert status_of(dvae_eval, *args) == 2
    assert "--logz: is an option of dvae-eval sweep; give it before the data set" in capsys.readouterr().err


# --- terminals that lack letters ------------------------------------------------------------------------------

HELPS = [
    *(["dvae_cli.main", name, "--help"] for name in ("convert", "inspect", "logz", "table")),
    ["dvae_cli.train", "--help"],
]
TABLES = [["dvae_cli.main", "table", "--kind", kind] for kind in ("table1", "table2")]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_every_letter_has_a_plain_one(encoding):
    code = "\n".join(
        [
            "import sys, importlib",
            f"for module, *args in {[*HELPS, *TABLES]!r}:",
            "    try: importlib.import_module(module).main(args)",
            "    except SystemExit as e: assert not e.code, (module, args)",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Discrete VAE" in done.stdout.decode(encoding if encoding != "ascii" else "utf-8")
