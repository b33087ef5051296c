"""The run from the uniform reference decides whether the rest of the time goes to one from the machine's modes."""

from functools import cache

import numpy as np
import pytest

from dvae_eval.log_z import best_reference, methods
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.runtime.resume import Store
from dvae_eval.test_machines.rbms import planted, random_rbm

QUICK = {"method": "pt-bar", "threads": 1}
# Four pairs of modes of unequal weight: the path from the uniform reference is slow.
STRONG = planted(5, (16, 60), 0.9, n_patterns=4, field=0.02)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Two seconds of work are what a run may take, and no wall time."""
    for module in (tempered, best_reference):
        monkeypatch.setattr(module, "CORE_SECONDS", 2.0)
    monkeypatch.setattr(methods, "AUTO_SECONDS", 1e5)  # a machine under load is slow


@cache
def estimate(seed=0, reference="auto", smaller=best_reference.SMALLER):
    """Return log Z of the STRONG machine, undisturbed; the tests of this file compare with the same estimates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_reference, "SMALLER", smaller)
        return estimate_log_z(STRONG[0], **QUICK, seed=seed, reference=reference)


@pytest.mark.parametrize("seed", range(4))
def test_modes_are_taken_where_they_lead_further(seed):
    """|z| < 6 with 31 degrees of freedom: false alarm 1.2e-6 each."""
    found, uniform = estimate(seed), estimate(seed, "uniform")
    assert found.diagnostics["reference"] == "modes"
    assert found.std_err < 0.7 * uniform.std_err
    assert abs(found.log_z - STRONG[1]) < 6 * found.std_err
    assert found.trustworthy, found.reasons


def test_an_easy_machine_needs_no_modes():
    """To the last digit what the uniform reference says."""
    machine, _ = random_rbm(3, (12, 30), 1.0)
    auto, uniform = (estimate_log_z(machine, **QUICK, reference=name) for name in ("auto", "uniform"))
    assert auto.repeats == uniform.repeats
    assert auto.diagnostics["reference"] == "uniform"


def test_modes_that_lead_no_further_are_left():
    assert estimate(smaller=0.0).repeats == estimate(reference="uniform").repeats


def test_a_run_of_given_length_is_from_the_uniform_reference():
    machine, _ = STRONG
    settings = {**QUICK, "n_sweeps": 200}
    auto, uniform = (estimate_log_z(machine, **settings, reference=name) for name in ("auto", "uniform"))
    assert auto.repeats == uniform.repeats


def test_repeats_choose_each_for_itself(monkeypatch):
    """Every second one is from modes: all checks of all repeats are there, and the mean agrees."""
    machine, exact = STRONG
    is_slow, told = best_reference._is_slow, []

    def every_second(run):
        told.append(is_slow(run))
        return len(told) % 2 == 0

    monkeypatch.setattr(best_reference, "_is_slow", every_second)
    found = estimate_log_z(machine, **QUICK, n_repeats=4)
    names = [check["name"] for check in found.diagnostics["checks"]]
    assert len(set(names)) == len(names)
    assert abs(found.log_z - exact) < 6 * found.std_err


class Killed(Exception): ...


def killed_at(wanted, n):
    """Return progress that dies when a phase is told of for the n-th time."""
    told = []

    def progress(phase, *_):
        told.append(phase)
        if told.count(wanted) == n:
            raise Killed

    return progress


@pytest.mark.parametrize(
    ("phase", "smaller"),
    [
        ("tempering", 0.7),
        ("pilot from modes", 0.7),
        ("tempering from modes", 0.7),
        ("pilot from modes", 0.0),
        ("tempering", 0.0),
    ],
)
def test_an_interruption_anywhere_does_not_change_the_result(phase, smaller, tmp_path, monkeypatch):
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tempered, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(best_reference, "SMALLER", smaller)
    machine, path = STRONG[0], tmp_path / "partial.npz"
    whole = estimate(1, smaller=smaller)
    for n in (2, 30):
        try:
            estimate_log_z(machine, **QUICK, seed=1, partial=path, progress=killed_at(phase, n))
        except Killed:
            assert path.exists() or phase == "tempering"
    again = estimate_log_z(machine, **QUICK, seed=1, partial=path)
    assert again.repeats == whole.repeats
    assert again.diagnostics.get("uniform_run") == whole.diagnostics.get("uniform_run")


def test_other_starts_are_modes_and_states_in_turn():
    run = tempered.TemperedRun(STRONG[0], best_reference_config())
    run.adapt()
    starts = best_reference._other_starts(run)
    assert starts.shape[1] == len(run.reduced.b)
    assert np.array_equal(starts[1], run.replicas.v[0, -1])
    assert np.array_equal(starts[-1], run.replicas.v[-1, 0])
    assert ((starts >= 0) & (starts <= 1)).all()


def best_reference_config():
    from dvae_eval.config import LogZConfig

    return LogZConfig(method="pt-bar", reference="uniform")


def test_parts_of_a_file_stand_beside_each_other(tmp_path):
    def part(prefix, task=1, **others):
        return Store(tmp_path / "x.npz", {"a": task}, prefix=prefix, others=others)

    assert part("first/").load() is None
    part("first/").save({"n": np.array(3)})
    first = part("first/").load()
    assert first is not None
    assert first["n"] == 3
    part("second/", **{"first/n": first["n"]}).save({"n": np.array(4)})
    for prefix, n in (("first/", 3), ("second/", 4)):
        found = part(prefix).load()
        assert found is not None
        assert found["n"] == n
    assert part("third/").load() is None
    assert part("first/", task=2).load() is None


def test_a_run_from_modes_is_continued(tmp_path):
    """The second run alone: the first stays as it was.  |z| < 6 with 31 degrees of freedom, as above."""
    machine, exact = STRONG
    settings = {**QUICK, "seed": 1, "reference": "modes", "partial": tmp_path / "partial.npz"}
    first = estimate_log_z(machine, **settings, precision=0.05)
    then = estimate_log_z(machine, **settings, precision=0.7 * first.std_err)
    assert then.std_err <= 0.7 * first.std_err
    assert [part["n_done"] for part in then.diagnostics["continued_from"]] == [first.diagnostics["n_sweeps"]]
    assert then.diagnostics["uniform_run"]["n_sweeps"] == first.diagnostics["uniform_run"]["n_sweeps"]
    assert abs(then.log_z - exact) < 6 * then.std_err
    assert then.trustworthy, then.reasons
