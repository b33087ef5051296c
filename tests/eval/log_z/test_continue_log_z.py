"""Finished estimates of log Z that a stricter rule continues: equal to runs that had it from the start."""

import json

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_eval import BipartiteMachine, estimate_log_z
from dvae_eval.config import LogZConfig
from dvae_eval.log_z import continuing
from dvae_eval.log_z import estimate_log_z as log_z_module
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.checks import student_limit
from dvae_eval.runtime.resume import Store
from tests.commands import status_of

# Of a result: when and where it was made, and at what cost.
TIMES = ("wall_seconds", "environment", "command")


@pytest.fixture(scope="module")
def machine():
    rng = np.random.default_rng(0)
    return BipartiteMachine.from_arrays(rng.normal(size=(24, 20)) / 3, np.zeros(24), np.zeros(20))


@pytest.fixture
def rbm(machine, tmp_path):
    path = tmp_path / "rbm.npz"
    np.savez(path, W=machine.W, b_left=machine.b_left, b_right=machine.b_right)
    return path


def content(result):
    """Return all of a result but times, and of what it was made."""
    found = result.to_dict() if hasattr(result, "to_dict") else dict(result)
    diagnostics = {k: v for k, v in found["diagnostics"].items() if k != "continued_from"}
    return {k: v for k, v in found.items() if k not in TIMES} | {"diagnostics": diagnostics}


def estimate(machine, partial=None, **settings):
    return estimate_log_z(machine, method="pt-bar", seed=3, threads=1, partial=partial, **settings)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"precision": 0.03}, {"precision": 0.008}),
        ({"precision": 0.03}, {"precision": 0.008, "sandwich": True}),
        ({"precision": 0.5}, {"precision": 0.4}),  # which the first run has reached as well
        ({"n_sweeps": 1500}, {"n_sweeps": 4000}),
        ({"n_sweeps": 100, "n_repeats": 2}, {"n_sweeps": 100, "n_repeats": 5}),
        ({"n_sweeps": 100, "n_repeats": 5}, {"n_sweeps": 100, "n_repeats": 2}),
    ],
)
def test_what_continues_is_what_had_the_stricter_rule_from_the_start(machine, tmp_path, first, then):
    path = tmp_path / "state.npz"
    estimate(machine, path, **first)
    continued, plain = estimate(machine, path, **then), estimate(machine, **then)
    assert content(continued) == content(plain)


def test_a_result_says_what_it_continues(machine, tmp_path):
    path = tmp_path / "state.npz"
    results = [estimate(machine, path, n_sweeps=n) for n in (1300, 1300, 2000, 2700)]
    parts = [result.diagnostics.get("continued_from", []) for result in results]
    assert [[part["n_done"] for part in found] for found in parts] == [[], [], [1280], [1280, 1984]]
    assert parts[3][1]["std_err"] == pytest.approx(results[2].std_err, rel=1e-6)
    assert parts[3][1]["n_sweeps"] == 2000
    assert parts[3][1]["date"].endswith("+00:00")


@pytest.mark.parametrize("settings", [{"n_sweeps": 200}, {"n_sweeps": 50, "n_repeats": 2}])
def test_a_finished_run_is_recorded_even_if_nothing_is_added(machine, tmp_path, settings):
    path, work = tmp_path / "state.npz", tmp_path / "work.npz"
    first = estimate(machine, path, **settings)
    done = settings.get("n_repeats", first.diagnostics["n_sweeps"])
    parts = []
    for _ in range(3):
        again = estimate(machine, work, finished=path, **settings)
        assert content(again) == content(first)
        # After a kill before the result is written, the work itself is there.
        killed = estimate(machine, work, finished=path, **settings)
        assert killed.diagnostics["continued_from"] == again.diagnostics["continued_from"]
        parts.append([part["n_done"] for part in again.diagnostics["continued_from"]])
        work.rename(path)
    assert parts == 3 * [[done]]


