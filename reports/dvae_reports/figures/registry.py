"""Every figure by its name: from the files that hold its numbers to a matplotlib Figure, and to bytes.

The same files give the same bytes: no date, no maker, and identifiers that come from the figure alone.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dvae_core.config import SMOOTHINGS
from dvae_core.errors import ResultError
from dvae_eval.results import BenchmarkResult, ComparisonResult, LogZResult, ObservablesResult, load_result
from dvae_eval.samples.grid import SampleGrid

from .. import figures
from ..names import WIDTHS
from ..results.benchmarks import by_suite
from ..results.loaded import IGNORED_SETTINGS, LoadedResult, group_runs, load_results, named
from ..results.many import curve_of, read_log_zs
from ..results.metrics import Epoch, read_metrics
from ..results.run_names import distinct_names
from ..results.sweep_axes import AXES, error_name, sweep_lines, width_panels
from .benchmark import benchmark_figure
from .comparison import plot_betas, plot_means, plot_shares_of_energies
from .diagnostics import panels_of
from .log_z import exact_log_z, plot_likelihood_curve, plot_log_z_curve
from .observables import OBSERVABLES, plot_observable
from .panels import DPI, DrawPanel, panel_figure
from .samples import samples_image
from .smoothing import smoothing_figure
from .sweeps import plot_sweep
from .training import plot_runs

__all__ = ["FIGURES", "FORMATS", "draw", "figure_bytes", "left_out"]

Paths = Sequence[Path]
Panels = list[tuple[str, DrawPanel]]


def draw(name: str, paths: Paths, width: float = WIDTHS["column"]) -> Figure:
    """Return the figure of that name, made from result files and run directories.

    Parameters
    ----------
    name : str
        A key of `FIGURES`.
    paths : sequence of Path
        Result files or run directories, as the figure asks for.
    width : float
        Inches.

    Raises
    ------
    ResultError
        If a file is missing, damaged or of another kind, or the files do not belong in one figure.
    """
    kind = FIGURES[name]
    if not paths and kind.takes:
        raise ResultError(f"{name}: made from {kind.takes}; give at least one")
    if paths and not kind.takes:
        raise ResultError(f"{paths[0]}: {name} is made from no file; leave it out")
    return kind.draw(paths, width)


def left_out(name: str, paths: Paths) -> list[str]:
    """Return what the figure of that name does not show of these files, each with the reason."""
    if name != "logz":
        return []
    results = _log_z_results(paths)
    drawn = {_prior(result) for _, result in results if len(result.repeats) > 1}
    return [
        f"{run}: not drawn, an exact value has no independent estimates"
        for run, result in results
        if len(result.repeats) < 2 and _prior(result) not in drawn
    ]


def figure_bytes(figure: Figure, format: str) -> bytes:
    """Return a figure as a file of a format of `FORMATS`; equal figures give equal bytes."""
    buffer = io.BytesIO()
    # Fonts whole in PDF (journals refuse Type 3) and as outlines in SVG, which then looks alike everywhere.
    style: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "dvae"}
    with mpl.rc_context(style):
        figure.savefig(buffer, format=format, metadata=FORMATS[format], facecolor="white", dpi="figure")
    return buffer.getvalue()


# What every format would otherwise say of date and maker.
FORMATS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


# --- from files to panels -------------------------------------------------------------------------------------


def _smoothing(paths: Paths, width: float) -> Figure:
    """Draw Figures 2a, 7 and 8, and the transformations that the paper does not have."""
    from dvae_eval.samples.smoothing_curves import smoothing_curves

    return smoothing_figure([smoothing_curves(name) for name in SMOOTHINGS if name != "none"], width)


def _samples(paths: Paths, width: float) -> Figure:
    """Draw Figure 5, and Figures 11 to 13: every pixel a whole number of the file's."""
    (path,) = _one(paths, "samples.npz")
    image = samples_image(SampleGrid.load(path))
    scale = math.ceil(DPI * width / image.shape[1])
    figure = Figure(figsize=(width, width * image.shape[0] / image.shape[1]), dpi=scale * image.shape[1] / width)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.imshow(image, interpolation="nearest", aspect="auto")
    ax.set_axis_off()
    return figure


def _log_z(paths: Paths, width: float) -> Figure:
    """Draw Figure 10, one panel a model."""
    panels = [(title, _in(figures.plot_repeats, result)) for title, result in _pooled(_log_z_results(paths))]
    return _panels(panels, width)


def _sweep(name: str) -> Callable[[Paths, float], Figure]:
    """Return the function that draws Figure 6's panel of that name."""

    def draw_sweep(paths: Paths, width: float) -> Figure:
        groups = group_runs(_read(paths))
        lines, axis = sweep_lines(groups, AXES[name]), AXES[name]
        label = axis.label + ("\nof all rungs together" if any(line.is_dashed for line in lines) else "")
        return _panels([("", _in(plot_sweep, lines, label, error_name(groups)))], width)

    return draw_sweep


