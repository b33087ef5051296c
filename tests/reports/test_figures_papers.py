"""Figures for papers: seeds as mean and band, the fonts and mathematics of a text, labels, legends, maps."""

import json

import matplotlib.text
import numpy as np
import pytest
from matplotlib.collections import PolyCollection, QuadMesh

from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ConfigError, ResultError
from dvae_core.training.metrics import read_metrics
from dvae_eval.results import LogZResult, load_result
from dvae_reports import names
from dvae_reports.figures import log_z, sweeps
from dvae_reports.figures.mathematics import with_mathematics
from dvae_reports.figures.registry import FIGURES, FONT_STYLES, draw, figure_bytes
from dvae_reports.names import FONTS
from dvae_reports.results.training_runs import read_courses
from tests.commands import status_of
from tests.reports.test_figures_command import folder, paths_of  # noqa: F401
from tests.reports.test_report_run import write_run
from tests.reports.test_tables import model_edit


@pytest.fixture
def runs(tmp_path):
    """Two settings with two seeds each."""
    paths = []
    for setting in (1, 4):
        for seed in (0, 1):
            run = write_run(tmp_path / f"groups-{setting}_seed-{seed}", seed=10 * setting + seed)
            paths.append(model_edit(model_edit(run, "train", seed=seed), "model", n_groups=setting))
    return paths


def bounds_of(run):
    return [epoch.valid.elbo for epoch in read_metrics(run / "metrics.jsonl")[0]]


def texts_of(figure):
    return [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# --- seeds ----------------------------------------------------------------------------------------------------


def test_several_seeds_are_their_mean_and_a_band_of_their_spread(runs):
    (ax,) = draw("training", runs).axes
    assert legend_of(ax) == ["groups-1", "groups-4"]
    bands = [found for found in ax.collections if isinstance(found, PolyCollection)]
    for line, band, seeds in zip(ax.lines, bands, (runs[:2], runs[2:]), strict=True):
        values = np.array([bounds_of(run) for run in seeds])
        np.testing.assert_allclose(line.get_ydata(), values.mean(0))
        mean, sd = values.mean(0), values.std(0, ddof=1)
        edges = band.get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose([edges.min(), edges.max()], [(mean - sd).min(), (mean + sd).max()])
    assert ax.get_ylabel().endswith("mean ± sd of seeds")


def test_a_line_ends_where_its_first_run_does_and_one_run_has_no_band(runs):
    path = runs[1] / "metrics.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:40]))
    (ax,) = draw("training", runs[:3]).axes
    assert [line.get_xdata()[-1] for line in ax.lines] == [40, 60]
    single = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert set(np.round(single, 9)) == set(np.round(bounds_of(runs[2]), 9))


def test_settings_of_one_run_each_are_drawn_as_before(runs):
    (ax,) = draw("training", [runs[0], runs[2]]).axes
    assert legend_of(ax) == ["groups-1_seed-0", "groups-4_seed-0"]
    assert not [found for found in ax.collections if isinstance(found, PolyCollection)]
    assert len(draw("training", runs[:1]).axes) == 2


def test_other_data_or_unknown_settings_stand_alone(runs):
    model_edit(runs[1], "provenance", data_sha256="d2" * 32)
    (runs[3] / "config.json").unlink()
    assert [len(seeds) for seeds in read_courses(runs).values()] == [1, 1, 1, 1]


def test_a_sweep_of_several_seeds_has_a_band_and_of_single_runs_none():
    for n_runs in (1, 2):
        points = [sweeps.SweepPoint(x, -90.0 + x, 0.5 * x, n_runs=n_runs) for x in (1.0, 2.0)]
        ax = sweeps.plot_sweep([sweeps.SweepLine("", points)], "x", "sd")
        bands = [found for found in ax.collections if isinstance(found, PolyCollection)]
        assert len(bands) == n_runs - 1
    edges = {tuple(vertex) for vertex in bands[0].get_paths()[0].vertices.tolist()}
    assert {(1.0, -89.5), (1.0, -88.5), (2.0, -89.0), (2.0, -87.0)} <= edges


# --- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["groups-4", "groups-4_seed-1", "{run}"])
def test_labels_name_the_lines_of_training(runs, name):
    (ax,) = draw("training", runs, labels=[(name.format(run=runs[3]), "ours")]).axes
    assert legend_of(ax) == ["groups-1", "ours"]


def test_labels_name_panels_and_seeds_are_told_apart(runs):
    figure = draw("schedule", runs, names.WIDTHS["page"], labels=[(str(runs[2]), "ours")])
    titles = [ax.get_xlabel().rpartition(") ")[2] for ax in figure.axes]
    assert titles == ["groups-1_seed-0", "groups-1_seed-1", "ours, seed 0", "ours, seed 1"]


def test_labels_name_files_of_lines(runs, tmp_path):
    lines = tmp_path / "course.jsonl"
    lines.write_text("".join(load_result(run / "logz.json").to_json() + "\n" for run in runs), encoding="utf-8")
    other = tmp_path / "other.jsonl"
    other.write_text(lines.read_text(encoding="utf-8"), encoding="utf-8")
    figure = draw("trajectory", [lines, other], labels=[(str(lines), "ours")])
    assert [ax.get_xlabel().rpartition(") ")[2] for ax in figure.axes] == ["ours", "other"]


def test_labels_of_nothing_and_of_figures_without_names_are_refused(runs):
    with pytest.raises(
        ConfigError, match="--label: x is none of the runs; give one of their paths, or groups-1, gr"
    ):
        draw("training", runs, labels=[("x", "ours")])
    with pytest.raises(ConfigError, match="--label: x is none of the results"):
        draw("schedule", runs, labels=[("x", "ours")])
    with pytest.raises(ConfigError, match="--label: the figure samples shows no names of runs; omit the option"):
        draw("samples", runs[:1], labels=[(str(runs[0]), "ours")])
    with pytest.raises(ResultError, match="have the same name"):
        draw("training", runs, labels=[("groups-1", "ours"), ("groups-4", "ours")])


# --- fonts and mathematics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_in_a_serif_font_is_all_of_it_with_its_mathematics(name, folder):  # noqa: F811
    """Warnings are errors, so that no letter is missing in the font."""
    figure = draw(name, paths_of(name, folder), font="serif")
    families = {tuple(text.get_fontfamily()) for text in texts_of(figure)}
    assert families <= {tuple(FONT_STYLES["serif"]["font.family"])}
    for text in texts_of(figure):
        assert with_mathematics(text.get_text()) == text.get_text()
    pdf = figure_bytes(figure, "pdf")
    assert (b"STIX" in pdf) == bool(texts_of(figure))
    assert b"DejaVuSans" not in pdf.replace(b"DejaVuSansDisplay", b"")


@pytest.mark.parametrize(
    ("text", "mathematics"),
    [
        ("log Z (nats)", r"$\log Z$ (nats)"),
        ("log p(x) ≥ (nats per image)", r"$\log p(x) \geq$ (nats per image)"),
        ("rung (0: β = 0)", r"rung (0: $\beta = 0$)"),
        ("catalog Zebra", "catalog Zebra"),
        ("$K = 4$, log Z", "$K = 4$, log Z"),
        (r"a$\foo$b", r"a\$\foo\$b"),
        ("5$", r"5\$"),
    ],
)
def test_what_is_mathematics(text, mathematics):
    assert with_mathematics(text) == mathematics


def test_names_with_dollar_signs_that_are_no_mathematics_are_drawn_as_they_are(folder):  # noqa: F811
    runs = paths_of("posterior-layers", folder)
    figure = draw("training", runs, labels=[(str(runs[0]), r"a$\foo$b"), (str(runs[-1]), "5$")])
    assert {r"a\$\foo\$b", r"5\$"} <= {text.get_text() for text in texts_of(figure)}


def test_fonts_that_have_a_name_can_be_drawn_with():
    assert set(FONT_STYLES) == set(FONTS)


def test_the_command_takes_a_font_and_labels(runs, tmp_path, capsys):
    paths = [tmp_path / f"{i}.svg" for i in range(2)]
    options = ["--font", "serif", "--label", f"{runs[0]}=ours", "-q"]
    for path in paths:
        assert status_of(dvae_eval, "figure", "training", *runs, "-o", path, *options) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert status_of(dvae_eval, "figure", "training", *runs, "-o", tmp_path / "x.svg", "--label", "none=ours") == 2
    captured = capsys.readouterr()
    assert "--label: none is none of the runs" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "x.svg").exists()