def test_nothing_is_swept_that_was_swept_before(machine, tmp_path, monkeypatch):
    path, swept = tmp_path / "state.npz", []
    add = tempered.WorkSums.add
    monkeypatch.setattr(tempered.WorkSums, "add", lambda self, works: (swept.append(1), add(self, works))[1])
    estimate(machine, path, n_sweeps=1280)
    swept.clear()
    monkeypatch.setattr(tempered, "run_pilot", None)
    estimate(machine, path, n_sweeps=1280)
    assert not swept
    estimate(machine, path, n_sweeps=1600)
    assert len(swept) == 10


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"precision": 0.01}, {"precision": 0.05}),  # a looser rule stops earlier
        ({"n_sweeps": 2000}, {"n_sweeps": 1500}),
        ({"n_sweeps": 200}, {"n_sweeps": 1500}),  # sums of shorter blocks
        ({"precision": 0.05}, {"n_sweeps": 1500}),
        ({"precision": 0.05}, {"precision": 0.02, "burn_in": 0.5}),
    ],
)
def test_what_cannot_be_continued_is_made_from_its_start(machine, tmp_path, first, then):
    path = tmp_path / "state.npz"
    estimate(machine, path, **first)
    again = estimate(machine, path, **then)
    assert "continued_from" not in again.diagnostics
    assert content(again) == content(estimate(machine, **then))


def test_rungs_that_a_longer_run_would_place_anew_are_not_continued(machine, tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    estimate(machine, path, n_sweeps=1500)  # looks at its rates after 187 sweeps; one of 4000, after 500
    arrays = dict(np.load(path))
    longer = LogZConfig(n_sweeps=4000)
    assert continuing.can_continue(arrays, longer)
    low = {**arrays, "least_rates": np.where(np.arange(len(arrays["least_rates"])) == 15, 0.1, 0.5)}
    assert not continuing.can_continue(low, longer)
    low["least_rates"] = np.where(np.arange(len(low["least_rates"])) == 14, 0.1, 0.5)
    assert continuing.can_continue(low, longer)
    assert not continuing.can_continue({**arrays, "looked": np.array([True, True])}, longer)


@pytest.mark.parametrize("share", [1.0001, 0.9])
def test_a_rule_that_is_hardly_stricter_ends_soon_after(machine, tmp_path, share):
    path = tmp_path / "state.npz"
    first = estimate(machine, path, precision=0.008)
    then = estimate(machine, path, precision=first.std_err * share)
    assert then.std_err <= first.std_err
    assert [part["n_done"] for part in then.diagnostics["continued_from"]] == [first.diagnostics["n_sweeps"]]
    assert content(then) == content(estimate(machine, precision=first.std_err * share))


def test_looks_that_were_not_kept_are_made_where_the_run_is(machine):
    """A rule that would have looked between two looks of the first: it looks at the end of that, and goes on."""
    run = tempered.TemperedRun(machine, LogZConfig(precision=0.01))
    run.errors, run.n_iterations = {640: 0.03, 960: 0.025, 1920: 0.015}, 1920
    assert run._replayed_check() == 3840  # from 640 to 1280, which was not kept: 1920 stands for it
    run.errors = {640: 0.03, 1280: 0.025, 1920: 0.015}
    assert run._replayed_check() == 2560
    run.errors = {640: 0.03, 1280: 0.01}
    assert run._replayed_check() == 1280  # where it would have ended


def test_a_run_that_a_time_limit_cut_is_continued_by_a_longer_limit_alone(machine, tmp_path):
    path = tmp_path / "state.npz"
    estimate(machine, path, n_sweeps=1500, time_limit=100)
    arrays = dict(np.load(path))
    assert continuing.can_continue(arrays, LogZConfig(n_sweeps=1500, time_limit=200))
    assert not continuing.can_continue(arrays, LogZConfig(n_sweeps=1500, time_limit=50))
    assert not continuing.can_continue(arrays, LogZConfig(n_sweeps=2000, n_replicates=64))


def test_limits_of_repeats_are_those_of_their_number(machine):
    one = estimate(machine, n_sweeps=100, n_repeats=2)
    assert student_limit(32, 2) in [check.threshold for check in one.checks]
    few = log_z_module.Estimate(0.0, 1.0, [], 32, one.checks, {})
    many = continuing.of_more_comparisons(few, 2, 50)
    assert student_limit(32, 50) in [check.threshold for check in many.checks]
    assert not {student_limit(32, 2)} & {check.threshold for check in many.checks}
    refereed = log_z_module.Estimate(0.0, 1.0, [], 32, [], {"referee": {}})
    assert continuing.of_more_comparisons(refereed, 2, 50) is None


def command(*args):
    """Run dvae-eval logz, and return its exit status."""
    return status_of(dvae_eval, "logz", *args, "--method", "pt-bar", "--threads", 1)


def read(path):
    return json.loads(path.read_text())


def test_a_command_continues_from_the_state_beside_its_result(rbm, tmp_path, capsys):
    out, plain = tmp_path / "out.json", tmp_path / "plain.json"
    assert command(rbm, "-o", out, "--sweeps", 1300) == 0
    assert (tmp_path / "out.state.npz").exists()
    capsys.readouterr()
    assert command(rbm, "-o", out, "--force", "--sweeps", 2000) == 0
    assert "continued from 1280 sweeps, ± 0.00" in capsys.readouterr().err
    assert command(rbm, "-o", plain, "--sweeps", 2000) == 0
    assert content(read(out)) == content(read(plain))
    capsys.readouterr()
    assert command(rbm, "-o", plain, "--force", "--sweeps", 2000) == 0
    said = capsys.readouterr().err
    assert "continued from 1984 sweeps, ± 0.00" in said
    assert "could not be continued" not in said
    assert command(rbm, "-o", out, "--force", "--sweeps", 2000, "--seed", 1) == 0
    said = "out.state.npz could not be continued (another model, other settings, or too short a run)"
    assert said in capsys.readouterr().err
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"rbm.npz", "out.json", "out.state.npz", "plain.json", "plain.state.npz"}


