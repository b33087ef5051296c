"""dvae-eval samples and --clamp: files, verdicts, exit statuses, what is kept, and what is refused in one line."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dvae_cli.train import main as dvae_train
from dvae_eval.samples.grid import SampleGrid
from tests.commands import status_of
from tests.oracles import planted
from tests.places import FORMATS, PACKAGE_ROOTS

SMALL = ("--epochs", 1, "--left", 4, "--right", 4, "--chains", 10, "--sweeps", 1, "--encoder-hidden", 8)


def refused(cli, *args):
    """The one line of a command that must refuse its input."""
    status, out, err = cli(*args)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "Traceback" not in err
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a small model."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert status_of(dvae_train, "bars-and-stripes-3x3", "--out", folder, "--quiet", *SMALL) == 0
    return folder


@pytest.fixture
def planted_file(tmp_path):
    """A machine of two modes, which a short run does not weigh."""
    J, b, _, _ = planted(120, 4.0, 0.0)
    np.savez(tmp_path / "planted.npz", J=J, b=b)
    return tmp_path / "planted.npz"


# --- states -------------------------------------------------------------------------------------------------


def test_an_npz_file_has_states_labels_and_what_is_known(tmp_path, cli):
    path = tmp_path / "s.npz"
    status, out, err = cli("samples", FORMATS / "spin-2.bqm", "--n", 50, "--seed", 3, "--best", "-o", path)
    assert status == 0
    assert out.startswith("50 states of 6 units (exact), log Z = ")
    assert "most probable state: log p = " in err
    assert f"saved: {path}" in err
    with np.load(path) as found:
        assert found["states"].shape == (50, 6)
        assert set(np.unique(found["states"])) == {-1, 1}
        assert found["labels"].tolist() == ["0", "one", '["a", 2]', "3", "4.5", "7"]
        assert found["log_p"].max() <= json.loads(found["meta"].tobytes())["best"]["log_p"] + 1e-12
        assert found["best"].shape == (6,)
        meta = json.loads(found["meta"].tobytes())
    assert (meta["verdict"], meta["trustworthy"], meta["seed"]) == ("exact", True, 3)
    assert meta["command"][0] == "dvae-eval"
    status, out, _ = cli("inspect", path)
    assert status == 0
    assert "samples of a Boltzmann machine of this project" in out


def test_the_same_states_in_every_format(tmp_path, cli):
    rows = []
    for name in ("s.npz", "s.csv"):
        assert cli("samples", FORMATS / "spin.coo", "--n", 20, "-o", tmp_path / name, "-q")[0] == 0
    status, out, err = cli("samples", FORMATS / "spin.coo", "--n", 20, "-o", "-", "-q")
    assert (status, err) == (0, "")
    assert out == (tmp_path / "s.csv").read_text()
    header, *rows = list(csv.reader(io.StringIO(out)))
    assert header == ["0", "1", "2", "4", "5", "30"]
    with np.load(tmp_path / "s.npz") as found:
        assert found["states"].tolist() == [[int(value) for value in row] for row in rows]


def test_a_sample_set_of_dimod(tmp_path, cli):
    """With dimod itself, where it is installed: its own energies of its own file's model are those in the set."""
    dimod = pytest.importorskip("dimod")
    path = tmp_path / "s.json"
    assert cli("samples", FORMATS / "spin-2.bqm", "--n", 20, "-o", path, "-q")[0] == 0
    found = dimod.SampleSet.from_serializable(json.loads(path.read_text()))
    with (FORMATS / "spin-2.bqm").open("rb") as file:
        model = dimod.BinaryQuadraticModel.from_file(file)
    assert set(found.variables) == set(model.variables)
    assert np.allclose(found.record.energy, model.energies(found), atol=1e-5)


def test_a_short_run_is_not_to_be_trusted(planted_file, tmp_path, cli):
    """Exit status 3 as of logz; the states are written all the same."""
    path = tmp_path / "s.npz"
    args = ("--n", 40, "--method", "pt-bar", "--sweeps", 40, "-o", path)
    status, out, err = cli("samples", planted_file, *args)
    assert status == 3
    assert out.startswith("NOT TO BE TRUSTED: 40 states")
    assert "verdict: may be wrong" in err
    with np.load(path) as found:
        assert found["states"].shape == (40, 120)
        assert not json.loads(found["meta"].tobytes())["trustworthy"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["planted.npz", "s.npz"]


def test_states_of_a_run_are_those_of_its_prior(trained, tmp_path, cli):
    path = tmp_path / "prior.npz"
    assert cli("samples", trained, "--n", 30, "-o", path, "-q")[0] == 0
    with np.load(path) as found:
        assert found["states"].shape == (30, 8)
    assert not (trained / "samples.npz").exists()


def test_nothing_is_overwritten_unless_forced(tmp_path, cli):
    path = tmp_path / "s.csv"
    path.write_text("mine")
    assert "exists; give --force" in refused(cli, "samples", FORMATS / "spin.coo", "-o", path)
    assert path.read_text() == "mine"
    assert cli("samples", FORMATS / "spin.coo", "-o", path, "--force", "-q")[0] == 0
    assert len(path.read_text().splitlines()) == 1001


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((), "--output: states are written to a file"),
        (("-o", "{tmp}/s.txt"), "has no known suffix; end it with .npz, .csv, .json"),
        (("-o", "-", "--format", "npz"), "binary data cannot be written to -; give the name of a file"),
        (("-o", "{tmp}/s.npz", "--draws", 3), "--draws: is for images of a run"),
        (("-o", "{tmp}/s.npz", "--n", 0), "--n: 0"),
        (("-o", "{tmp}/s.npz", "--sweeps", 3), "--sweeps: 3 are too few"),
        (("-o", "{tmp}/s.npz", "--units", "01"), "--units"),
        (("-o", "{tmp}/none/s.npz"), "is not a directory"),
        (("-o", "{tmp}/s.npz", "--clamp", "{tmp}/none"), "--clamp {tmp}/none: no such file"),
    ],
)
def test_what_cannot_be_done_is_refused(args, match, tmp_path, cli):
    words = [str(arg).format(tmp=tmp_path) for arg in args]
    assert match.format(tmp=tmp_path) in refused(cli, "samples", FORMATS / "spin-2.bqm", *words)
    assert not list(tmp_path.iterdir())


