"""`-` for a file: every command that reads one takes it from a pipe, and leaves nothing behind."""

import io
import json
import os
import sys

import numpy as np
import pytest
import torch

from dvae_cli import standard_input
from dvae_cli.commands.figure import command as figure
from dvae_core import DVAE, ModelConfig, RunConfig
from dvae_core.training.checkpoint import save_model
from dvae_eval import estimate_log_z, read_machine
from dvae_eval.samples.grid import SampleGrid


class Pipe(io.TextIOWrapper):
    """Standard input with these bytes; a terminal if asked for."""

    def __init__(self, content, is_terminal=False):
        super().__init__(io.BytesIO(content))
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.fixture
def machine(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "rbm.npz"
    np.savez(path, W=rng.normal(size=(4, 3)), b_left=rng.normal(size=4), b_right=rng.normal(size=3))
    return path


@pytest.fixture
def piped(tmp_path, monkeypatch, cli):
    """Return a function that pipes bytes into a command; it returns status, output and words.

    Temporary files lie in a folder of their own, which is empty after every command.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.chdir(tmp_path)

    def run(content, *args, **how):
        monkeypatch.setattr(sys, "stdin", Pipe(content, **how))
        done = cli(*args)
        assert list(scratch.iterdir()) == []
        assert str(scratch) not in done.out + done.err
        return done

    return run


def test_a_machine_from_a_pipe_has_the_log_z_of_the_file(machine, piped, tmp_path):
    status, out, _ = piped(machine.read_bytes(), "logz", "-", "--json")
    assert status == 0
    result = json.loads(out)
    assert result["log_z"] == estimate_log_z(read_machine(machine).machine).log_z
    assert result["model"]["file"] == "standard input"
    # Without --output, the result is printed and no file is written.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rbm.npz", "scratch"]


def test_every_command_that_reads_a_machine_takes_a_pipe(machine, piped, tmp_path):
    content = machine.read_bytes()
    assert "a Boltzmann machine" in piped(content, "inspect", "-")[1]
    assert json.loads(piped(content, "inspect", "-", "--json")[1])["file"] == "standard input"
    assert json.loads(piped(content, "observables", "-", "--json")[1])["model"]["file"] == "standard input"
    assert piped(content, "convert", "-", "there.uai")[0] == 0
    assert (
        piped((tmp_path / "there.uai").read_bytes(), "logz", "-")[1]
        == piped(content, "logz", "-")[1].partition(", with units")[0] + "\n"
    )
    assert piped(content, "samples", "-", "--n", "60", "-o", "states.npz")[0] == 0
    assert piped(content, "samples", "-", "--n", "60", "-o", "-")[1].count("\n") == 61


@pytest.mark.parametrize("name", ["states.npz", "states.csv"])
def test_samples_are_recognised_by_their_content(machine, piped, tmp_path, name):
    assert piped(machine.read_bytes(), "samples", "-", "--n", "60", "-o", name)[0] == 0
    status, out, _ = piped((tmp_path / name).read_bytes(), "compare-samples", machine, "-", "-o", "-")
    assert status == 0
    assert json.loads(out)["n_reads"] == 60
    assert '"standard input"' in out


def test_results_go_from_command_to_command(machine, piped, tmp_path):
    _, result, _ = piped(b"", "logz", machine, "--method", "pt-bar", "--sweeps", 400, "--json")
    status, out, _ = piped(result.encode(), "table", "--kind", "results", "-")
    assert status == 0
    assert "standard input" in out
    assert piped(result.encode(), "figure", "logz", "-", "-o", "logz.png")[0] == 0
    assert piped(result.encode(), "report", "-", "-o", "page.html")[0] == 0
    assert "scratch" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_lines_of_results_are_recognised(machine, piped, tmp_path):
    _, lines, _ = piped(b"", "logz", machine, machine, "--json")
    assert lines.count("\n") == 2
    assert piped(lines.encode(), "figure", "trajectory", "-", "-o", "course.png")[0] == 0
    assert (tmp_path / "course.png").stat().st_size > 1000


def test_a_model_of_ones_own_is_measured_and_drawn(piped, tmp_path):
    settings = ModelConfig(n_left=3, n_right=2, n_groups=1, n_layers=0, encoder_hidden=(8,))
    model = DVAE(settings, 4)
    model.initialise(torch.Generator().manual_seed(0), torch.full((4,), 0.5))
    save_model(tmp_path / "model.pt", model.state_dict(), RunConfig("bars-and-stripes-2x2", settings), (2, 2), {})
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").unlink()
    _, out, _ = piped(content, "ll", "-", "--samples", 20, "--limit", 10, "--json")
    found = json.loads(out)
    assert found["model"]["file"] == "standard input"
    assert found["log_z"] == json.loads(piped(content, "logz", "-", "--json")[1])["log_z"]
    status, _, err = piped(content, "samples", "-")
    assert status == 2
    assert "--output: standard input has no directory for the default file" in err
    assert piped(content, "samples", "-", "-o", "pictures.npz")[0] == 0
    pictures = (tmp_path / "pictures.npz").read_bytes()
    assert SampleGrid.load(tmp_path / "pictures.npz").meta["model"]["file"] == "standard input"
    assert piped(pictures, "figure", "samples", "-", "-o", "pictures.png")[0] == 0


def test_data_and_starts_of_log_z(machine, piped, tmp_path):
    states = io.BytesIO()
    np.save(states, np.eye(4, dtype=np.uint8))
    status, out, _ = piped(states.getvalue(), "logz", machine, "--data", "-", "--json")
    assert status == 0
    found = json.loads(out)["diagnostics"]["log_likelihood"]
    assert found["splits"]["all"]["n_images"] == 4
    status, out, _ = piped(
        states.getvalue(), "logz", machine, "--starts", "-", "--method", "pt-bar", "--sweeps", 400, "--json"
    )
    assert json.loads(out)["settings"]["starts"]["file"] == "standard input"


@pytest.mark.parametrize(
    ("content", "args", "message"),
    [
        (b"x", ("logz", "-", "-"), "standard input can be read only once"),
        (b"", ("logz", "-"), "standard input is empty"),
        (b"junk", ("logz", "-"), "standard input: of no known format"),
        (b"PK\x03\x04 cut short", ("logz", "-"), "standard input: damaged"),
        (b"{}", ("table", "-"), "standard input: not a result"),
        (b"0 1", ("samples", "-", "--n", "3"), "--output: states are written to a file"),
        (b"x", ("logz", "-", "--method", "no-such"), "no-such"),
    ],
)
def test_refusals_are_one_line(piped, content, args, message):
    status, out, err = piped(content, *args)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_terminal_is_not_waited_for(piped):
    status, _, err = piped(b"", "logz", "-", is_terminal=True)
    assert status == 2
    assert "nothing is piped into standard input" in err


def test_a_closed_standard_input_is_refused(piped, monkeypatch, cli):
    monkeypatch.setattr(sys, "stdin", None)
    status, _, err = cli("logz", "-")
    assert status == 2
    assert "nothing is piped" in err


def test_too_much_is_refused_before_the_disk_is_full(piped, monkeypatch):
    monkeypatch.setattr(standard_input, "LIMIT_BYTES", 1000)
    status, _, err = piped(b"x" * 1001, "logz", "-")
    assert status == 2
    assert "more than 1000 bytes" in err


def test_what_is_kept_is_private_and_removed_after_ctrl_c(machine, piped, monkeypatch):
    modes = []

    def interrupted(path, *_, **__):
        modes.append(path.parent.stat().st_mode & 0o777)
        raise KeyboardInterrupt

    monkeypatch.setattr("dvae_cli.inputs.read_model", interrupted)
    assert piped(machine.read_bytes(), "observables", "-")[0] == 130
    assert modes == [0o700]


def test_a_file_that_is_called_so_is_read_by_its_path(machine, piped):
    os.rename(machine, "-")
    assert piped(b"", "logz", "./-")[0] == 0


def test_pictures_need_a_name(piped, machine):
    # A figure is no text: `-o -` would put bytes on a terminal.
    assert any(param.name == "output" and param.required for param in figure.params)
    _, result, _ = piped(b"", "logz", machine, "--json")
    status, _, err = piped(result.encode(), "report", "-")
    assert status == 2
    assert "standard input has no directory for the default file" in err
