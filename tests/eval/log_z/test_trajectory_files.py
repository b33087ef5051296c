"""dvae-eval logz --path trajectory: along a run of this project, an archive with its updates, a list of files."""

import json

import h5py
import numpy as np
import pytest

from dvae_core.errors import ConfigError, DataError
from dvae_core.io.containers import read_npz
from dvae_core.io.files import write_npz
from dvae_core.training.run_directory import TRAJECTORY
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z import run as tempered
from dvae_eval.readers import ReadConfig, read_machine, read_trajectory
from tests.core.training.test_prior_trajectory import moving
from tests.core.training.test_train import Silent, start
from tests.oracles.trajectories import clustered_data, trained

QUICK = ("--path", "trajectory", "--method", "pt-bar", "--sweeps", 600, "--replicates", 16)


@pytest.fixture(scope="module")
def training():
    return trained(clustered_data(30, 4, 0.05, 200), 5, 600, 0.04)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    trainer = start(tmp_path_factory.mktemp("runs") / "run", moving())
    trainer.train(Silent())
    return trainer.run


@pytest.fixture
def files(training, tmp_path):
    paths = []
    for machine, step in zip(*training, strict=True):
        paths.append(tmp_path / f"{step:04d}.npz")
        np.savez(paths[-1], W=machine.W, b_left=machine.b_left, b_right=machine.b_right)
    return paths


@pytest.fixture
def archive(training, tmp_path):
    path = tmp_path / "rbm.h5"
    with h5py.File(path, "w") as file:
        for machine, step in zip(*training, strict=True):
            group = file.create_group(f"update_{step}")
            group["vbias"], group["hbias"], group["weight_matrix"] = machine.b_left, machine.b_right, machine.W
    return path


def assert_refused(cli, message, *args):
    status, out, err = cli(*args)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


# --- what is read ---------------------------------------------------------------------------------------------


def test_a_list_of_files_is_read_in_its_order(files, training):
    last, found = read_trajectory(files)
    assert [m.sha256 for m in found.machines] == [m.sha256 for m in training[0]]
    assert found.steps == tuple(range(1, len(files) + 1))
    assert last.machine.sha256 == training[0][-1].sha256


def test_an_archive_is_read_up_to_the_update_that_was_asked_for(archive, training):
    machines, steps = training
    for n in (len(steps), 3):
        last, found = read_trajectory([archive], ReadConfig(update=steps[n - 1]))
        assert last.machine.sha256 == machines[n - 1].sha256
        assert found.steps == tuple(steps[:n])
        assert [m.sha256 for m in found.machines] == [m.sha256 for m in machines[:n]]


def test_files_of_units_of_plus_and_minus_one_have_a_constant_each(files):
    _, found = read_trajectory(files, ReadConfig(units="pm1"))
    for path, machine, constant in zip(files, found.machines, found.constants, strict=True):
        own = read_machine(path, ReadConfig(units="pm1"))
        assert (machine.sha256, constant) == (own.machine.sha256, own.constant)


def test_a_run_ends_with_the_prior_of_its_model(run):
    """Entries after the best epoch are left out; the model's own prior, whatever it is, is the last."""
    last, found = read_trajectory([run / "model.pt"])
    kept = read_npz(run / TRAJECTORY, ("steps", "steps_per_epoch", "W"))
    assert found.machines[-1].sha256 == last.machine.sha256
    assert found.steps[-1] % int(kept["steps_per_epoch"]) == 0
    n = len(found.steps) - 1
    assert n == (kept["steps"] < found.steps[-1]).sum() > 2
    assert found.steps[:-1] == tuple(kept["steps"][:n])
    assert np.array_equal(found.machines[1].W, kept["W"][1])


# --- the command ----------------------------------------------------------------------------------------------


def test_all_three_measure_the_last_machine(files, archive, run, training, cli, monkeypatch):
    """Within 5 errors of the exact value: false alarm 5e-4 in all, of Student's t with 15 degrees of freedom."""
    monkeypatch.setattr(tempered, "shorter_path", lambda *barriers: "trajectory")
    for models, machine in (
        (files, training[0][-1]),
        ([archive], training[0][-1]),
        ([run], read_machine(run / "model.pt").machine),
    ):
        status, out, _ = cli("logz", *models, *QUICK, "--json", "--quiet")
        found = json.loads(out)
        assert status in (0, 3)  # so short a run may be declined
        assert abs(found["log_z"] - exact_log_z(machine)) < 5 * found["std_err"]
        curve = found["diagnostics"]["trajectory"]
        assert len(curve["steps"]) == len(curve["log_z"]) == len(curve["std_err"]) > 3
        assert found["diagnostics"]["path"]["chosen"] == "trajectory"
        assert found["model"]["prior_sha256"] == machine.sha256


def test_people_are_told_which_path_was_taken(files, cli):
    _, _, err = cli("logz", *files, *QUICK)
    assert "communication barrier " in err
    assert " in beta, " in err


def test_the_result_lies_beside_the_runs_model(run, cli):
    cli("logz", run, *QUICK, "--quiet")
    found = json.loads((run / "logz.json").read_text())
    assert found["settings"]["path"] == "trajectory"


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_single_machine_is_no_training(files, cli):
    assert_refused(cli, "contains no training", "logz", files[-1], *QUICK)


def test_a_run_that_kept_nothing_says_so(run, tmp_path, cli):
    (tmp_path / "model.pt").write_bytes((run / "model.pt").read_bytes())
    assert_refused(cli, "no such file; runs of earlier versions", "logz", tmp_path / "model.pt", *QUICK)


def test_machines_of_several_shapes_are_refused(files, tmp_path, cli):
    np.savez(tmp_path / "other.npz", W=np.ones((3, 2)), b_left=np.ones(3), b_right=np.ones(2))
    assert_refused(cli, "has shape 3x2, the last one 30x5", "logz", tmp_path / "other.npz", files[-1], *QUICK)


def test_a_general_machine_is_refused(tmp_path, cli):
    np.savez(tmp_path / "general.npz", J=np.triu(np.ones((3, 3)), 1), b=np.ones(3))
    general = tmp_path / "general.npz"
    assert_refused(cli, "for RBMs only", "logz", general, general, *QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.zeros((2, 3, 3))}, "W has shape"),
        ({"steps": np.zeros(0, int)}, "has shape"),
        ({"steps": None}, 'holds no array "steps"'),
        ({"b_left": "nan"}, "b_left"),
        ({"steps": "falling"}, "do not increase"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(run, tmp_path, change, message):
    names = ("steps", "steps_per_epoch", "W", "b_left", "b_right", "states")
    arrays = dict(read_npz(run / TRAJECTORY, names))
    for name, value in change.items():
        if value is None:
            del arrays[name]
        else:
            made = {"nan": arrays[name] * np.nan, "falling": arrays[name][::-1]}
            arrays[name] = made[value] if isinstance(value, str) else value
    write_npz(tmp_path / TRAJECTORY, arrays)
    (tmp_path / "model.pt").write_bytes((run / "model.pt").read_bytes())
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        read_trajectory([tmp_path / "model.pt"])
    assert TRAJECTORY in str(caught.value)
    assert "\n" not in str(caught.value)