def test_dimod_is_asked_for_before_any_work(tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "dimod", None)
    line = refused(cli, "samples", FORMATS / "spin-2.bqm", "-o", tmp_path / "s.json")
    assert "--format dimod: needs dimod; install it with: pip install dimod" in line


def command(*args):
    return [sys.executable, "-m", "dvae_cli.main", *map(str, args)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_what_is_stopped_goes_on_to_the_same_states(how, tmp_path, cli):
    """In a process of its own, stopped once the run has been kept; then given again, against one undisturbed."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rbm.npz", W=rng.normal(size=(40, 50)) / 4, b_left=np.zeros(40), b_right=np.zeros(50))
    args = ("samples", tmp_path / "rbm.npz", "--method", "pt-bar", "--sweeps", 300, "--n", 4000, "--threads", 1)
    path = tmp_path / "s.npz"
    roots = os.pathsep.join(PACKAGE_ROOTS)
    process = subprocess.Popen(
        command(*args, "-o", path), env=os.environ | {"PYTHONPATH": roots}, stderr=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    while not list(tmp_path.glob(".s.npz.*.partial.npz")) and time.monotonic() - began < 300:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(how)
    err = process.communicate(timeout=60)[1]
    assert not path.exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; run the same command again to continue" in err
    assert cli(*args, "-o", path, "-q")[0] == 0
    assert cli(*args, "-o", tmp_path / "whole.npz", "-q")[0] == 0
    with np.load(path) as found, np.load(tmp_path / "whole.npz") as whole:
        assert np.array_equal(found["states"], whole["states"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rbm.npz", "s.npz", "whole.npz"]


# --- pictures of a run --------------------------------------------------------------------------------------


def test_pictures_come_in_the_numbers_asked_for_with_their_latents(trained, tmp_path, cli):
    path = tmp_path / "p.npz"
    sizes = ("--image-rows", 3, "--chains", 2, "--draws", 4, "--reconstructions", 5)
    assert cli("samples", trained, *sizes, "-o", path, "-q")[0] == 0
    grid = SampleGrid.load(path)
    assert grid.samples.shape == (3, 2, 4, 3, 3)
    assert grid.originals.shape == (5, 3, 3)
    assert grid.latents["z"].shape == (3, 2, 8)
    assert grid.latents["zeta"].shape == (3, 2, 4, 8)
    assert grid.latents["continuous"].shape[:3] == (3, 2, 4)
    assert set(np.unique(grid.latents["z"])) <= {0.0, 1.0}
    decoded(trained, grid)


def decoded(trained, grid):
    """The pictures are what the decoder makes of the latents beside them."""
    import torch

    from dvae_core.training.checkpoint import load_model

    model = load_model(trained / "model.pt").model
    n = model.config.n_continuous
    continuous = torch.from_numpy(grid.latents["continuous"])
    layers = [continuous[..., m * n : (m + 1) * n] for m in range(continuous.shape[-1] // n)]
    with torch.no_grad():
        p = model.decode(torch.from_numpy(grid.latents["zeta"]), layers).sigmoid().numpy()
    assert np.abs(p.reshape(grid.samples.shape) * 255 - grid.samples).max() <= 1


def test_pictures_are_as_before(trained, tmp_path, cli):
    """The default sizes, in the run's own file; options of states need --n."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    assert cli("samples", folder, "-q")[0] == 0
    assert SampleGrid.load(folder / "samples.npz").samples.shape == (8, 4, 5, 3, 3)
    assert "--method: is for states; give --n" in refused(cli, "samples", folder, "--method", "exact")
    assert "--draws: is for images" in refused(cli, "samples", folder, "--n", 5, "--draws", 3, "-o", "-")


# --- held units ---------------------------------------------------------------------------------------------


def test_log_z_of_held_units(tmp_path, cli):
    """log Z of both values of a unit adds up to that of all, by command, for spins with labels."""
    (tmp_path / "up").write_text("one 1\n")
    (tmp_path / "down").write_text("one = -1\n")

    def log_z(*args):
        status, out, _ = cli("logz", FORMATS / "spin-2.bqm", "--json", "-q", *args)
        assert status == 0
        return json.loads(out)

    whole = log_z()["log_z"]
    up, down = (log_z("--clamp", tmp_path / name) for name in ("up", "down"))
    assert np.logaddexp(up["log_z"], down["log_z"]) == pytest.approx(whole, abs=1e-9)
    assert up["model"]["clamped"]["units"] == 1
    # A sample has the unit at its value, and the share of a value is exp(log Z(clamped) - log Z).
    args = ("--clamp", tmp_path / "up", "--n", 10, "-o", "-", "-q")
    rows = list(csv.reader(io.StringIO(cli("samples", FORMATS / "spin-2.bqm", *args)[1])))
    assert {row[1] for row in rows[1:]} == {"1"}


def test_a_run_keeps_its_own_log_z(trained, tmp_path, cli):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (tmp_path / "held").write_text("0 1\n")
    assert cli("logz", folder, "--clamp", tmp_path / "held", "-q")[0] == 0
    assert (folder / "logz-clamped.json").exists()
    assert not (folder / "logz.json").exists()