# --- what lies over what --------------------------------------------------------------------------------------


def test_no_legend_covers_data_even_of_long_labels(runs):
    labels = [(str(runs[0]), "a rather long name of the first"), (str(runs[2]), "one that is as long as that")]
    for name, paths in {"training": runs, "schedule": runs[::2], "diagnostics": runs[:1]}.items():
        figure = draw(name, paths, labels=labels[: len(paths)])
        for ax in figure.axes:
            if (legend := ax.get_legend()) is not None:
                assert legend.get_window_extent().y0 >= ax.get_window_extent().y1 - 1


def energies(n_rungs):
    counts = np.array([np.bincount([k, k, k + 1], minlength=n_rungs + 1) for k in range(n_rungs)])
    return {"energy_histograms": {"edges": list(range(n_rungs + 2)), "counts": counts.tolist()}}


@pytest.mark.parametrize("n_rungs", [3, 20, 21, 60])
def test_energies_of_many_rungs_are_a_map(runs, n_rungs):
    source = json.loads((runs[0] / "logz.json").read_text())
    source["diagnostics"] |= energies(n_rungs)
    ax = log_z.plot_energies(LogZResult.from_dict(source))
    maps = [found for found in ax.collections if isinstance(found, QuadMesh)]
    assert len(maps) == (n_rungs > log_z.MAX_HISTOGRAMS)
    if not maps:
        assert len(ax.patches) == 2 * n_rungs
        return
    shares = np.asarray(maps[0].get_array()).reshape(n_rungs, n_rungs + 1)
    # Every row is as dark as its highest bin, and one of half its height half as dark.
    np.testing.assert_array_equal(shares.max(1), 1)
    np.testing.assert_array_equal(shares[np.arange(n_rungs), np.arange(n_rungs) + 1], 0.5)
    assert ax.get_ylim() == (-0.5, n_rungs - 0.5)
