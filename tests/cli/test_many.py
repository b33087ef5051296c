"""dvae-eval logz of several machines: the same numbers as one call each, kept, handed on, and in one figure."""

import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
from scipy.special import logsumexp

from dvae_cli import many
from dvae_cli.main import main as dvae_eval
from dvae_cli.many import _Course
from dvae_eval import estimate_log_z, starts
from dvae_eval.log_z.of_data import log_p_of_rows, with_log_likelihood
from dvae_eval.machine import BipartiteMachine
from dvae_eval.results import load_result_lines
from dvae_eval.starts import are_of_one_training
from dvae_reports.results.many import curve_of
from dvae_reports.tables.formats import write_table
from dvae_reports.tables.results import log_z_table
from tests.oracles import enumerate_states, log_marginals, log_probabilities, p_value

QUICK = ("--method", "pt-bar", "--sweeps", 60, "--replicates", 12)
N_LEFT, N_RIGHT, N_FILES = 8, 5, 4


@pytest.fixture(scope="module")
def machines():
    """RBMs of one training: couplings that grow."""
    rng = np.random.default_rng(0)
    W, left, right = rng.normal(size=(N_LEFT, N_RIGHT)), rng.normal(size=N_LEFT), rng.normal(size=N_RIGHT)
    return [((1 + k) / N_FILES * W, left, (1 - k / 10) * right) for k in range(N_FILES)]


@pytest.fixture
def files(machines, tmp_path):
    paths = [tmp_path / f"ck_{10 * k}.npz" for k in range(N_FILES)]
    for path, (W, left, right) in zip(paths, machines, strict=True):
        np.savez(path, W=W, b_left=left, b_right=right)
    return paths


@pytest.fixture
def archive(machines, tmp_path):
    path = tmp_path / "rbm.h5"
    with h5py.File(path, "w") as file:
        for k, (W, left, right) in enumerate(machines):
            group = file.create_group(f"update_{100 * k}")
            group["vbias"], group["hbias"], group["weight_matrix"] = left, right, W
    return path


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.random.default_rng(1).integers(0, 2, (40, N_LEFT)).astype(np.uint8))
    return path


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def numbers(result):
    """Return a result but for the time and the command that it took, and its file's place."""
    found = {
        name: value for name, value in result.items() if name not in ("wall_seconds", "command", "environment")
    }
    return json.dumps(_without_times(found), sort_keys=True)


def _without_times(value):
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if "seconds" not in k}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


# --- the same numbers -------------------------------------------------------------------------------------------


def test_each_is_measured_as_by_a_call_of_its_own(files, cli):
    """To the last digit, in the order of the command, a line of JSON each and nothing else."""
    status, out, _ = cli("logz", *files[::-1], *QUICK, "--starts", "none", "--json", "-q")
    alone = [cli("logz", path, *QUICK, "--starts", "none", "--json", "-q") for path in files[::-1]]
    assert [numbers(one) for one in lines_of(out)] == [numbers(json.loads(text)) for _, text, _ in alone]
    assert status == max(code for code, _, _ in alone)


def test_exact_ones_hand_nothing_on(files, machines, cli):
    status, out, _ = cli("logz", *files, "--json", "-q")
    assert status == 0
    for found, machine in zip(lines_of(out), machines, strict=True):
        assert found["log_z"] == estimate_log_z(machine).log_z
        assert "starts" not in found["settings"]


def test_updates_of_an_archive_are_measured_as_one_each(archive, cli):
    _, out, _ = cli("logz", archive, "--all-updates", "--update", 200, "--json", "-q")
    found = lines_of(out)
    assert [one["model"]["update"] for one in found] == [0, 100, 200]
    for one in found[1:]:  # 0 asks for the last one
        _, text, _ = cli("logz", archive, "--update", one["model"]["update"], "--json", "-q")
        assert numbers(one) == numbers(json.loads(text))


def test_a_file_without_updates_is_reported(files, archive, cli):
    status, out, err = cli("logz", files[0], archive, "--all-updates", "--json", "-q")
    assert status == 2
    assert len(lines_of(out)) == N_FILES
    assert "is not an archive of updates" in err
    assert cli("logz", archive, "--all-updates", "--path", "trajectory")[0] == 2


# --- states that are handed on ----------------------------------------------------------------------------------