def test_a_kill_while_continuing_loses_neither_result_nor_state(rbm, tmp_path, monkeypatch):
    out, state = tmp_path / "out.json", tmp_path / "out.state.npz"
    command(rbm, "-o", out, "--sweeps", 1300)
    before = out.read_bytes(), state.read_bytes()
    args = (rbm, "-o", out, "--force", "--sweeps", 3000)
    save, saved = Store.save, []

    def killed(self, arrays):
        save(self, arrays)
        saved.append(int(arrays["n_iterations"]))
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tempered, "SAVE_SECONDS", 0.0)
        patch.setattr(Store, "save", killed)
        assert command(*args) == 130
    assert (out.read_bytes(), state.read_bytes()) == before
    loaded = []
    load = tempered.TemperedRun.load_state_dict
    monkeypatch.setattr(
        tempered.TemperedRun,
        "load_state_dict",
        lambda self, arrays: (loaded.append(int(arrays["n_iterations"])), load(self, arrays))[1],
    )
    assert command(*args) == 0
    assert loaded == [saved[-1]]
    plain = tmp_path / "plain.json"
    command(rbm, "-o", plain, "--sweeps", 3000)
    assert content(read(out)) == content(read(plain))
    assert [part["n_done"] for part in read(out)["diagnostics"]["continued_from"]] == [1280]
    assert state.read_bytes() != before[1]


def test_a_state_that_is_too_large_is_not_kept(rbm, tmp_path, monkeypatch, capsys):
    from dvae_cli import inputs

    monkeypatch.setattr(inputs, "STATE_BYTES", 1000)
    command(rbm, "-o", tmp_path / "out.json", "--sweeps", 100)
    assert "is too large to save: no later command can continue it" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"rbm.npz", "out.json"}


def test_a_state_goes_where_its_result_goes(rbm, tmp_path):
    """In a run's directory, where a result makes way for one of the run's own model."""
    from dvae_cli.outputs import Found, Output

    out, state = tmp_path / "logz.json", tmp_path / "logz.state.npz"
    out.write_text("{}")
    state.write_bytes(b"state")
    place = Output(out, is_default=True).settle(lambda path: Found("moved", "is old"), (".state.npz",))
    assert place.path == out
    assert (tmp_path / "logz-2.state.npz").read_bytes() == b"state"
    assert not state.exists()


def test_an_exact_value_leaves_no_state(rbm, tmp_path):
    state = tmp_path / "out.state.npz"
    state.write_bytes(b"of an earlier result")
    assert status_of(dvae_eval, "logz", rbm, "-o", tmp_path / "out.json", "--method", "exact") == 0
    assert not state.exists()
