"""Plots for notebooks: what they return, that they are shown once, and that they leave matplotlib as it was."""

import base64
import io
import json

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from dvae_core.errors import DataError, ResultError
from dvae_eval import compare_samples, estimate_log_z, estimate_observables, sample_states
from dvae_eval.samples.grid import SampleGrid
from dvae_reports import (
    plot_comparison,
    plot_diagnostics,
    plot_log_z,
    plot_observables,
    plot_samples,
    plot_schedule,
    plot_training,
)
from dvae_reports.figures.registry import draw, figure_bytes
from tests.eval.test_cards import RBM

mpl.use("agg")


@pytest.fixture(scope="module")
def results():
    """A result of every kind that is plotted."""
    states = sample_states((np.zeros((16, 4)), np.zeros(16), np.zeros(4)), 30)
    return {
        "log_z": estimate_log_z(RBM, method="pt-bar", n_sweeps=100),
        "observables": estimate_observables(RBM, betas=(0.5, 1, 2)),
        "comparison": compare_samples(RBM, sample_states(RBM, 50).states),
        "states": states,
        "images": np.linspace(0, 1, 12 * 9).reshape(12, 3, 3),
    }


def metrics(path):
    """Write the course of a training of three epochs."""
    part = {"elbo": -90.0, "reconstruction": -80.0, "kl_rbm": 6.0, "kl_continuous": [4.0]}
    keys = ("step", "seconds", "images_per_s", "learning_rate", "kl_weight", "log_z")
    lines = [{**dict.fromkeys(keys, 1), "epoch": i, "rbm": {}, "train": part, "valid": part} for i in (1, 2, 3)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def plots(results):
    """Every function that draws one panel or several, with its arguments."""
    return [
        (plot_log_z, results["log_z"], 1),
        (plot_schedule, results["log_z"], 1),
        (plot_diagnostics, results["log_z"], 6),
        (plot_observables, results["observables"], 4),
        (plot_comparison, results["comparison"], 3),
        (plot_samples, results["states"], 1),
        (plot_samples, results["images"], 1),
    ]


def test_a_figure_has_its_panels_and_nothing_else_changes(results):
    before, known = dict(mpl.rcParams), pyplot_figures()
    for plot, of, n in plots(results):
        figure = plot(of)
        assert isinstance(figure, Figure)
        assert sum(ax.axison or bool(ax.images) for ax in figure.axes) == n, plot
    assert dict(mpl.rcParams) == before
    assert pyplot_figures() == known  # so that no notebook shows one twice


def pyplot_figures():
    import matplotlib.pyplot as plt

    return plt.get_fignums()


def test_a_notebook_shows_it_on_white_at_twice_its_size(results):
    from PIL import Image

    figure = plot_log_z(results["log_z"])
    data, size = figure._repr_mimebundle_()
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    shown = size["image/png"]
    assert picture.size == (2 * shown["width"], 2 * shown["height"])
    assert shown["width"] == 480
    assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_ax_is_drawn_into_and_returned(results):
    axes = Figure().subplots(1, 5)
    calls = [
        plot_log_z(results["log_z"], ax=axes[0]),
        plot_schedule(results["log_z"], ax=axes[1]),
        plot_observables({"a": results["observables"], "b": results["observables"]}, "energy", ax=axes[2]),
        plot_comparison(results["comparison"], "beta", ax=axes[3]),
        plot_samples(results["images"], ax=axes[4]),
    ]
    assert calls == list(axes)
    assert all(ax.has_data() for ax in axes)
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["a", "b"]


def test_they_are_the_figures_of_the_command(results, tmp_path):
    path = tmp_path / "observables.json"
    results["observables"].save(path)
    ours = plot_observables({"observables": results["observables"]})
    theirs = draw("observables", [path], 6.75)
    ours.set_facecolor(theirs.get_facecolor())
    assert figure_bytes(ours, "png") == figure_bytes(theirs, "png")


def test_training_is_drawn_of_runs(tmp_path):
    file = metrics(tmp_path / "metrics.jsonl")
    for runs in (tmp_path, str(file), [tmp_path]):
        assert len(plot_training(runs).axes) == 2
    with pytest.raises(ResultError, match="contains no epoch"):
        plot_training(tmp_path / "nothing")


def test_samples_of_a_file_of_pictures():
    grey = np.zeros((2, 3, 4, 5, 6), np.uint8)
    grid = SampleGrid(grey, grey[0, 0], grey[0, 0], {"model": {"sha256": "x"}})
    assert plot_samples(grid).axes[0].images


def test_a_place_without_a_picture_is_open():
    """11 pictures of white pixels make two rows of six; the place of the twelfth shows the page's colour."""
    image = plot_samples(np.zeros((11, 4, 4))).axes[0].images[0].get_array()
    assert image.shape == (9, 29, 4)
    assert (image[5:, 20:24, 3] == 255).all()
    assert (image[5:, 24:] == 0).all()
    assert (image[:4, 25:, 3] == 255).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: plot_log_z(estimate_log_z(RBM)), ResultError, "neither replicates nor a schedule"),
        (lambda r: plot_diagnostics(r["log_z"], "ess"), ResultError, "no such panel; give one of schedule, flow"),
        (lambda r: plot_comparison(r["comparison"], ax=Figure().subplots()), ResultError, "ax: only one panel"),
        (lambda r: plot_samples(np.zeros((2, 3))), DataError, r"shape is \(2, 3\); give \(n, height, width\)"),
        (lambda r: plot_samples(np.full((2, 3, 3), 255)), DataError, "outside 0 to 1"),
    ],
)
def test_what_cannot_be_drawn_says_why(results, call, error, message):
    with pytest.raises(error, match=message):
        call(results)