def _widths(paths: Paths, width: float) -> Figure:
    """Draw Figure 9."""
    groups = group_runs(_read(paths))
    labels = {"prior_hidden": "prior", "encoder_hidden": "posterior"}
    panels: Panels = [
        (labels[field], _in(plot_sweep, lines, "hidden units per layer", error_name(groups)))
        for field, lines in width_panels(groups)
    ]
    return _panels(panels, width)


def _training(paths: Paths, width: float) -> Figure:
    """Draw bound and KL of one run, or the validation bounds of several."""
    names = distinct_names([[(path if path.is_dir() else path.parent).resolve()] for path in paths])
    runs = {name: _epochs(path) for name, path in zip(names, paths, strict=True)}
    if len(runs) > 1:
        return _panels([("", _in(plot_runs, runs))], width)
    (epochs,) = runs.values()
    return _panels([("bound", _in(figures.plot_elbo, epochs)), ("KL", _in(figures.plot_kl, epochs))], width)


def _observables(paths: Paths, width: float) -> Figure:
    """Draw observables against β, a panel for each, every result a line."""
    results = _of_observables(paths)
    panels = [
        ("log Z" if name == "log_z" else name.replace("_", " "), _in(plot_observable, results, name))
        for name in OBSERVABLES
    ]
    return _panels(panels, width)


def _comparison(paths: Paths, width: float) -> Figure:
    """Draw energies, means of units and both β of one comparison of samples."""
    (path,) = _one(paths, "comparison.json")
    (found,) = load_results(path)
    if not isinstance(found.result, ComparisonResult):
        raise ResultError(f"{path}: holds no comparison; make one with dvae-eval compare-samples")
    plots = {"energies": plot_shares_of_energies, "means": plot_means, "inverse temperature": plot_betas}
    return _panels([(title, _in(plot, found.result)) for title, plot in plots.items()], width)


def _benchmark(paths: Paths, width: float) -> Figure:
    """Draw errors, calibration and verdicts of the runs of one suite and budget."""
    found = [load_result(path) for path in paths]
    for path, result in zip(paths, found, strict=True):
        if not isinstance(result, BenchmarkResult):
            raise ResultError(f"{path}: holds no benchmark; make one with dvae-eval benchmark")
    suites = by_suite([result for result in found if isinstance(result, BenchmarkResult)])
    if len(suites) > 1:
        raise ResultError(f"{paths[-1]}: the files are of {' and of '.join(suites)}; give those of one")
    return benchmark_figure(next(iter(suites.values())), width)


def _schedule(paths: Paths, width: float) -> Figure:
    """Draw the schedule of every estimate."""
    return _panels([(name, _in(figures.plot_schedule, result)) for name, result in _log_z_results(paths)], width)


def _trajectory(paths: Paths, width: float) -> Figure:
    """Draw log Z along the training of every result that has it and of every file of lines, and likelihoods."""
    lines = [path for path in paths if path.suffix == ".jsonl"]
    names = distinct_names([[path.resolve().with_suffix("")] for path in lines])
    curves = [(name, curve_of(read_log_zs(path))) for name, path in zip(names, lines, strict=True)]
    panels: Panels = [(name, _in(plot_log_z_curve, curve)) for name, curve in curves]
    for name, result in _log_z_results([path for path in paths if path not in lines]):
        if curve := result.diagnostics.get("trajectory"):
            curves.append((name, curve))
            panels.append((name, _in(figures.plot_trajectory, result)))
    if not panels:
        raise ResultError(
            f"{paths[0]}: was not estimated along a training (logz --path trajectory takes the shorter of two "
            "paths); give a result that was, or a FILE.jsonl of several machines"
        )
    panels += [(name, _in(plot_likelihood_curve, curve)) for name, curve in curves if curve.get("log_likelihood")]
    return _panels(panels, width)


def _diagnostics(paths: Paths, width: float) -> Figure:
    """Draw what every result shows of its own quality."""
    panels = [
        (f"{name}: {panel.title}", _in(panel.plot, one.result))
        for name, one in named(_read(paths))
        for panel in panels_of(one.result)
    ]
    return _panels(panels, width)


def _in(plot: Callable[..., Axes], *arguments: Any) -> DrawPanel:
    """Return a function that draws `plot` of these arguments in given axes."""
    return lambda ax: plot(*arguments, ax=ax)


def _panels(panels: Panels, width: float) -> Figure:
    """Return the figure of these panels; ResultError if there is none."""
    if not panels:
        raise ResultError("the files hold nothing that this figure shows; exact results have no schedule")
    return panel_figure(panels, width)


# --- from paths to results ------------------------------------------------------------------------------------


def _read(paths: Paths) -> list[LoadedResult]:
    """Return all results at these paths."""
    return [one for path in paths for one in load_results(path)]


