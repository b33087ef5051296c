"""Figures and pictures of a likelihood: what is drawn is what the result says."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dvae_core.config import ModelConfig, RunConfig
from dvae_core.errors import ResultError
from dvae_core.model.dvae import DVAE
from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import TrainedModel
from dvae_eval.config import LikelihoodConfig
from dvae_eval.likelihood.estimate_log_likelihood import estimate_log_likelihood
from dvae_eval.likelihood.images import LikelihoodImages, images_path, picture_images
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.results import load_result
from dvae_eval.trained import machine_of
from dvae_reports.figures import likelihood as figures
from dvae_reports.figures.likelihood_page import plot_likelihood

N = 30


@pytest.fixture(scope="module")
def made():
    """Trained model, images, result and its images, of random images in three classes."""
    config = ModelConfig(n_left=3, n_right=3, n_groups=2, n_continuous=2, encoder_hidden=(8,), prior_hidden=(5,))
    model = DVAE(config, 20)
    model.initialise(torch_generator(0, "weights"), torch.full((20,), 0.4))
    trained = TrainedModel(
        model.eval().requires_grad_(False), RunConfig("random", config), (4, 5), {}, Path("m.pt"), "1" * 64
    )
    images = np.random.default_rng(0).integers(2, size=(N, 20), dtype=np.uint8)
    labels = np.arange(N) % 3
    result = estimate_log_likelihood(
        trained, images, estimate_log_z(machine_of(trained)), LikelihoodConfig(n_samples=300), labels=labels
    )
    return trained, images, result, picture_images(result, trained, images)


def test_classes_are_those_of_the_images(made):
    _, _, result, _ = made
    table = result.diagnostics["per_class"]
    values = np.array(result.per_image["log_likelihood"])
    assert table["label"] == [0, 1, 2]
    assert table["n_images"] == [10, 10, 10]
    assert table["log_likelihood"] == pytest.approx([values[i::3].mean() for i in range(3)])
    assert table["std_err"][0] == pytest.approx(values[::3].std(ddof=1) / np.sqrt(10))
    assert result.per_image["label"] == [i % 3 for i in range(N)]
    drawn = figures.plot_classes(result).containers[0][0].get_ydata()
    assert drawn == pytest.approx(table["log_likelihood"])


def test_bits_per_dimension(made):
    _, _, result, _ = made
    assert result.bits_per_dim == pytest.approx(-result.log_likelihood / 20 / np.log(2))


def test_bound_curve_shows_the_estimate_without_limit_of_samples(made):
    _, _, result, _ = made
    ax = figures.plot_bound_curve(result)
    (line,) = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert line.get_ydata()[0] == pytest.approx(result.log_likelihood + result.gap)
    without = figures.plot_bound_curve(dataclasses.replace(result, gap=None))
    assert not [line for line in without.get_lines() if line.get_linestyle() == "--"]


def test_shapes_of_tails_are_all_counted(made):
    _, _, result, _ = made
    k = result.per_image["pareto_k"]
    per_image = {**result.per_image, "pareto_k": [None, *k[1:-1], np.inf]}
    ax = figures.plot_pareto_k(dataclasses.replace(result, per_image=per_image))
    assert sum(patch.get_height() for patch in ax.patches) == N - 1
    assert f"of {N - 1} images above it" in ax.get_legend().get_texts()[0].get_text()


def test_tails_that_are_not_known_are_not_drawn(made):
    """Of a few samples no tail can be told: an empty histogram, with counts below 0, was drawn."""
    _, _, result, pictured = made
    without = dataclasses.replace(result, per_image={**result.per_image, "pareto_k": [None] * N})
    assert len(plot_likelihood(without, pictured).subfigs[0].axes) == 4
    assert figures.has_tails(result)
    assert not figures.has_tails(without)


def test_the_worst_images_come_first(made):
    _, images, result, pictured = made
    values = np.array(result.per_image["log_likelihood"])
    assert pictured.n_worst == 20
    assert pictured.shown[:20].tolist() == np.argsort(values)[:20].tolist()
    assert pictured.shown[20] == values.argmin()
    assert pictured.shown[-1] == values.argmax()
    assert np.array_equal(pictured.originals.reshape(-1, 20), images[pictured.shown] * 255)


def test_a_mean_reconstruction_is_the_mean_of_many(made):
    trained, images, _, pictured = made
    x = torch.from_numpy(images[pictured.shown[:1]]).float()
    generator = torch.Generator().manual_seed(5)
    rho, eps = (torch.empty(4000, 1, n) for n in trained.model.n_noise)
    latents = trained.model.sample_posterior(
        x, rho.uniform_(generator=generator), eps.normal_(generator=generator)
    )
    p = trained.model.decode(latents.discrete.zeta, latents.layers).sigmoid().mean(0)
    # A hundred draws of numbers between 0 and 1: standard errors below 0.05.
    assert np.abs(pictured.means[0].ravel() / 255 - p[0].numpy()).max() < 0.2


def test_pictures_stand_under_their_values(made):
    _, _, result, pictured = made
    ax = figures.plot_worst_images(pictured)
    lowest = min(result.per_image["log_likelihood"])
    assert ax.texts[0].get_text() == f"{lowest:.1f}".replace("-", "−")
    assert len(ax.texts) == 20
    # The first row of pixels that shows an image begins half a pixel above its centre; no value reaches into it.
    first = (ax.images[0].get_array()[..., 3] == 255).any(axis=1).argmax()
    assert ax.texts[0].get_position()[1] < first - 0.5
    opaque = (ax.images[0].get_array()[..., 3] == 255).sum()
    assert opaque == 20 * 2 * 20
    typical = figures.plot_typical_images(pictured)
    assert (typical.images[0].get_array()[..., 3] == 255).sum() == 20 * 3 * 20


def test_one_page_of_all(made):
    _, _, result, pictured = made
    figure = plot_likelihood(result, pictured)
    assert sum(len(part.axes) for part in figure.subfigs) == 5 + 2
    plain = dataclasses.replace(result, diagnostics={**result.diagnostics, "per_class": None})
    assert len(plot_likelihood(plain, pictured).subfigs[0].axes) == 4


def test_images_come_back_as_they_went(made, tmp_path):
    _, _, result, pictured = made
    path = images_path(tmp_path / "ll.json")
    assert path.name == "ll.images.npz"
    pictured.save(path)
    again = LikelihoodImages.load(path)
    for name, values in result.per_image.items():
        assert np.array_equal(again.columns[name], values)
    for name in ("shown", "originals", "draws", "means"):
        assert np.array_equal(getattr(again, name), getattr(pictured, name))
    assert again.meta["model"]["sha256"] == "1" * 64


@pytest.mark.parametrize("damage", ["missing", "text", "another"])
def test_images_that_cannot_be_read(tmp_path, damage):
    path = tmp_path / "ll.images.npz"
    if damage == "text":
        path.write_text("nothing")
    if damage == "another":
        np.savez(path, meta=np.frombuffer(b'{"kind": "samples"}', np.uint8))
    with pytest.raises(ResultError, match=r"ll\.images\.npz"):
        LikelihoodImages.load(path)


def test_a_result_of_many_images_is_written_with_few_digits(made, tmp_path):
    """The means stay as they are; an image's value is rounded to a thousandth."""
    _, _, result, _ = made
    result.save(tmp_path / "few.json")
    assert load_result(tmp_path / "few.json") == result
    many = dataclasses.replace(result, n_images=5000)
    many.save(tmp_path / "many.json")
    read = load_result(tmp_path / "many.json")
    assert read.log_likelihood == result.log_likelihood
    assert read.per_image["log_likelihood"] == [round(v, 3) for v in result.per_image["log_likelihood"]]
    assert read.per_image["index"] == result.per_image["index"]
