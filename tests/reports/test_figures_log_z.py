"""The pictures of a tempering run, from a real result."""

import base64
import dataclasses
import json
import re

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.axes import Axes

from dvae_core.errors import ResultError
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.results import LogZResult, load_result
from dvae_eval.test_machines.rbms import planted
from dvae_reports.figures import log_z as figures
from dvae_reports.figures.diagnostics import panels_of
from dvae_reports.figures.registry import draw
from dvae_reports.figures.style import PALETTE
from dvae_reports.names import WIDTHS
from dvae_reports.report.render import render_report
from dvae_reports.results.run_directory import RunRecord
from tests.reports.test_report_run import write_run


@pytest.fixture(scope="module")
def result():
    machine, _ = planted(0, (12, 30), 0.3)
    made = estimate_log_z(machine, method="pt-bar", n_sweeps=400, threads=1)
    # As a figure gets it: from a file's JSON.
    return LogZResult.from_dict(made.to_dict())


PLOTS = [figures.plot_energies, figures.plot_flow, figures.plot_overlap]


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_return_labelled_axes(plot, result):
    ax = plot(result)
    assert isinstance(ax, Axes)
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize("plot", PLOTS)
def test_a_result_without_the_arrays_says_so(plot, result):
    bare = LogZResult.from_dict({**result.to_dict(), "diagnostics": {}})
    with pytest.raises(ResultError, match="result has no usable"):
        plot(bare)


def test_the_flow_falls_from_one_to_zero(result):
    _, measured = figures.plot_flow(result).lines
    assert measured.get_ydata()[0] == 1
    assert measured.get_ydata()[-1] == 0


def test_rows_of_the_overlap_matrix_add_up_to_one(result):
    matrix = np.array(result.diagnostics["overlap_matrix"])
    assert np.allclose(matrix.sum(1), 1, atol=1e-6)
    assert figures.plot_overlap(result).images[0].get_array().shape == matrix.shape


def test_cross_checks_agree(result):
    """MBAR and the estimate from so few samples: within 6 of MBAR's errors, which ignore correlation, times 3."""
    found = result.diagnostics["cross_checks"]["mbar"]
    assert abs(found["log_z"] - result.log_z) < 18 * np.hypot(found["std_err"], result.std_err)


def test_a_report_and_the_diagnostics_figure_have_the_same_panels(result, tmp_path):
    """One registry for both: the overlap matrix stood in the figure alone."""
    run = write_run(tmp_path / "run")
    model = json.loads((run / "logz.json").read_text())["model"]
    dataclasses.replace(result, model=model).save(run / "logz.json")
    drawn = draw("diagnostics", [run], WIDTHS["page"])
    results = [load_result(run / "ll.json"), result]
    titles = [f"run: {panel.title}" for one in results for panel in panels_of(one)]
    assert [ax.get_xlabel().split(") ")[-1] for ax in drawn.axes if ax.get_xlabel()] == titles
    assert "run: overlap" in titles
    page = render_report([RunRecord.load(run)])
    for one in results:
        for panel in panels_of(one):
            assert escape(panel.alt(one)) in page
            assert escape(panel.caption) in page
    (image,) = re.findall(r'xlink:href="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(image, validate=True).startswith(b"\x89PNG")


def test_numbers_in_the_overlap_matrix_are_not_of_the_palette(result):
    """A dark theme gives the palette other colours, and leaves the cells of the matrix as they are."""
    texts = figures.plot_overlap(result).texts
    assert texts
    assert not {text.get_color() for text in texts} & set(PALETTE.values())
