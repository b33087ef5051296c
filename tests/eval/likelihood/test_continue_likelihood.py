"""Finished likelihoods that more images or samples continue: equal to those of an undisturbed run."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_cli.main import main as dvae_eval
from dvae_cli.train import main as dvae_train
from dvae_core.config import RunConfig
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood import finished, image_tasks
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.folded import FoldedDVAE
from dvae_eval.likelihood.importance import ImportanceTask
from dvae_eval.likelihood.protocol import ModelWeights
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.runtime.compute import Resources
from dvae_eval.runtime.resume import ResumeDirectory
from dvae_eval.trained import machine_of
from tests.commands import status_of
from tests.oracles import enumerate_states, tiny_model

IMAGES = np.tile(enumerate_states(3).astype(np.uint8), (3, 1))
TILE = 40
SMALL = "--epochs 1 --left 6 --right 6 --groups 2 --continuous 2 --layers 1 --encoder-hidden 16 --prior-hidden 8"
SMALL += " --decoder-hidden 16 --chains 20 --sweeps 3"

# Of a result: when and where it was made, and at what cost.
TIMES = ("wall_seconds", "environment", "command")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """A tile of a few samples, so that few samples have many."""
    monkeypatch.setattr(FoldedDVAE, "tile", TILE)
    monkeypatch.setattr(ModelWeights, "tile", TILE)


def trained():
    model = tiny_model(n_left=1, n_right=2, n_layers=1, scale=0.5).float()
    return TrainedModel(model, RunConfig("tiny", model.config), (1, 3), {}, Path("tiny.pt"), "0" * 64)


MODEL = trained()
LOG_Z = estimate_log_z(machine_of(MODEL))


def estimate(place=None, *, images=IMAGES, log_z=LOG_Z, model=MODEL, resources=None, **settings):
    """Return a likelihood that continues what lies in a directory, and leaves its own state there."""
    resume = place and ResumeDirectory(place / "ll.shards")
    state = place and place / "ll.state.npz"
    config = LikelihoodConfig(**{"n_samples": 200, "n_simulated": 4, **settings})
    how = {"resume": resume, "finished": state, "resources": resources}
    result = estimate_log_likelihood(model, images, log_z, config, **how)
    if place:
        resume.keep(state)
        assert [path.name for path in place.iterdir()] == ["ll.state.npz"]
    return result


def content(result):
    """Return all of a result but times, and of what it was made."""
    found = result.to_dict()
    diagnostics = {k: v for k, v in found["diagnostics"].items() if k != "continued_from"}
    return {k: v for k, v in found.items() if k not in TIMES} | {"diagnostics": diagnostics}


@pytest.fixture
def drawn(monkeypatch):
    """How many samples of q were drawn, tile by tile."""
    counts = []
    of_image = FoldedDVAE.image

    def image(self, x):
        found = of_image(self, x)
        weigh = found.weight_parts
        found.weight_parts = lambda rho, eps: (counts.append(len(rho)), weigh(rho, eps))[1]
        return found

    monkeypatch.setattr(FoldedDVAE, "image", image)
    # The time that an image takes is measured by drawing some.
    monkeypatch.setattr(ImportanceTask, "seconds", lambda self, x, index: 1.0)
    return counts


@pytest.mark.parametrize("first", [100, 120, 199])
def test_more_samples_are_those_of_a_plain_run(tmp_path, drawn, first):
    estimate(tmp_path, n_samples=first)
    drawn.clear()
    continued = estimate(tmp_path, n_samples=330)
    n_kept = first // TILE * TILE
    assert sum(drawn) == (len(IMAGES) + 4) * (330 - n_kept)
    assert content(continued) == content(estimate(n_samples=330))
    [part] = continued.diagnostics["continued_from"]
    assert (part["n_images"], part["n_samples"]) == (24, first)


def test_samples_that_begin_elsewhere_are_rejected(tmp_path, monkeypatch):
    """Such as those of a stream that was not passed over."""
    estimate(tmp_path, n_samples=120)
    of_image = FoldedDVAE.of_image
    monkeypatch.setattr(FoldedDVAE, "of_image", lambda self, *args: of_image(self, *args[:4]))
    assert content(estimate(tmp_path, n_samples=330)) != content(estimate(n_samples=330))


def test_more_images_have_the_earlier_ones_among_them(tmp_path, drawn):
    first = estimate(tmp_path, limit=5)
    drawn.clear()
    more = estimate(tmp_path, limit=11)
    assert sum(drawn) == 6 * 200
    assert more.n_images == 11
    assert set(first.per_image["index"]) < set(more.per_image["index"])
    whole = estimate()
    rows = [whole.per_image["index"].index(i) for i in more.per_image["index"]]
    for name, values in more.per_image.items():
        assert values == [whole.per_image[name][row] for row in rows]
    assert [part["n_images"] for part in more.diagnostics["continued_from"]] == [5]
    # To all images, and with more samples: nothing of the way there is left.
    both = estimate(tmp_path, n_samples=300)
    assert content(both) == content(estimate(n_samples=300))
    assert [part["n_images"] for part in both.diagnostics["continued_from"]] == [5, 11]


def test_the_other_images_are_evenly_spread(tmp_path):
    images = np.tile(IMAGES, (10, 1))
    estimate(tmp_path, images=images, limit=20)
    index = np.array(estimate(tmp_path, images=images, limit=60).per_image["index"])
    assert len(np.unique(index)) == 60
    assert np.diff(index).max() <= 12
    assert np.diff(index).mean() == pytest.approx(4.0, abs=0.1)


def test_the_same_again_draws_nothing(tmp_path, drawn):
    first = estimate(tmp_path, limit=5)
    drawn.clear()
    again = estimate(tmp_path, limit=5)
    assert not drawn
    assert content(again) == content(first)
    third = estimate(tmp_path, limit=5)
    for one in (again, third):
        [part] = one.diagnostics["continued_from"]
        assert (part["n_images"], part["n_samples"], part["log_z"]) == (5, 200, LOG_Z.log_z)


def test_another_log_z_draws_nothing(tmp_path, drawn):
    estimate(tmp_path)
    drawn.clear()
    other = dataclasses.replace(LOG_Z, log_z=LOG_Z.log_z + 1, std_err=0.1)
    again = estimate(tmp_path, log_z=other)
    assert not drawn
    assert content(again) == content(estimate(log_z=other))
    [part] = again.diagnostics["continued_from"]
    assert part["log_z"] == LOG_Z.log_z


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"precision": "float64"}, {"images": 1 - IMAGES}, {"limit": 3}, {"n_samples": 30}],
)
def test_what_does_not_fit_is_made_from_its_start(tmp_path, change):
    estimate(tmp_path, limit=7)
    change = {"limit": 7, **change}
    again = estimate(tmp_path, **change)
    assert content(again) == content(estimate(**change))


def test_annealing_continues_with_more_images_alone(tmp_path):
    settings = {"method": "ais", "n_ais_chains": 20, "n_ais_steps": 3}
    first = estimate(tmp_path, limit=4, **settings)
    more = estimate(tmp_path, **settings)
    assert content(more) == content(estimate(**settings))
    assert [part["n_images"] for part in more.diagnostics["continued_from"]] == [first.n_images]
    chains = {**settings, "n_ais_chains": 30}
    assert content(estimate(tmp_path, **chains)) == content(estimate(**chains))


def test_weights_that_are_too_many_are_not_kept(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(finished, "KEPT_BYTES", 24 * 160 * 8)
    estimate(tmp_path, n_samples=200)
    assert dict(np.load(tmp_path / "ll.state.npz"))["images/log_w"].shape == (24, 0)
    drawn.clear()
    assert content(estimate(tmp_path, n_samples=330)) == content(estimate(n_samples=330))
    estimate(tmp_path, n_samples=330)


def test_images_of_both_kinds_keep_no_weights(tmp_path, monkeypatch):
    """Some whose weights were kept, and more, which would be too many."""
    estimate(tmp_path, limit=5)
    monkeypatch.setattr(finished, "KEPT_BYTES", 10 * 200 * 8)
    assert content(estimate(tmp_path)) == content(estimate())
    monkeypatch.undo()
    monkeypatch.setattr(FoldedDVAE, "tile", TILE)
    assert content(estimate(tmp_path, n_samples=300)) == content(estimate(n_samples=300))


def test_a_damaged_state_is_nothing(tmp_path):
    (tmp_path / "ll.state.npz").write_bytes(b"PK damaged")
    assert content(estimate(tmp_path)) == content(estimate())


@pytest.mark.parametrize("name", ["images/bounds", "images/index", "images/n_samples", "images/fingerprint"])
def test_a_state_that_lacks_a_part_is_nothing(tmp_path, name):
    estimate(tmp_path, limit=5)
    path = tmp_path / "ll.state.npz"
    arrays = dict(np.load(path))
    del arrays[name]
    np.savez(path, **arrays)
    assert content(estimate(tmp_path, limit=7)) == content(estimate(limit=7))


def test_a_state_with_the_earlier_name_of_its_fingerprint_is_read(tmp_path, drawn):
    estimate(tmp_path)
    path = tmp_path / "ll.state.npz"
    np.savez(path, **{name.replace("fingerprint", "key"): a for name, a in dict(np.load(path)).items()})
    drawn.clear()
    assert content(estimate(tmp_path)) == content(estimate())
    assert sum(drawn) == (len(IMAGES) + 4) * 200  # of the undisturbed one


class OfUser(torch.nn.Module):
    """Two fair coins that an image does not depend on."""

    def sample_latents(self, x, n, generator):
        z = torch.rand(n, 2, generator=generator)
        return z, torch.full((n,), 0.0)

    def log_joint(self, x, z):
        return z.sum(-1) - 3 * np.log(2)


def test_a_model_of_the_users_continues(tmp_path):
    how = {"model": OfUser(), "log_z": None}
    estimate(tmp_path, n_samples=100, **how)
    assert content(estimate(tmp_path, n_samples=300, **how)) == content(estimate(n_samples=300, **how))


def test_workers_change_no_digit(tmp_path, monkeypatch):
    import joblib

    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)
    estimate(tmp_path, n_samples=100, limit=9)
    with joblib.parallel_config(backend="threading"):
        spread = estimate(tmp_path, n_samples=300, limit=12, resources=Resources(n_workers=2))
    index = spread.per_image["index"]
    whole = estimate(n_samples=300)
    assert spread.per_image["log_likelihood"] == [whole.per_image["log_likelihood"][i] for i in index]


def test_a_kill_while_continuing_loses_neither_result_nor_state(tmp_path, monkeypatch):
    monkeypatch.setattr(image_tasks, "SHARD_SECONDS", 0.0)
    estimate(tmp_path, n_samples=100)
    state = (tmp_path / "ll.state.npz").read_bytes()
    count = []

    def die(*_):
        count.append(1)
        if len(count) == 6:
            raise KeyboardInterrupt

    resume = ResumeDirectory(tmp_path / "ll.shards")
    config = LikelihoodConfig(n_samples=300, n_simulated=4)
    how = {"resume": resume, "finished": tmp_path / "ll.state.npz"}
    with pytest.raises(KeyboardInterrupt):
        estimate_log_likelihood(MODEL, IMAGES, LOG_Z, config, progress=die, **how)
    assert (tmp_path / "ll.state.npz").read_bytes() == state
    assert len(list((tmp_path / "ll.shards").glob("*/*.npz"))) == 6
    plans = []
    again = estimate_log_likelihood(MODEL, IMAGES, LOG_Z, config, announce=plans.append, **how)
    assert plans[0].n_done == 6
    assert content(again) == content(estimate(n_samples=300))
    record = json.loads(dict(np.load(resume.state))["record"].tobytes())
    assert [part["n_samples"] for part in record["continued_from"]] == [100]


@pytest.fixture
def run(tmp_path):
    main(dvae_train, "bars-and-stripes", "--out", tmp_path / "run", *SMALL.split())
    return tmp_path / "run"


def main(command, *args):
    """Run a command, and return its exit status."""
    return status_of(command, *args, "-q")


def read(path):
    found = json.loads(path.read_text())
    return {k: v for k, v in found.items() if k not in (*TIMES, "log_z_source", "model")}


def test_the_command_continues_from_what_lies_beside_its_result(run, tmp_path, capsys):
    import shutil

    other = shutil.copytree(run, tmp_path / "other")
    alone = ("--workers", 1)  # other processes have tiles of the usual size
    for n in (90, 210):
        assert main(dvae_eval, "ll", run, "--samples", n, *alone) in (0, 3)
    assert main(dvae_eval, "ll", other, "--samples", 210, *alone) in (0, 3)
    one, plain = read(run / "ll.json"), read(other / "ll.json")
    [part] = one["diagnostics"].pop("continued_from")
    assert (part["n_images"], part["n_samples"]) == (one["n_images"], 90)
    assert one == plain
    # A better log Z is applied to what is there.
    assert main(dvae_eval, "logz", run, "--method", "pt-bar", "--sweeps", 200) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        dvae_eval(["ll", *map(str, (run, "--samples", 210, "--log-z", run / "logz.json", "--force", *alone))])
    said = capsys.readouterr().err
    assert "could not be continued" not in said
    assert re.search(r"continued from \d+ images and 210 samples \(.*\); log Z has changed by [+−-]\d", said)
    shift = read(run / "ll.json")["log_z"] - plain["log_z"]
    assert read(run / "ll.json")["log_likelihood"] == pytest.approx(plain["log_likelihood"] - shift, rel=1e-12)
    assert not list(run.glob("*.shards"))