def test_one_starts_from_the_final_states_of_the_one_before(files, cli):
    _, out, _ = cli("logz", *files, *QUICK, "--json", "-q")
    found = lines_of(out)
    assert "starts" not in found[0]["settings"]
    for before, one in pairwise(found):
        if before["trustworthy"]:
            said = one["settings"]["starts"]
            assert said["states_of"] == before["model"]["file"]
            assert said["prior_sha256"] == before["model"]["prior_sha256"]
            assert said["n_states"] == 12
            names = " ".join(check["name"] for check in one["diagnostics"]["checks"])
            assert "given" in names
    assert sum("starts" in one["settings"] for one in found) >= 1


def test_unrelated_machines_hand_nothing_on(tmp_path, cli):
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{k}.npz" for k in range(2)]
    for path in paths:
        np.savez(path, W=rng.normal(size=(20, 20)), b_left=np.zeros(20), b_right=np.zeros(20))
    _, out, _ = cli("logz", *paths, *QUICK, "--json", "-q")
    assert all("starts" not in one["settings"] for one in lines_of(out))


def test_what_is_of_one_training(machines):
    one, other = (BipartiteMachine.from_arrays(*machines[k]) for k in (0, 3))
    assert are_of_one_training(one, other)
    assert not are_of_one_training(one, BipartiteMachine.from_arrays(-machines[3][0], *machines[3][1:]))
    assert not are_of_one_training(one, BipartiteMachine.from_arrays(machines[3][0].T, *machines[3][:0:-1]))
    flat = BipartiteMachine.from_arrays(0 * machines[0][0], *machines[0][1:])
    assert not are_of_one_training(flat, other)


def final_states(rbm):
    kept = []
    estimate_log_z(rbm, method="pt-bar", n_sweeps=400, n_replicates=2000, seed=3, final_states=kept.append)
    (states,) = kept
    return states


def small():
    """An RBM with more units on the left, one of them without couplings."""
    rng = np.random.default_rng(2)
    W = rng.normal(size=(5, 3))
    W[2] = 0
    return W, rng.normal(size=5), rng.normal(size=3)


def exactly(rbm):
    W, left, right = rbm
    n, m = W.shape
    J = np.zeros((n + m, n + m))
    J[:n, n:] = W
    return log_probabilities(J, np.concatenate((left, right)))


def test_final_states_are_those_of_the_machine(monkeypatch):
    """χ² of 2000 replicates against all probabilities: false alarm as the oracle's; drawn blindly they fail."""
    rbm = small()
    assert p_value(final_states(rbm), exactly(rbm)) > 1e-4
    draw = starts._bernoulli
    monkeypatch.setattr(starts, "_bernoulli", lambda p, rng: draw(np.zeros_like(p), rng))
    assert p_value(final_states(rbm), exactly(rbm)) < 1e-12


# --- what stops one does not stop the others --------------------------------------------------------------------


def test_a_bad_file_is_reported_and_the_others_are_measured(files, tmp_path, cli):
    bad = tmp_path / "bad.npz"
    bad.write_text("no archive")
    status, out, err = cli("logz", files[0], bad, files[1], tmp_path / "ck_0.npz", "-q")
    assert status == 2
    assert [line.split()[0] for line in out.splitlines()[4:7]] == ["ck_0.npz", "ck_10.npz", "ck_0.npz"]
    assert err.count("bad.npz") == 1
    assert "Traceback" not in err


def test_a_repeated_command_measures_what_was_missing_alone(files, tmp_path, cli, monkeypatch):
    bad, place = tmp_path / "last.npz", tmp_path / "all.jsonl"
    bad.write_text("no archive")
    assert cli("logz", *files, bad, *QUICK, "-o", place, "-q")[0] == 2
    before = place.read_text()
    assert len(lines_of(before)) == N_FILES
    assert "--force" in cli("logz", *files, bad, *QUICK, "-o", place, "-q")[2]
    bad.write_bytes(files[0].read_bytes())
    seen = counted(monkeypatch)
    cli("logz", *files, bad, *QUICK, "-o", place, "-q", "--force")
    assert len(seen) == 1
    after = lines_of(place.read_text())
    assert len(after) == N_FILES + 1
    assert [*map(numbers, after[:-1])] == [*map(numbers, lines_of(before))]


def counted(monkeypatch, stop_at=None, error=KeyboardInterrupt):
    """Return a list that grows with every machine that is measured; the one after `stop_at` is stopped."""
    seen, measure = [], many.estimate_with_progress

    def counting(*args, **how):
        if len(seen) == stop_at:
            raise error
        seen.append(args)
        return measure(*args, **how)

    monkeypatch.setattr(many, "estimate_with_progress", counting)
    return seen


