"""Every figure by its name: from the files that hold its numbers to a matplotlib Figure, and to bytes.

The same files give the same bytes: no date, no maker, and identifiers that come from the figure alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dvae_core.config import SMOOTHINGS
from dvae_core.errors import ConfigError, ResultError
from dvae_eval.results import BenchmarkResult, ComparisonResult, load_result
from dvae_eval.samples.grid import SampleGrid

from ..names import WIDTHS
from ..results.benchmarks import by_suite
from ..results.groups import error_name, group_runs
from ..results.labels import Label
from ..results.loaded import LINES, load_results, named
from ..results.many import curve_of, read_log_zs
from ..results.run_names import distinct_names
from ..results.sweep_axes import AXES, sweep_lines, width_panels
from ..results.training_runs import read_courses
from .benchmark import benchmark_figure
from .comparison import COMPARISON_PANELS
from .diagnostics import panels_of
from .inputs import log_z_results, observables_of, pooled, prior_of, read_results
from .log_z import plot_likelihood_curve, plot_log_z_curve, plot_repeats, plot_schedule, plot_trajectory
from .observables import OBSERVABLES_PANELS
from .panels import DPI, Titled, panel_figure, titled
from .samples import samples_image
from .smoothing import smoothing_figure
from .sweeps import plot_sweep
from .training import TRAINING_PANELS, plot_runs
from .training_seeds import plot_seeds

# Fonts for text and mathematics.  The serif fonts match Times, which most journals use.
FONT_STYLES: dict[str, dict[Any, Any]] = {
    "sans": {},
    "serif": {"font.family": ["STIXGeneral", "DejaVu Serif"], "mathtext.fontset": "stix"},
}
Paths = Sequence[Path]
Labels = Sequence[Label]


def draw(
    name: str,
    paths: Paths,
    width: float = WIDTHS["column"],
    *,
    font: str = "sans",
    labels: Labels = (),
) -> Figure:
    """Return the figure of that name, made from result files and run directories.

    Parameters
    ----------
    name : str
        A key of `FIGURES`.
    paths : sequence of Path
        Result files or run directories, as the figure requires.
    width : float
        Inches.
    font : str
        A key of `dvae_reports.names.FONTS`, for letters and mathematics.
    labels : sequence of (str, str)
        Names of runs: a path or the name as shown by default, and the name to show.

    Raises
    ------
    ResultError
        If a file is missing, damaged or of another kind, or the files cannot share one figure.
    ConfigError
        If the figure shows no names, or a label names none of the runs.
    """
    kind = FIGURES[name]
    if not paths and kind.takes:
        raise ResultError(f"{name}: this figure is made from {kind.takes}; give at least one")
    if paths and not kind.takes:
        raise ResultError(f"{paths[0]}: the figure {name} uses no files; omit the path")
    if labels and not kind.has_names:
        raise ConfigError(f"--label: the figure {name} shows no names of runs; omit the option")
    with mpl.rc_context(FONT_STYLES[font]):
        figure = kind.draw(paths, width, labels)
        # Inside the context of the font: matplotlib makes the ticks only when it draws.
        figure.draw_without_rendering()
    return figure


def left_out(name: str, paths: Paths, labels: Labels = ()) -> list[str]:
    """Return the results that the figure of that name does not show, each with the reason."""
    if name != "logz":
        return []
    results = log_z_results(paths, labels)
    drawn = {prior_of(result) for _, result in results if len(result.repeats) > 1}
    return [
        f"{run}: not drawn, because an exact value has no independent estimates"
        for run, result in results
        if len(result.repeats) < 2 and prior_of(result) not in drawn
    ]


def figure_bytes(figure: Figure, format: str) -> bytes:
    """Return a figure as a file of a format of `FORMATS`; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # PDF embeds whole fonts (journals refuse Type 3); SVG has outlines, which look the same everywhere.
    style: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "dvae"}
    with mpl.rc_context(style):
        figure.savefig(buffer, format=format, metadata=FORMATS[format], facecolor="white", dpi="figure")
    return buffer.getvalue()