def _log_z_results(paths: Paths) -> list[tuple[str, LogZResult]]:
    """Return the estimates of log Z at these paths with their names; ResultError for a path that holds none."""
    found = []
    for path in paths:
        results = [one for one in load_results(path) if isinstance(one.result, LogZResult)]
        if not results:
            raise ResultError(f"{path}: holds no logz result; make one with dvae-eval logz")
        found += results
    return [(name, one.result) for name, one in named(found) if isinstance(one.result, LogZResult)]


def _of_observables(paths: Paths) -> list[tuple[str, ObservablesResult]]:
    """Return the observables at these paths with their names; ResultError for a path that holds none."""
    files = [path / "observables.json" if path.is_dir() else path for path in paths]
    found = [one for file in files for one in load_results(file)]
    for file, one in zip(files, found, strict=True):
        if not isinstance(one.result, ObservablesResult):
            raise ResultError(f"{file}: holds no observables; make them with dvae-eval observables")
    return [(name, one.result) for name, one in named(found) if isinstance(one.result, ObservablesResult)]


def _pooled(found: Sequence[tuple[str, LogZResult]]) -> list[tuple[str, LogZResult]]:
    """Return one result for every model and method, with the estimates of all its seeds and its exact value.

    Raises
    ------
    ResultError
        If two files hold the same estimates, which would count them twice.
    """
    exact = {_prior(r): v for _, r in found if (v := exact_log_z(r)) is not None}
    groups: dict[tuple[str, str], list[tuple[str, LogZResult]]] = {}
    for name, result in found:
        if len(result.repeats) > 1:
            settings = {key: value for key, value in result.settings.items() if key not in IGNORED_SETTINGS}
            key = (_prior(result), json.dumps([result.method, settings], sort_keys=True))
            groups.setdefault(key, []).append((name, result))
    pooled = [_pool(members, exact.get(prior)) for (prior, _), members in groups.items()]
    titles = [_title(members, groups) for members in groups.values()]
    return list(zip(titles, pooled, strict=True))


def _pool(members: Sequence[tuple[str, LogZResult]], exact: float | None) -> LogZResult:
    """Return the estimates of several seeds as one result."""
    if len({result.seed for _, result in members}) < len(members):
        names = ", ".join(name for name, _ in members)
        raise ResultError(f"{names}: the same model, settings and seed; give one of them")
    first = members[0][1]
    repeats = [value for _, result in members for value in result.repeats]
    known = {} if exact is None else {"exact": {"log_z": exact}}
    return replace(first, repeats=repeats, diagnostics={**first.diagnostics, **known})


def _title(members: Sequence[tuple[str, LogZResult]], groups: dict[tuple[str, str], Any]) -> str:
    """Return a panel's name: the run's, and the method where a model has several panels."""
    name, result = members[0]
    several = sum(prior == _prior(result) for prior, _ in groups) > 1
    return f"{name}, {result.method}" if several else name


def _prior(result: LogZResult) -> str:
    """Return what tells one prior from another."""
    return str(result.model.get("prior_sha256") or result.model.get("sha256"))


def _one(paths: Paths, name: str) -> list[Path]:
    """Return the only path, the file `name` where it is a run directory; ResultError if there are several."""
    if len(paths) != 1:
        raise ResultError(f"{paths[1]}: this figure shows one {name}; give one")
    return [path / name if path.is_dir() else path for path in paths]


def _epochs(path: Path) -> list[Epoch]:
    """Return the course of training at `path`; ResultError if there is none."""
    file = path / "metrics.jsonl" if path.is_dir() else path
    epochs, _ = read_metrics(file)
    if not epochs:
        raise ResultError(f"{file}: holds no epoch; give a run directory in which dvae-train has finished one")
    return epochs


@dataclass(frozen=True, slots=True)
class FigureKind:
    """How a figure of `dvae_reports.names.FIGURES` is made: from what files (none where empty), and by what."""

    takes: str
    draw: Callable[[Paths, float], Figure]


FIGURES = {
    "benchmark": FigureKind("benchmark results", _benchmark),
    "comparison": FigureKind("a comparison.json", _comparison),
    "diagnostics": FigureKind("result files or runs", _diagnostics),
    "logz": FigureKind("logz results or runs", _log_z),
    "observables": FigureKind("observables results or runs", _observables),
    "posterior-layers": FigureKind("runs", _sweep("posterior-layers")),
    "rbm-size": FigureKind("runs", _sweep("rbm-size")),
    "samples": FigureKind("a samples.npz or a run", _samples),
    "schedule": FigureKind("logz results or runs", _schedule),
    "smoothing": FigureKind("", _smoothing),
    "sweeps": FigureKind("runs", _sweep("sweeps")),
    "training": FigureKind("runs or metrics.jsonl", _training),
    "trajectory": FigureKind("logz results, files of their lines or runs", _trajectory),
    "widths": FigureKind("runs", _widths),
}