class Killed(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed])
def test_what_is_done_is_kept_and_not_repeated(files, tmp_path, cli, monkeypatch, error):
    """Stopped before the third machine, the same command gives the same lines as one that was not stopped."""
    place, other = tmp_path / "all.jsonl", tmp_path / "other.jsonl"
    with monkeypatch.context() as stopped:
        counted(stopped, 2, error)
        if error is Killed:
            with pytest.raises(Killed):
                dvae_eval(["logz", *map(str, (*files, *QUICK, "-o", place, "-q"))])
        else:
            status, _, err = cli("logz", *files, *QUICK, "-o", place, "-q")
            assert status == 130
            assert "2 of 4 done; run the same command again to continue" in err
    assert not place.exists()
    seen = counted(monkeypatch)
    cli("logz", *files, *QUICK, "-o", place, "-q")
    assert len(seen) == 2
    cli("logz", *files, *QUICK, "-o", other, "-q")
    assert [*map(numbers, lines_of(place.read_text()))] == [*map(numbers, lines_of(other.read_text()))]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_status_is_the_worst_of_all(machines):
    sound = estimate_log_z(machines[0])
    course = _Course([("a", sound)])
    assert course.status == 0
    object.__setattr__(sound, "trustworthy", False)
    assert course.status == 3
    course.statuses = [2]
    assert course.status == 2
    course.statuses = [2, 1, 2]
    assert course.status == 1


def test_a_table_fits_80_columns(machines, files, data, cli):
    _, out, _ = cli("logz", *files, "--data", data, "--json", "-q", *QUICK)
    place = data.with_suffix(".jsonl")
    place.write_text(out)
    names = [f"a/rather/long/name/of/a/checkpoint_{k}.npz" for k in range(N_FILES)]
    table = log_z_table(list(zip(names, load_result_lines(place), strict=True)))
    text = write_table(table, "text", width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in names)


# --- the likelihood of data -------------------------------------------------------------------------------------


def log_p_of_all(rbm):
    """Return all states of the left side and their log p, by a sum over them."""
    W, left, right = rbm
    v = enumerate_states(len(left))
    log_p = log_marginals(W, left, right, v)
    return v.astype(np.uint8), log_p - logsumexp(log_p)


def test_the_likelihood_is_that_of_enumeration(files, machines, data, cli):
    """To rounding; without the hidden units' biases it is another."""
    _, out, _ = cli("logz", *files, "--data", data, "--json", "-q")
    rows = np.load(data)
    for found, rbm in zip(lines_of(out), machines, strict=True):
        states, log_p = log_p_of_all(rbm)
        of_rows = log_p[[int(np.flatnonzero((states == row).all(1))[0]) for row in rows]]
        mean = found["diagnostics"]["log_likelihood"]["splits"]["all"]
        assert mean["mean"] == pytest.approx(of_rows.mean(), abs=1e-9)
        assert mean["std_err_images"] == pytest.approx(of_rows.std(ddof=1) / np.sqrt(len(rows)), rel=1e-9)
        assert (mean["n_images"], mean["std_err_log_z"]) == (len(rows), 0.0)
        broken = log_p_of_rows(BipartiteMachine.from_arrays(rbm[0], rbm[1], 0 * rbm[2]), rows) - found["log_z"]
        assert abs(broken.mean() - of_rows.mean()) > 1e-3


def test_probabilities_add_up_to_one_on_either_side(machines):
    W, left, right = machines[2]
    for rbm in ((W, left, right), (W.T, right, left)):
        result = estimate_log_z(rbm)
        machine = BipartiteMachine.from_arrays(*rbm)
        for states in (enumerate_states(len(left)).astype(np.uint8),):
            side = machine if machine.n_left == len(left) else BipartiteMachine.from_arrays(W, left, right)
            assert logsumexp(log_p_of_rows(side, states)) == pytest.approx(result.log_z, abs=1e-9)
            found = with_log_likelihood(result, machine, 0.0, {"all": states}, {})
            mean = found.diagnostics["log_likelihood"]["splits"]["all"]["mean"]
            assert mean == pytest.approx(log_p_of_all(machines[2])[1].mean(), abs=1e-9)


