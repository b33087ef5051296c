"""dvae-eval figure: from files to bytes, what the figures of sets of runs show, and what they refuse to show."""

import dataclasses
import json
import shutil
import struct

import numpy as np
import pytest

from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ResultError
from dvae_eval import compare_samples, estimate_observables, sample_states
from dvae_eval.results import load_result
from dvae_reports import names
from dvae_reports.figures import style, sweeps, training
from dvae_reports.figures.registry import FIGURES, FORMATS, draw, figure_bytes
from dvae_reports.names import WIDTHS
from dvae_reports.results.groups import error_name, group_runs
from dvae_reports.results.loaded import load_results
from dvae_reports.results.paired import paired_std_errs
from dvae_reports.results.sweep_axes import AXES, sweep_lines, width_panels
from tests.commands import status_of
from tests.places import ROOT
from tests.reports.test_report_run import edit, write_run
from tests.reports.test_tables import model_edit

BENCHMARK = ROOT / "benchmarks/results/quick.json"

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
SWEPT = {
    "sweeps": ("train", [{"n_sweeps": n} for n in (5, 20, 100)], [5, 20, 100]),
    "rbm-size": ("model", [{"n_left": n, "n_right": n} for n in (8, 32, 64)], [16, 64, 128]),
    "posterior-layers": ("model", [{"n_groups": n} for n in (1, 2, 4)], [1, 2, 4]),
}


