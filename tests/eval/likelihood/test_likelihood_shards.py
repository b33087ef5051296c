"""Shards: spread over processes, killed and resumed, the result is the same to the last bit."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from dvae_core.config import RunConfig
from dvae_core.errors import ConfigError
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood import image_tasks
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.importance import ImageWeights, ImportanceTask, stack_images
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.runtime.compute import Plan, Resources, available_memory, parse_memory
from dvae_eval.runtime.resume import ResumeDirectory, digest_of
from dvae_eval.trained import machine_of
from tests.oracles import enumerate_states, tiny_model
from tests.places import ROOT

IMAGES = np.tile(enumerate_states(3).astype(np.uint8), (3, 1))
CONFIG = LikelihoodConfig(n_samples=200)


def trained():
    model = tiny_model(n_left=1, n_right=2, n_layers=1, scale=0.5).float()
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


def estimate(config=CONFIG, resume=None, **options):
    """Return the estimate; if it is finished, its shards are removed from the directory `resume`."""
    model = trained()
    kept = resume and ResumeDirectory(resume)
    log_z = estimate_log_z(machine_of(model))
    result = estimate_log_likelihood(model, IMAGES, log_z, config, resume=kept, **options)
    if kept:
        kept.remove()
    return result


@pytest.fixture
def small_shards(monkeypatch):
    """Every image is a shard of its own."""
    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)


def same_bits(one, other):
    """Say whether two results differ in nothing but what the machine did."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("log_likelihood", "std_err_images", "elbo", "elbo_parts", "per_image", "gap", "diagnostics")
    )


class _Stop(Exception):
    pass


def stop_after(n):
    def progress(_phase, done, _total, _estimate):
        if done >= n:
            raise _Stop

    return progress


def test_finished_images_are_not_done_again(small_shards, tmp_path, monkeypatch):
    whole, place = estimate(), tmp_path / "ll.shards"
    with pytest.raises(_Stop):
        estimate(resume=place, progress=stop_after(10))
    assert len(list(place.glob("*/*.npz"))) == 10
    # One that is damaged is done again.
    next(place.glob("*/*.npz")).write_bytes(b"damaged")
    done, weigh = [], ImportanceTask.__call__
    monkeypatch.setattr(
        ImportanceTask,
        "__call__",
        lambda self, x, index, *more: done.append(index) or weigh(self, x, index, *more),
    )
    plans = []
    resumed = estimate(resume=place, announce=plans.append)
    assert len(done) == len(IMAGES) - 9
    assert plans[0].n_done == 9
    assert same_bits(whole, resumed)
    assert not place.exists()


def test_annealing_that_is_stopped_keeps_what_came_before_it(small_shards, tmp_path):
    config = dataclasses.replace(CONFIG, method="ais", n_ais_chains=40, n_ais_steps=3)

    def stop(phase, done, _total, _estimate):
        if phase == "annealing" and done >= 4:
            raise _Stop

    with pytest.raises(_Stop):
        estimate(config, resume=tmp_path / "s", progress=stop)
    plans = []
    resumed = estimate(config, resume=tmp_path / "s", announce=plans.append)
    assert [plan.n_done for plan in plans] == [4]
    assert same_bits(estimate(config), resumed)


@pytest.mark.parametrize("change", [{"n_samples": 201}, {"seed": 1}, {"limit": 5}, {"precision": "float64"}])
def test_shards_of_other_settings_are_left_alone(small_shards, tmp_path, change):
    place = tmp_path / "ll.shards"
    with pytest.raises(_Stop):
        estimate(resume=place, progress=stop_after(3))
    config = dataclasses.replace(CONFIG, **change)
    assert same_bits(estimate(config), estimate(config, resume=place))
    assert len(list(place.glob("*/*.npz"))) == 3


def test_a_digest_depends_on_all_that_it_is_given():
    task = {"seed": 0, "images": IMAGES, "index": np.arange(24)}
    others = [
        {"seed": 1},
        {"images": 1 - IMAGES},
        {"images": IMAGES.reshape(8, 9)},
        {"images": IMAGES.astype(bool)},
        {"index": task["index"] + 1},
    ]
    assert len({digest_of({**task, **other}) for other in ({}, *others)}) == 6
    assert digest_of(dict(reversed(task.items()))) == digest_of({**task, "images": IMAGES.copy()})