# Metadata to omit, by format: dates and programs.  The types of matplotlib do not know None.
FORMATS: dict[str, dict[Any, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


# --- from files to panels -------------------------------------------------------------------------------------


def _smoothing(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw Figures 2a, 7 and 8, with the transformations of later papers."""
    from dvae_eval.samples.smoothing_curves import smoothing_curves

    return smoothing_figure([smoothing_curves(name) for name in SMOOTHINGS if name != "none"], width)


def _samples(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw Figures 5 and 11 to 13, with each pixel of a sample a whole number of pixels of the figure."""
    (path,) = _one(paths, "samples.npz")
    if not path.exists():
        raise ResultError(f"{path}: no such file; make it with dvae-eval samples RUN")
    image = samples_image(SampleGrid.load(path))
    scale = math.ceil(DPI * width / image.shape[1])
    figure = Figure(figsize=(width, width * image.shape[0] / image.shape[1]), dpi=scale * image.shape[1] / width)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.imshow(image, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    return figure


def _log_z(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw Figure 10, one panel per model."""
    panels = [(title, partial(plot_repeats, result)) for title, result in pooled(log_z_results(paths, labels))]
    return _panels(panels, width)


def _sweep(name: str) -> Callable[[Paths, float, Labels], Figure]:
    """Return the function that draws Figure 6's panel of that name."""

    def draw_sweep(paths: Paths, width: float, labels: Labels) -> Figure:
        groups = group_runs(read_results(paths))
        lines, axis = sweep_lines(groups, AXES[name]), AXES[name]
        label = axis.label + ("\nsummed over all rungs" if any(line.is_dashed for line in lines) else "")
        return _panels([("", partial(plot_sweep, lines, label, error_name(groups)))], width)

    return draw_sweep


def _widths(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw Figure 9."""
    groups = group_runs(read_results(paths))
    titles = {"prior_hidden": "prior", "encoder_hidden": "posterior"}
    panels: list[Titled] = [
        (titles[field], partial(plot_sweep, lines, "hidden units per layer", error_name(groups)))
        for field, lines in width_panels(groups)
    ]
    return _panels(panels, width)


def _training(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw bound and KL of one run, or the validation bounds of several; for several seeds, mean and band."""
    settings = read_courses(paths, labels)
    if any(len(seeds) > 1 for seeds in settings.values()):
        return _panels([("", partial(plot_seeds, settings))], width)
    courses = {name: course for name, (course,) in settings.items()}
    if len(courses) > 1:
        return _panels([("", partial(plot_runs, courses))], width)
    return _panels(titled(TRAINING_PANELS, *courses.values()), width)


def _observables(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw observables against β, one panel per observable and one line per result."""
    return _panels(titled(OBSERVABLES_PANELS, observables_of(paths, labels)), width)


def _comparison(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw energies, means of units and both estimates of β of one comparison of samples."""
    (path,) = _one(paths, "comparison.json")
    (found,) = load_results(path)
    if not isinstance(found.result, ComparisonResult):
        raise ResultError(f"{path}: contains no comparison; make one with dvae-eval compare-samples")
    return _panels(titled(COMPARISON_PANELS, found.result), width)


def _benchmark(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw errors, calibration and verdicts of the runs of one suite and budget."""
    found = [load_result(path) for path in paths]
    for path, result in zip(paths, found, strict=True):
        if not isinstance(result, BenchmarkResult):
            raise ResultError(f"{path}: contains no benchmark; make one with dvae-eval benchmark")
    suites = by_suite([result for result in found if isinstance(result, BenchmarkResult)])
    if len(suites) > 1:
        raise ResultError(
            f"{paths[-1]}: the files belong to different suites ({' and '.join(suites)}); give files of one suite"
        )
    return benchmark_figure(next(iter(suites.values())), width)


def _schedule(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw the schedule of every estimate."""
    return _panels(
        [(name, partial(plot_schedule, result)) for name, result in log_z_results(paths, labels)],
        width,
    )


def _trajectory(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw log Z along trainings, from results and .jsonl files that have it, and their log-likelihoods."""
    lines = [path for path in paths if path.suffix == LINES]
    given = {Path(run).resolve(): label for run, label in labels}
    names = distinct_names([[path.resolve().with_suffix("")] for path in lines])
    names = [given.pop(path.resolve(), name) for path, name in zip(lines, names, strict=True)]
    curves = [(name, curve_of(read_log_zs(path))) for name, path in zip(names, lines, strict=True)]
    panels: list[Titled] = [(name, partial(plot_log_z_curve, curve)) for name, curve in curves]
    others = [(run, label) for run, label in labels if Path(run).resolve() in given]
    for name, result in log_z_results([path for path in paths if path not in lines], others):
        if curve := result.diagnostics.get("trajectory"):
            curves.append((name, curve))
            panels.append((name, partial(plot_trajectory, result)))
    if not panels:
        raise ResultError(
            f"{paths[0]}: log Z was not estimated along a training (logz --path trajectory uses the path with the "
            "lower barrier); give a result of a trajectory, or a FILE.jsonl of several machines"
        )
    panels += [
        (name, partial(plot_likelihood_curve, curve)) for name, curve in curves if curve.get("log_likelihood")
    ]
    return _panels(panels, width)


def _diagnostics(paths: Paths, width: float, labels: Labels) -> Figure:
    """Draw the diagnostics of every result."""
    panels = [
        (f"{name}: {panel.title}", partial(panel.plot, one.result))
        for name, one in named(read_results(paths, labels))
        for panel in panels_of(one.result)
    ]
    return _panels(panels, width)


def _panels(panels: Sequence[Titled], width: float) -> Figure:
    """Return the figure of these panels; ResultError if there are none."""
    if not panels:
        raise ResultError(
            "the files have no numbers for this figure; exact results have no schedule; give results of estimates"
        )
    return panel_figure(panels, width)


def _one(paths: Paths, name: str) -> list[Path]:
    """Return the only path, or the file `name` in it if it is a run directory; ResultError for several paths."""
    if len(paths) != 1:
        raise ResultError(f"{paths[1]}: this figure shows a single {name}; give one path")
    return [path / name if path.is_dir() else path for path in paths]


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A figure of `dvae_reports.names.FIGURES`: the files that it needs (empty: none), and what draws it."""

    takes: str
    draw: Callable[[Paths, float, Labels], Figure]
    # Whether it shows names of runs.
    has_names: bool = True


FIGURES = {
    "benchmark": FigureKind("benchmark results", _benchmark, has_names=False),
    "comparison": FigureKind("a comparison.json", _comparison, has_names=False),
    "diagnostics": FigureKind("result files or runs", _diagnostics),
    "logz": FigureKind("logz results or runs", _log_z),
    "observables": FigureKind("observables results or runs", _observables),
    "posterior-layers": FigureKind("runs", _sweep("posterior-layers"), has_names=False),
    "rbm-size": FigureKind("runs", _sweep("rbm-size"), has_names=False),
    "samples": FigureKind("a samples.npz or a run", _samples, has_names=False),
    "schedule": FigureKind("logz results or runs", _schedule),
    "smoothing": FigureKind("", _smoothing, has_names=False),
    "sweeps": FigureKind("runs", _sweep("sweeps"), has_names=False),
    "training": FigureKind("runs or metrics.jsonl", _training),
    "trajectory": FigureKind("logz results, .jsonl files of several or runs", _trajectory),
    "widths": FigureKind("runs", _widths, has_names=False),
}