def groups_of(paths):
    return group_runs([one for path in paths for one in load_results(path)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs for every figure; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (part, changes, _) in SWEPT.items():
        for i, change in enumerate(changes):
            for seed in (0, 1):
                run = write_run(folder / name / f"{i}-seed-{seed}", seed=10 * i + seed)
                for file in ("logz.json", "ll.json"):
                    model = json.loads((run / file).read_text())["model"]
                    edit(run / file, model=model | {"prior_sha256": f"{i} {seed}"})
                model_edit(model_edit(run, "train", seed=seed), part, **change)
    grid = [
        ((50,), (200, 200), ()),
        ((100,), (200, 200), ()),
        ((50, 50), (200, 200), ()),
        ((100,), (200, 200), (50,)),
    ]
    for i, (prior, encoder, decoder) in enumerate([*grid, ((100,), (100, 100), ()), ((50,), (200, 200), (50,))]):
        run = write_run(folder / "widths" / str(i), seed=i)
        model_edit(run, "train", seed=0)
        model_edit(run, "model", prior_hidden=prior, encoder_hidden=encoder, decoder_hidden=decoder)
    run = write_run(folder / "trajectory" / "0")
    found = json.loads((run / "logz.json").read_text())["diagnostics"]
    curve = {"steps": [0, 40, 90, 1200], "log_z": [16.1, 17.2, 18.9, 30.0], "std_err": [0.0, 0.02, 0.01, 0.05]}
    edit(run / "logz.json", diagnostics=found | {"trajectory": curve})
    return folder


def observables_of(folder):
    """Return two files of observables, made when they are first asked for."""
    paths = [folder / f"{name}.json" for name in ("exact", "tempered")]
    for path, method in zip(paths, ("exact", "pt"), strict=True):
        if not path.exists():
            rbm = (np.eye(4), np.zeros(4), np.zeros(4))
            estimate_observables(rbm, betas=(0.5, 1, 1.5), method=method, n_sweeps=100).save(path)
    return paths


def comparison_of(folder):
    """Return a comparison of samples, with classes of reads, made when it is first asked for."""
    path = folder / "comparison.json"
    if not path.exists():
        rbm = (np.eye(4), np.zeros(4), np.zeros(4))
        reads = sample_states(rbm, 200).states
        compare_samples(rbm, reads, classes=np.arange(200) % 2).save(path)
    return [path]


def paths_of(name, folder):
    if name == "benchmark":
        return [BENCHMARK]
    if name == "comparison":
        return comparison_of(folder)
    if name == "observables":
        return observables_of(folder)
    if name == "smoothing":
        return []
    runs = sorted((folder / (name if (folder / name).exists() else "sweeps")).iterdir())
    n_paths = {"samples": 1, "diagnostics": 1, "schedule": 2, "logz": 4, "training": 2}
    return runs[: n_paths.get(name)]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_keeps_its_width_and_everything_inside_it(name, folder, width):
    """Words that leave the figure are cut off in print: its tight box must lie within its edges."""
    figure = draw(name, paths_of(name, folder), width)
    assert figure.get_figwidth() == width
    figure.draw_without_rendering()
    # The layout gives texts their room; a fiftieth of an inch is the width of a stroke.
    box = figure.get_tightbbox()
    slack = 0.02
    assert (box.x0, box.y0) >= (-slack, -slack)
    assert box.x1 <= width + slack
    assert box.y1 <= figure.get_figheight() + slack


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_from_files_alone_and_the_same_bytes_twice(name, folder, tmp_path, capsys):
    paths = [tmp_path / f"{i}.{name}.svg" for i in (1, 2)]
    for path in paths:
        assert status_of(dvae_eval, "figure", name, *paths_of(name, folder), "-o", path, "-q") == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes().startswith(MAGIC["svg"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_neither_when_nor_by_what(folder, format):
    one, two = (figure_bytes(draw("logz", paths_of("logz", folder)[:1]), format) for _ in range(2))
    assert one == two
    assert one.startswith(MAGIC[format])
    for word in (b"Matplotlib", b"CreationDate", b"dc:date", b"<metadata>\n  <rdf:RDF"):
        assert word not in one


def test_png_has_the_pixels_of_its_width(folder):
    png = figure_bytes(draw("training", paths_of("training", folder)[:1], WIDTHS["page"]), "png")
    assert struct.unpack(">I", png[16:20]) == (round(300 * WIDTHS["page"]),)


def test_samples_are_whole_multiples_of_the_files_pixels(folder):
    import matplotlib.image

    (run,) = paths_of("samples", folder)
    png = figure_bytes(draw("samples", [run], WIDTHS["page"]), "png")
    (run / "x.png").write_bytes(png)
    image = matplotlib.image.imread(run / "x.png")[..., 0]
    (run / "x.png").unlink()
    with np.load(run / "samples.npz") as file:
        first = file["samples"][0, 0, 0]
    # Four chains of five 8x8 images with a pixel between them, and half a tile between the chains.
    scale = image.shape[1] // (4 * (5 * 9 - 1) + 3 * 4)
    tile = image[: 8 * scale, : 8 * scale].reshape(8, scale, 8, scale)
    assert scale >= 2
    np.testing.assert_allclose(
        tile, np.broadcast_to(((255 - first) / 255)[:, None, :, None], tile.shape), atol=1e-3
    )


@pytest.mark.parametrize("name", SWEPT)
def test_figure_6_is_the_results_means_and_spreads(name, folder):
    groups = groups_of(sorted((folder / name).iterdir()))
    (line,) = sweep_lines(groups, AXES[name])
    expected = [
        [load_result(folder / name / f"{i}-seed-{seed}" / "ll.json").log_likelihood for seed in (0, 1)]
        for i in range(3)
    ]
    assert [point.x for point in line.points] == SWEPT[name][2]
    assert [point.log_likelihood for point in line.points] == pytest.approx(np.mean(expected, axis=1))
    assert [point.error for point in line.points] == pytest.approx(np.std(expected, axis=1, ddof=1))
    assert error_name(groups) == "sd of runs"
    ax = sweeps.plot_sweep([line], "x", "sd")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.mean(expected, axis=1))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [str(x) for x in SWEPT[name][2]]


def test_parallel_tempering_is_a_line_of_its_own_at_its_cost(folder, tmp_path):
    """Sweeps of all rungs together, so that points above one another cost the same."""
    gibbs = [folder / "sweeps" / f"{i}-seed-0" for i in range(3)]
    tempering = [shutil.copytree(run, tmp_path / run.name) for run in gibbs[:2]]
    for run in tempering:
        model_edit(run, "train", sampler="tempering", n_rungs=5)
    groups = groups_of([*tempering, *gibbs])
    lines = sweep_lines(groups, AXES["sweeps"])
    x = SWEPT["sweeps"][2]
    assert {line.label: [point.x for point in line.points] for line in lines} == {
        "block Gibbs": x,
        "parallel tempering, 5 rungs": [5 * value for value in x[:2]],
    }
    assert len({(line.style, line.is_dashed) for line in lines}) == 2
    figure = draw("sweeps", [*gibbs, *tempering])
    assert figure.axes[0].get_xlabel() == "block Gibbs sweeps per minibatch\nsummed over all rungs"
    # Along any other axis the sampler has to be the same.
    with pytest.raises(ResultError, match=r"--sampler is .*tempering.* and .*gibbs"):
        sweep_lines(groups_of([tempering[0], gibbs[0]]), AXES["rbm-size"])


def test_labels_of_ticks_keep_apart():
    """At equal cost 8 rungs of 12 sweeps are 96, which is next to 100 and has no label of its own."""
    lines = [
        sweeps.SweepLine(str(style), [sweeps.SweepPoint(x, -90.0, 0.1) for x in values], style)
        for style, values in enumerate([(1, 10, 100), (8, 96)])
    ]
    ax = sweeps.plot_sweep(lines, "x", "sd")
    assert sorted(ax.get_xticks()) == [1, 10, 100]


def test_single_runs_have_the_error_over_images_without_what_they_share(folder, tmp_path):
    runs = [folder / "sweeps" / f"{i}-seed-0" for i in range(3)]
    groups = groups_of(runs)
    assert error_name(groups) == "paired error over images"
    (line,) = sweep_lines(groups, AXES["sweeps"])
    assert [point.error for point in line.points] == paired_std_errs([group.results[0] for group in groups])
    # With a run on other images nothing is known to be shared.
    other = shutil.copytree(runs[2], tmp_path / runs[2].name)
    per_image = json.loads((other / "ll.json").read_text())["per_image"]
    edit(other / "ll.json", per_image=per_image | {"index": list(range(len(per_image["log_likelihood"])))})
    groups = groups_of([*runs[:2], other])
    assert error_name(groups) == "paired error over images or error over images and log Z"
    (line,) = sweep_lines(groups, AXES["sweeps"])
    of_two = paired_std_errs([group.results[0] for group in groups[:2]])
    assert [point.error for point in line.points] == [*of_two, groups[2].std_err]
    assert groups[2].std_err == np.hypot(groups[2].std_err_images, groups[2].std_err_log_z)


def test_runs_that_differ_in_more_are_refused(folder, tmp_path):
    runs = [folder / "sweeps" / "0-seed-0", shutil.copytree(folder / "sweeps" / "1-seed-0", tmp_path / "other")]
    with pytest.raises(ResultError, match=r"--sweeps: --epochs is 60 in .* and 7 in other"):
        sweep_lines(groups_of([runs[0], model_edit(runs[1], "train", epochs=7)]), AXES["sweeps"])
    model_edit(runs[1], "train", epochs=60)
    edit(runs[1] / "ll.json", n_images=10)
    with pytest.raises(ResultError, match=r"the number of images is 899 in .* and 10 in other"):
        sweep_lines(groups_of(runs), AXES["sweeps"])


def test_one_value_is_no_sweep(folder):
    with pytest.raises(ResultError, match="all runs have the same --groups"):
        sweep_lines(groups_of([folder / "sweeps" / "0-seed-0"]), AXES["posterior-layers"])


def test_results_outside_a_run_are_refused(folder, tmp_path):
    shutil.copy(folder / "sweeps" / "0-seed-0" / "ll.json", tmp_path / "lonely.json")
    with pytest.raises(ResultError, match="lonely: the settings of its training are unknown"):
        sweep_lines(groups_of([tmp_path / "lonely.json"]), AXES["sweeps"])


def test_a_point_that_is_not_to_be_trusted_is_crossed_out(folder):
    (line,) = sweep_lines(groups_of([folder / "sweeps" / f"{i}-seed-0" for i in range(3)]), AXES["sweeps"])
    points = [dataclasses.replace(point, trustworthy=point.x != 20) for point in line.points]
    ax = sweeps.plot_sweep([sweeps.SweepLine("", points)], "x", "sd")
    (cross,) = [drawn for drawn in ax.lines if drawn.get_marker() == "x"]
    assert cross.get_xdata().tolist() == [20]
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "may be wrong"


def test_figure_9_has_a_panel_for_each_side_and_a_line_for_each_depth(folder):
    panels = dict(width_panels(groups_of(sorted((folder / "widths").iterdir()))))
    assert set(panels) == {"prior_hidden", "encoder_hidden"}
    lines = {line.label: (sorted(p.x for p in line.points), line.is_dashed) for line in panels["prior_hidden"]}
    assert lines == {
        "1 layer": ([50, 100], False),
        "1 layer, decoder 1": ([50, 100], True),
        "2 layers": ([50], False),
    }
    assert sorted(p.x for line in panels["encoder_hidden"] for p in line.points) == [100, 200, 200]


def test_lines_are_told_apart_without_colour():
    assert len({marker for marker, _ in style.MARKERS}) == len(style.MARKERS)
    assert len({str(line) for _, line in training.LINE_STYLES}) == len(training.LINE_STYLES)


# --- Figure 10 ------------------------------------------------------------------------------------------------


def panels_of(*paths):
    figure = draw("logz", list(paths), WIDTHS["page"])
    return {ax.get_xlabel().rpartition(") ")[2]: ax for ax in figure.axes if ax.lines}


def test_figure_10_has_a_panel_for_each_model(folder, tmp_path):
    runs = []
    for i in range(3):
        runs.append(shutil.copytree(folder / "sweeps" / f"{i}-seed-0", tmp_path / f"model-{i}"))
    panels = panels_of(*runs)
    assert list(panels) == ["model-0", "model-1", "model-2"]
    for i, ax in enumerate(panels.values()):
        result = load_result(runs[i] / "logz.json")
        assert sum(patch.get_height() for patch in ax.patches) == len(result.repeats)
        assert any("exact 44.36" in text.get_text() for text in ax.get_legend().get_texts())


def test_seeds_of_one_model_are_pooled_and_its_exact_value_is_shown(folder, tmp_path):
    source = json.loads((folder / "sweeps" / "0-seed-0" / "logz.json").read_text())
    source["diagnostics"].pop("exact")
    paths = []
    for seed in range(3):
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps({**source, "seed": seed, "settings": {**source["settings"], "seed": seed}}))
        paths.append(path)
    exact = tmp_path / "exact.json"
    exact.write_text(json.dumps({**source, "method": "exact", "repeats": [], "log_z": 44.5, "std_err": 0.0}))
    (ax,) = draw("logz", [*paths, exact]).axes
    assert sum(patch.get_height() for patch in ax.patches) == 3 * len(source["repeats"])
    assert any("exact 44.5" in text.get_text() for text in ax.get_legend().get_texts())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**source, "method": "other"}))
    assert list(panels_of(*paths, other)) == ["0, pt-bar", "other, other"]