def test_a_second_process_is_refused(tmp_path):
    kept = ResumeDirectory(tmp_path)
    words = "another process is computing the same estimate"
    with (
        kept.held({"seed": 0}) as store,
        pytest.raises(ConfigError, match=words),
        kept.held({"seed": 0}),
    ):
        pass
    with kept.held({"seed": 1}) as other:
        assert other.directory != store.directory


def test_a_shard_comes_back_as_it_went(tmp_path):
    rng = np.random.default_rng(0)
    weights = stack_images([ImageWeights.of(rng.normal(size=30), rng.normal(size=3)) for _ in range(4)])
    with ResumeDirectory(tmp_path).held({"seed": 0}) as store:
        store.save("7", {"positions": np.array([7, 2, 9, 0]), **dataclasses.asdict(weights)})
        [found] = store.load()
        other = dataclasses.replace(store, task={"seed": 1})
        assert not list(other.load())
    assert found["positions"].tolist() == [7, 2, 9, 0]
    for field in dataclasses.fields(weights):
        assert np.array_equal(found[field.name], getattr(weights, field.name))


def test_shards_through_joblib_have_the_same_bits(small_shards, tmp_path):
    """The path that several processes take, with threads in their place: quicker to start."""
    with joblib.parallel_config(backend="threading"):
        spread = estimate(resources=Resources(n_workers=2), resume=tmp_path / "s")
    assert same_bits(estimate(), spread)


@pytest.mark.slow
def test_two_processes_have_the_same_bits(small_shards):
    plans = []
    spread = estimate(resources=Resources(n_workers=2), announce=plans.append)
    assert plans[0].n_workers == 2
    assert same_bits(estimate(), spread)


WORK = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from dvae_eval.likelihood import image_tasks
from tests.eval.likelihood.test_likelihood_shards import estimate
image_tasks.SHARD_SECONDS = 0.0
print(repr(estimate(resume=Path(sys.argv[1]), resources=image_tasks.Resources(n_workers=int(sys.argv[2])),
    progress=lambda *_: __import__("time").sleep(float(sys.argv[3]))).per_image), flush=True)
"""


def started(place, n_workers, pause):
    command = [sys.executable, "-c", WORK, str(place), str(n_workers), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_shards(place, process, n=2):
    deadline = time.monotonic() + 120
    while len(list(place.glob("*/*.npz"))) < n:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_gone_on_with(small_shards, tmp_path, n_workers):
    place = tmp_path / "ll.shards"
    with started(place, n_workers, 0.2) as process:
        wait_for_shards(place, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # Its workers would notice before long; this way joblib's own files are gone with them at once.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    n_kept = len(list(place.glob("*/*.npz")))
    assert 2 <= n_kept < len(IMAGES)
    plans = []
    assert same_bits(estimate(), estimate(resume=place, announce=plans.append))
    assert plans[0].n_done == n_kept


def test_the_memory_decides_on_the_workers():
    resources = Resources(memory=10**9)
    assert resources.workers_for(seconds=1.0, n_tasks=100, bytes_each=10**8) == 1
    assert Resources(n_workers=4, memory=10**9).workers_for(1.0, 100, 10**8) == 4
    assert Resources(n_workers=4, memory=4 * 10**8).workers_for(1.0, 100, 10**8) == 3
    assert Resources(n_workers=4, memory=10**9).workers_for(1.0, 2, 10**8) == 2
    with pytest.raises(ConfigError, match=r"--memory: 50 MB is less than the 100 MB"):
        Resources(memory=5 * 10**7).workers_for(1.0, 100, 10**8)
    assert available_memory() > 10**7


@pytest.mark.parametrize(
    ("text", "n"), [("500MB", 5 * 10**8), ("4G", 4 * 10**9), ("1.5 gb", 15 * 10**8), ("9", 9)]
)
def test_memory_as_people_write_it(text, n):
    assert parse_memory(text) == n


@pytest.mark.parametrize("text", ["much", "-4G", "0", "4 apples", ""])
def test_memory_that_is_none(text):
    with pytest.raises(ConfigError, match="--memory"):
        parse_memory(text)


def test_the_plan_is_told_before_the_work():
    heard = []
    estimate(announce=heard.append, progress=lambda *args: heard.append(args))
    plan = heard[0]
    assert isinstance(plan, Plan)
    assert (plan.n_images, plan.n_samples, plan.n_workers) == (24, 200, 1)
    assert plan.seconds > 0
    assert plan.memory > 10**7
    assert "24 images x 200 samples: about" in str(plan)
