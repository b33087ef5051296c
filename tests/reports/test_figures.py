"""Figures: what they return, what they show, and the same bytes each time."""

import dataclasses

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dvae_core.config import SMOOTHINGS, Change
from dvae_core.errors import ResultError
from dvae_eval.samples.smoothing_curves import smoothing_curves
from dvae_reports.figures import likelihood, log_z, samples, training
from dvae_reports.figures.smoothing import smoothing_figure
from dvae_reports.figures.style import PALETTE
from dvae_reports.report.svg import figure_svg, png_uri
from dvae_reports.results.run_directory import Course, RunRecord
from tests.reports.test_report_run import EXACT, write_run

PLOTS = {
    training.plot_elbo: "course",
    training.plot_kl: "course",
    log_z.plot_schedule: "log_z",
    log_z.plot_running: "log_z",
    log_z.plot_repeats: "log_z",
    likelihood.plot_bound_curve: "likelihood",
    likelihood.plot_log_likelihoods: "likelihood",
    likelihood.plot_ess: "likelihood",
}
every_plot = pytest.mark.parametrize(
    ("plot", "part"), PLOTS.items(), ids=lambda value: getattr(value, "__name__", "")
)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return RunRecord.load(write_run(tmp_path_factory.mktemp("runs") / "run"))


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@every_plot
def test_every_plot_returns_labelled_axes_with_finite_data(record, plot, part):
    ax = plot(getattr(record, part))
    assert isinstance(ax, Axes)
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.lines or ax.patches
    for line in ax.lines:
        assert np.isfinite(np.asarray(line.get_data(), dtype=float)).all()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


@every_plot
def test_every_plot_draws_in_given_axes_and_leaves_the_global_style(record, plot, part):
    before = dict(mpl.rcParams)
    ax = Figure().subplots()
    assert plot(getattr(record, part), ax=ax) is ax
    assert dict(mpl.rcParams) == before


@every_plot
def test_every_plot_gives_the_same_bytes_twice_and_no_reference(record, plot, part):
    one, two = (figure_svg(plot(getattr(record, part)).figure, "a") for _ in range(2))
    assert one == two
    assert one.startswith("<svg viewBox=")
    assert "http" not in one
    assert "font-family" not in one
    assert not [color for color in PALETTE.values() if color in one]
    assert "#000000" not in one


def test_training_curves(record):
    ax = training.plot_elbo(record.course)
    assert legend(ax) == ["training", "validation", "KL warm-up"]
    assert ax.lines[1].get_ydata()[-1] == record.epochs[-1].valid.elbo
    # The plunge of the first epochs is out of sight, the rest is not.
    low, high = ax.get_ylim()
    assert record.epochs[0].train.elbo < low < record.epochs[10].train.elbo < high


def test_changes_of_settings_are_marked_where_they_begin(record):
    changes = [
        Change(3, {"epochs": (2, 9), "n_chains": (2, 3), "batch_size": (9, 8), "learning_rate": (3e-3, 1e-3)}),
        Change(5, {"epochs": (9, 20)}),
    ]
    changed = Course(record.epochs, tuple(changes))
    ax = training.plot_elbo(changed)
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [2.5, 4.5]
    assert [text.get_text() for text in ax.texts] == [
        "learning rate 0.003 → 0.001\nand 2 others\nfrom epoch 3",
        "epochs 9 → 20\nfrom epoch 5",
    ]
    assert legend(ax) == ["training", "validation", "KL warm-up"]
    ax = training.plot_kl(changed)
    assert [line.get_xdata()[0] for line in ax.lines[-2:]] == [2.5, 4.5]
    ax = training.plot_runs({"a": record.course, "b": changed})
    assert [line.get_color() for line in ax.lines[-2:]] == [ax.lines[1].get_color()] * 2


def test_one_epoch_can_be_seen(record):
    ax = training.plot_elbo(Course(record.epochs[:1]))
    assert {line.get_marker() for line in ax.lines} == {"o"}


