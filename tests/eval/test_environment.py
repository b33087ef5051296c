"""What results say of where, when and at what cost they were made, and of the version of their estimator."""

import dataclasses
import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pytest

from dvae_core import environment
from dvae_core.config import RunConfig
from dvae_core.environment import Effort, Spent, commit_of, count_worker
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval import compare_samples, estimate_log_likelihood, estimate_log_z, estimate_observables, sample_states
from dvae_eval.comparison import compare_samples as comparison_module
from dvae_eval.config import GradientConfig, LikelihoodConfig
from dvae_eval.gradients import comparison as gradients_module
from dvae_eval.likelihood import estimate_log_likelihood as likelihood_module
from dvae_eval.log_z import estimate_log_z as log_z_module
from dvae_eval.observables import estimate_observables as observables_module
from dvae_eval.results import LogZResult
from dvae_eval.runtime.pool import map_unordered
from dvae_eval.states import sample_states as states_module
from dvae_eval.trained import machine_of
from tests.oracles import enumerate_states, tiny_model

RBM = (np.array([[0.5, -1.0, 0.3], [0.8, 0.2, -0.6]]), np.array([0.1, -0.2]), np.array([0.0, 0.3, -0.4]))
IMAGES = enumerate_states(3).astype(np.uint8)


def trained():
    model = tiny_model(n_left=1, n_right=2, n_layers=1, scale=0.5).float()
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


def log_z():
    return estimate_log_z(RBM, method="pt-bar", n_sweeps=40, n_replicates=4, seed=1)


def likelihood():
    model = trained()
    config = LikelihoodConfig(n_samples=100, n_simulated=2)
    return estimate_log_likelihood(model, IMAGES, estimate_log_z(machine_of(model)), config)


def observables():
    return estimate_observables(RBM, method="pt", n_sweeps=40, n_replicates=4, seed=1)


def comparison():
    return compare_samples(RBM, np.random.default_rng(0).integers(0, 2, (200, 5)), seed=1)


def states():
    return sample_states(RBM, 20, method="pt-bar", n_sweeps=40, n_replicates=4, seed=1)


def gradients():
    config = GradientConfig(n_samples=40, n_reference=80, n_pilot=40, limit=2)
    return gradients_module.measure_gradients(trained(), IMAGES, config)


# Version and a number of every estimator.  No draw is near a tie here: processors that round otherwise agree.
GOLDEN = {
    "logz": (log_z_module, log_z, lambda r: r.log_z, 1, 3.567792794710337),
    "ll": (likelihood_module, likelihood, lambda r: r.log_likelihood, 1, -2.4355375233237853),
    "observables": (observables_module, observables, lambda r: r.energy, 1, -0.26536647882400294),
    "comparison": (comparison_module, comparison, lambda r: r.beta_pl, 1, -0.08272556610794445),
    "states": (states_module, states, lambda r: float(r.log_p.sum()), 1, -64.25585589420673),
    "gradients": (
        gradients_module,
        gradients,
        lambda r: r.estimators["nvil"]["terms"]["elbo"]["variance"],
        1,
        0.9707726919458267,
    ),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_other_digits_raise_the_version_of_the_estimator(kind):
    module, estimate, number, version, golden = GOLDEN[kind]
    result = estimate()
    assert result.kind == kind
    assert result.estimator_version == module.ESTIMATOR_VERSION
    assert (module.ESTIMATOR_VERSION, number(result)) == (version, pytest.approx(golden, rel=1e-6)), (
        f"the digits of {kind} have changed: raise ESTIMATOR_VERSION in {module.__name__}, "
        "write it and the new number here, and say so in CHANGELOG.md"
    )


def test_a_result_says_where_and_when_it_was_made():
    result = log_z()
    found = result.environment
    names = "date host processor gpu n_threads system cpu_seconds peak_memory_mb commit".split()
    assert list(found) == names
    assert abs(datetime.fromisoformat(found["date"]) - datetime.now(UTC)).total_seconds() < 60
    assert 0 <= found["cpu_seconds"] < 60
    assert 10 < found["peak_memory_mb"] < 100_000
    assert found["n_threads"] >= 1
    assert found["host"] in result.making
    assert f", {found['peak_memory_mb']} MB" in result.making
    data = json.loads(result.to_json())
    assert data["environment"] == found
    assert LogZResult.from_dict(data) == result


def test_a_file_of_an_earlier_version_says_nothing():
    data = log_z().to_dict()
    del data["environment"], data["estimator_version"]
    old = LogZResult.from_dict(json.loads(json.dumps(data)))
    assert (old.environment, old.estimator_version, old.making) == ({}, 0, "")


def test_results_are_equal_wherever_they_were_made():
    result = log_z()
    assert dataclasses.replace(result, environment={"host": "elsewhere"}) == result


@pytest.mark.parametrize(
    "hostile",
    [{"host": [1]}, {"cpu_seconds": float("inf")}, {"cpu_seconds": "1"}, {"date": {}, "peak_memory_mb": None}],
)
def test_a_strange_environment_is_passed_over(hostile):
    assert isinstance(dataclasses.replace(log_z(), environment=hostile).making, str)


def test_the_host_can_be_left_out(monkeypatch):
    monkeypatch.setenv("DVAE_NO_HOST", "1")
    assert Effort().environment()["host"] is None


def busy(_shared, seconds):
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass
    return seconds


def test_what_workers_spend_is_counted_once():
    effort = Effort()
    assert sorted(map_unordered(busy, None, [0.3, 0.2], 1)) == [(0, 0.3), (1, 0.2)]
    assert 0.5 <= effort.environment()["cpu_seconds"] < 0.8
    effort = Effort()
    with joblib.parallel_config(backend="threading"):
        assert len(list(map_unordered(busy, None, [0.2, 0.2], 2))) == 2
    assert 0.4 <= effort.environment()["cpu_seconds"] < 0.8


def test_other_processes_are_counted(monkeypatch):
    monkeypatch.setattr(environment._Workers, "cpu_seconds", 0.0)
    monkeypatch.setattr(environment._Workers, "peak_memory", 0)
    effort = Effort()
    count_worker(Spent(("elsewhere", 1), 50.0, 10**15))
    count_worker(Spent(("elsewhere", 2), 60.0, 10**14))
    found = effort.environment()
    assert 110 <= found["cpu_seconds"] < 112
    assert found["peak_memory_mb"] == 10**9


@pytest.mark.slow
def test_processes_report_what_they_spend():
    effort = Effort()
    assert len(list(map_unordered(busy, None, [2.0, 2.0], 2))) == 2
    assert effort.environment()["cpu_seconds"] > 3.9


def git(place, *args):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", place, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_read_without_git(tmp_path):
    assert commit_of(tmp_path) is None
    root = tmp_path / "root"
    root.mkdir()
    git(root, "init", "-q", "-b", "work/branch")
    assert commit_of(root) is None  # nothing has been committed
    git(root, "commit", "-q", "--allow-empty", "-m", "One")
    head = git(root, "rev-parse", "HEAD")
    assert commit_of(root) == head
    git(root, "worktree", "add", "-q", "-b", "other", tmp_path / "tree")
    assert commit_of(tmp_path / "tree") == head
    git(root, "pack-refs", "--all")
    assert (commit_of(root), commit_of(tmp_path / "tree")) == (head, head)
    git(root, "checkout", "-q", "--detach")
    assert commit_of(root) == head
    (root / ".git" / "HEAD").write_bytes(b"\xff")
    assert commit_of(root) is None
