"""The pictures of a tempering run, from a real result."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from dvae_core.errors import ResultError
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.results import LogZResult
from dvae_reports.figures import log_z as figures
from tests.solved import planted


@pytest.fixture(scope="module")
def result():
    machine, _ = planted(0, (12, 30), 0.3)
    made = estimate_log_z(machine, method="pt-bar", n_sweeps=400, threads=1)
    # As a figure gets it: from a file's JSON.
    return LogZResult.from_dict(made.to_dict())


PLOTS = [figures.plot_barrier, figures.plot_energies, figures.plot_flow, figures.plot_overlap]


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_return_labelled_axes(plot, result):
    ax = plot(result)
    assert isinstance(ax, Axes)
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize("plot", PLOTS)
def test_a_result_without_the_arrays_says_so(plot, result):
    bare = LogZResult.from_dict({**result.to_dict(), "diagnostics": {}})
    with pytest.raises(ResultError, match="result without usable"):
        plot(bare)


def test_the_barrier_is_the_sum_of_the_rejection_rates(result):
    (line,) = figures.plot_barrier(result).lines
    assert np.isclose(line.get_ydata()[-1], result.diagnostics["barrier"])


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