def test_files_of_spins_give_the_same_likelihood_of_spins(machines, tmp_path, cli):
    """The constant of a convention is in log p~ and in log Z: a machine of spins against one of 0 and 1."""
    W, left, right = machines[1]
    J, a, b = W / 4, left / 2 + W.sum(1) / 4, right / 2 + W.sum(0) / 4
    np.savez(tmp_path / "bits.npz", W=W, b_left=left, b_right=right)
    np.savez(tmp_path / "spins.npz", W=J, b_left=a, b_right=b)
    v = np.random.default_rng(1).integers(0, 2, (40, N_LEFT))
    np.save(tmp_path / "spins.npy", (2 * v - 1).astype(np.int8))
    np.savetxt(tmp_path / "bits.txt", v, fmt="%d")
    found = []
    for name, rows, units in (("bits", "bits.txt", "01"), ("spins", "spins.npy", "pm1")):
        more = ("--data", tmp_path / rows, "--units", units, "--json", "-q")
        found.append(json.loads(cli("logz", tmp_path / f"{name}.npz", *more)[1]))
    means = [one["diagnostics"]["log_likelihood"]["splits"]["all"]["mean"] for one in found]
    assert means[0] == pytest.approx(means[1], abs=1e-9)
    assert abs(found[0]["log_z"] - found[1]["log_z"]) > 0.1


def test_splits_of_images_are_told_apart(files, tmp_path, cli):
    rng = np.random.default_rng(4)
    splits = {name: rng.integers(0, 2, (n, 2, 4)) for name, n in (("train", 30), ("valid", 6), ("test", 9))}
    np.savez(tmp_path / "images.npz", **splits)
    found = json.loads(cli("logz", files[0], "--data", tmp_path / "images.npz", "--json", "-q")[1])
    of = found["diagnostics"]["log_likelihood"]["splits"]
    assert {name: one["n_images"] for name, one in of.items()} == {"train": 30, "valid": 6, "test": 9}
    assert len({one["mean"] for one in of.values()}) == 3


def test_data_of_another_size_are_refused_before_anything_is_measured(files, tmp_path, cli):
    np.save(tmp_path / "data.npy", np.zeros((3, 7), np.uint8))
    np.savez(tmp_path / "general.npz", J=np.triu(np.ones((7, 7)), 1), b=np.ones(7))
    for path, message in ((files[0], "sides of 8 and 5 units"), (tmp_path / "general.npz", "is not an RBM")):
        status, out, err = cli("logz", path, "--data", tmp_path / "data.npy", "-q")
        assert (status, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_the_likelihood_along_a_path_is_that_of_each_machine(files, data, cli):
    more = ("--data", data, "--json", "-q")
    along = json.loads(cli("logz", *files, "--path", "trajectory", *more)[1])["diagnostics"]["trajectory"]
    each = lines_of(cli("logz", *files, *more)[1])
    means = [one["diagnostics"]["log_likelihood"]["splits"]["all"]["mean"] for one in each]
    assert along["log_likelihood"]["all"]["mean"] == pytest.approx(means, abs=1e-9)


# --- the figure -------------------------------------------------------------------------------------------------


def test_a_curve_has_the_updates_of_an_archive_or_the_numbers_of_files(files, archive, data, tmp_path, cli):
    """Sorted; without numbers of their own, in their order."""
    kept = {}
    for name, models in (("files", files[::-1]), ("archive", [archive, "--all-updates"])):
        kept[name] = tmp_path / f"{name}.jsonl"
        assert cli("logz", *models, "--data", data, "-o", kept[name], "-q")[0] == 0
    assert curve_of(load_result_lines(kept["files"]))["steps"] == [0, 10, 20, 30]
    assert curve_of(load_result_lines(kept["archive"]))["steps"] == [0, 100, 200, 300]
    one, other = (curve_of(load_result_lines(path)) for path in kept.values())
    assert one["log_z"] == other["log_z"]
    assert one["log_likelihood"] == other["log_likelihood"]
    twice = load_result_lines(kept["files"])[:2]
    for result in twice:
        result.model["file"] = "rbm.npz"
    assert curve_of(twice)["steps"] == [1, 2]
    assert cli("figure", "trajectory", *kept.values(), "-o", tmp_path / "a.svg").status == 0
    assert (tmp_path / "a.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n"])
def test_a_file_of_other_lines_is_refused(tmp_path, cli, text):
    (tmp_path / "a.jsonl").write_text(text)
    status, _, err = cli("figure", "trajectory", tmp_path / "a.jsonl", "-o", tmp_path / "a.svg")
    assert status == 2
    assert "a.jsonl" in err
    assert err.count("\n") == 1