def test_the_same_estimates_are_not_counted_twice(folder):
    run = folder / "sweeps" / "0-seed-0"
    with pytest.raises(ResultError, match="the same model, settings and seed"):
        draw("logz", [run, run / "logz.json"])


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["logz", "-o", "{tmp}/x.png"], "give at least one"),
        (["smoothing", "{run}", "-o", "{tmp}/x.png"], "smoothing uses no files"),
        (["logz", "{run}/ll.json", "-o", "{tmp}/x.png"], "contains no logz result"),
        (["samples", "{run}", "{run}", "-o", "{tmp}/x.png"], "give one"),
        (["samples", "{run}/ll.json", "-o", "{tmp}/x.png"], "ll.json"),
        (
            ["samples", "{tmp}", "-o", "{tmp}/x.png"],
            "samples.npz: no such file; make it with dvae-eval samples RUN",
        ),
        (["training", "{run}/ll.json", "-o", "{tmp}/x.png"], "not the metrics of a training"),
        (["training", "{tmp}", "-o", "{tmp}/x.png"], "contains no epoch"),
        (["training", "{run}", "-o", "{tmp}/x.gif"], ".pdf"),
        (["training", "{run}", "-o", "{tmp}/x.png", "--width", "poster"], "poster"),
        (["training", "{run}", "-o", "{tmp}/x.png", "--width", "0"], "1 to 40"),
        (["training", "{run}", "-o", "{run}/ll.json.png", "--width", "nan"], "1 to 40"),
        (["painting", "{run}", "-o", "{tmp}/x.png"], "painting"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(folder, tmp_path, capsys, args, words):
    run = folder / "sweeps" / "0-seed-0"
    assert status_of(dvae_eval, "figure", *(arg.format(tmp=tmp_path, run=run) for arg in args)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not list(tmp_path.iterdir())


def test_a_figure_is_not_overwritten_unless_forced(folder, tmp_path):
    run, path = folder / "sweeps" / "0-seed-0", tmp_path / "x.png"
    path.write_bytes(b"mine")
    assert status_of(dvae_eval, "figure", "training", run, "-o", path, "-q") == 2
    assert path.read_bytes() == b"mine"
    assert status_of(dvae_eval, "figure", "training", run, "-o", path, "-q", "--force", "--width", "2.5") == 0


def test_every_figure_that_has_a_name_can_be_drawn_and_written():
    assert list(FIGURES) == list(names.FIGURES)
    assert set(FORMATS) == set(names.FIGURE_FORMATS)


def test_help_lists_every_figure_with_its_summary(capsys):
    assert status_of(dvae_eval, "figure", "--help") == 0
    listed = " ".join(capsys.readouterr().out.split())
    for name, summary in names.FIGURES.items():
        assert f"{name} {summary}" in listed


def test_a_former_name_of_a_figure_works_and_one_line_names_the_new_one(folder, tmp_path, capsys):
    paths = [tmp_path / f"{name}.svg" for name in ("ladder", "schedule")]
    for path in paths:
        assert status_of(dvae_eval, "figure", path.stem, *paths_of("schedule", folder), "-o", path, "-q") == 0
    assert capsys.readouterr().err == "figure ladder is now called schedule\n"
    assert paths[0].read_bytes() == paths[1].read_bytes()