def test_no_two_of_many_runs_look_alike(record):
    ax = training.plot_runs({str(i): record.course for i in range(12)})
    assert len({(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in ax.lines}) == 12


@pytest.mark.parametrize(("n_layers", "labels"), [(0, []), (2, ["continuous layer 1", "continuous layer 2"])])
def test_kl_has_a_line_for_each_part(record, n_layers, labels):
    ax = training.plot_kl(Course([with_layers(epoch, n_layers) for epoch in record.epochs]))
    assert legend(ax) == ["Boltzmann machine", *labels, "KL warm-up"]


def test_kl_that_hardly_changes_lies_within_the_axes(record):
    """The margin of the curve's own range, without 0, is thinner than its line."""
    epochs = [
        dataclasses.replace(
            epoch, valid=dataclasses.replace(epoch.valid, kl_rbm=0.3 + 0.0001 * i, kl_continuous=[])
        )
        for i, epoch in enumerate(record.epochs[:5])
    ]
    bottom, top = training.plot_kl(Course(epochs)).get_ylim()
    assert bottom == 0
    assert top == pytest.approx(1.05 * 0.3004)


def test_kl_of_many_layers_is_one_line(record):
    ax = training.plot_kl(Course([with_layers(epoch, 20) for epoch in record.epochs]))
    assert legend(ax)[1] == "20 continuous layers"
    assert ax.lines[1].get_ydata()[0] == pytest.approx(20)


def with_layers(epoch, n_layers):
    return dataclasses.replace(epoch, valid=dataclasses.replace(epoch.valid, kl_continuous=[1.0] * n_layers))


def test_ladder_shows_rates_overlaps_aim_and_rungs(record):
    ax = log_z.plot_schedule(record.log_z)
    aim, overlaps, rates, rungs = ax.lines
    assert set(aim.get_ydata()) == {0.5}
    np.testing.assert_array_equal(rates.get_ydata(), record.log_z.diagnostics["exchange_rates"])
    np.testing.assert_array_equal(overlaps.get_ydata(), record.log_z.diagnostics["overlaps"])
    np.testing.assert_array_equal(rungs.get_xdata(), record.log_z.diagnostics["betas"])
    assert ax.get_ylim()[1] > 1  # a mark at 1 is seen whole
    asked = dataclasses.replace(record.log_z, settings={"exchange_rate": 0.3})
    assert set(log_z.plot_schedule(asked).lines[0].get_ydata()) == {0.3}


def test_running_estimate_has_its_band_and_the_exact_line(record):
    ax = log_z.plot_running(record.log_z)
    assert legend(ax) == ["95% band", "estimate", f"exact {EXACT:.4f}"]
    band = ax.collections[0].get_paths()[0].vertices
    running = record.log_z.diagnostics["running"]
    assert band[:, 1].max() == pytest.approx(max(np.add(running["log_z"], np.multiply(1.96, running["std_err"]))))


def test_repeats_show_mean_spread_and_exact(record):
    ax = log_z.plot_repeats(record.log_z)
    assert sum(patch.get_height() for patch in ax.patches) == 32
    mean, spread = np.mean(record.log_z.repeats), np.std(record.log_z.repeats, ddof=1)
    assert set(legend(ax)) == {f"mean {mean:.3f}, sd {spread:.3f}", f"exact {EXACT:.4f}"}


def test_no_exact_value_no_line(record):
    diagnostics = {key: value for key, value in record.log_z.diagnostics.items() if key != "exact"}
    result = dataclasses.replace(record.log_z, diagnostics=diagnostics)
    for plot in (log_z.plot_running, log_z.plot_repeats):
        assert not [label for label in legend(plot(result)) if "exact" in label]


def test_bound_curve_has_errors_and_powers_of_ten(record):
    ax = likelihood.plot_bound_curve(record.likelihood)
    assert ax.get_xscale() == "log"
    assert len(ax.containers[0][2][0].get_segments()) == 5
    ax.figure.draw_without_rendering()
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert {"1", "100", "10\u202f000"} <= set(ticks)


def test_histograms_count_every_finite_image(record):
    per_image = {name: [None, *values] for name, values in record.likelihood.per_image.items()}
    result = dataclasses.replace(record.likelihood, per_image=per_image)
    for plot in (likelihood.plot_log_likelihoods, likelihood.plot_ess):
        assert sum(patch.get_height() for patch in plot(result).patches) == 899


def test_a_result_without_its_arrays_is_named(record):
    result = dataclasses.replace(record.log_z, diagnostics={"betas": [0, 1]})
    with pytest.raises(ResultError, match="overlaps"):
        log_z.plot_schedule(result)


def test_mosaic_keeps_pixels_and_leaves_gaps_open():
    images = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    page = samples.mosaic(images)
    assert page.shape == (2 * 4 + 1, 3 * 5 + 2, 4)
    np.testing.assert_array_equal(page[5:9, 6:11, 0], 255 - images[1, 1])
    assert (page[4, :, 3] == 0).all()
    assert (page[:, 5, 3] == 0).all()
    assert (page[:4, :5, 3] == 255).all()


def test_pairs_stand_one_above_the_other(record):
    grid = record.samples
    page = samples.pair_mosaic(grid.originals[:3], grid.reconstructions[:3])
    np.testing.assert_array_equal(page[:8, :8, 0], 255 - grid.originals[0])
    np.testing.assert_array_equal(page[9:, :8, 0], 255 - grid.reconstructions[0])


def test_the_picture_of_samples_holds_every_pixel(record):
    image = samples.samples_image(record.samples)
    assert (image[..., 3] == 255).sum() == 10 * 4 * 5 * 64


def test_png_is_the_same_twice_and_names_no_maker(record):
    page = samples.mosaic(record.samples.samples[:, 0])
    assert png_uri(page) == png_uri(page)
    assert png_uri(page).startswith("data:image/png;base64,")


def test_smoothing_curves_have_a_line_for_every_noise_and_a_key():
    """Figures 2a, 7 and 8: ζ never falls as q rises, for ρ above the Gaussian's median."""
    curves = [smoothing_curves(name, rho=(0.5, 0.8)) for name in SMOOTHINGS if name != "none"]
    figure = smoothing_figure(curves, 6.75)
    key = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {r"$\rho$ = 0.5", r"$\rho$ = 0.8"} <= key
    for one, ax in zip(curves, figure.axes, strict=False):
        drawn = [line for line in ax.get_lines() if len(line.get_xdata())]
        assert len(drawn) == 2 * len(one.sharpness)
        assert one.smoothing in ax.get_xlabel()
        assert (np.diff(one.zeta, axis=-1) >= -1e-9).all()
