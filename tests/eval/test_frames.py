"""Results and samples as data frames: a row for each of what they are made of, with the numbers of the result."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dvae_core.errors import ConfigError
from dvae_eval import compare_samples, estimate_log_z, estimate_observables, sample_states
from dvae_eval.results import GradientResult, LikelihoodResult
from tests.eval.test_cards import FRAME, RBM, likelihood


def test_rows_of_log_z_are_replicates():
    found = estimate_log_z(RBM, method="pt-bar", n_sweeps=100, n_replicates=8)
    frame = found.to_frame()
    assert frame.columns.tolist() == ["replicate", "log_z"]
    assert frame["replicate"].tolist() == list(range(8))
    assert frame["log_z"].tolist() == found.repeats
    exact = estimate_log_z(RBM)
    assert exact.to_frame().to_dict("list") == {"replicate": [0], "log_z": [exact.log_z]}


def test_rows_of_observables_are_inverse_temperatures():
    found = estimate_observables(RBM, betas=(0.5, 1, 2))
    frame = found.to_frame().set_index("beta")
    assert frame.index.tolist() == [0.5, 1.0, 2.0]
    assert frame.loc[1.0, "energy"] == found.energy
    assert "unit_means" not in frame
    assert frame.reset_index().to_csv(index=False) == found.to_csv()


def test_rows_of_a_likelihood_are_images():
    columns = {"index": [3, 5], "label": [0, 1], "log_likelihood": [-80.0, None], "ess": [2.0, 7.5]}
    found = LikelihoodResult.from_dict({**likelihood().to_dict(), "per_image": columns})
    frame = found.to_frame()
    assert frame.columns.tolist() == list(columns)
    assert frame["log_likelihood"].isna().tolist() == [False, True]
    assert frame.dtypes["log_likelihood"] == np.float64


def test_rows_of_gradients_are_estimators_and_terms():
    terms = {"elbo": {"variance": 2.0, "z": None}, "rbm": {"variance": 1.0, "z": 0.5}}
    estimators = {"a": {"is_unbiased": True, "seconds": 0.1, "terms": terms}}
    found = GradientResult(
        estimators=estimators, reference={"method": "exact"}, n_samples=1, n_images=1, n_units=1, diagnostics={},
        **FRAME,
    )  # fmt: skip
    frame = found.to_frame()
    assert frame.columns.tolist() == ["estimator", "is_unbiased", "seconds", "term", "variance", "z"]
    assert frame[["estimator", "term"]].to_numpy().tolist() == [["a", "elbo"], ["a", "rbm"]]


def test_rows_of_a_comparison_are_deviations():
    found = compare_samples(RBM, sample_states(RBM, 50).states, n_worst=3)
    frame = found.to_frame()
    assert len(frame) == 6
    assert frame["beta"].unique().tolist() == [1.0, found.effective_beta]
    first = found.at_one["deviations"][0]
    assert frame.loc[0, "units"] == " ".join(map(str, first["units"]))
    assert frame.loc[0, "z"] == first["z"]


def test_rows_of_samples_are_states_and_labels_columns():
    states = sample_states(RBM, 20)
    frame = states.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == [*map(str, range(7)), "log_p"]
    assert np.array_equal(frame.drop(columns="log_p").to_numpy(), states.states)
    assert np.array_equal(frame["log_p"], states.log_p)
    named = dataclasses.replace(states, labels=tuple("abcdefg"))
    assert named.to_frame().columns.tolist() == [*"abcdefg", "log_p"]


def test_without_pandas_one_line_names_the_extra(monkeypatch):
    found = estimate_log_z(RBM)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ConfigError, match=r"^to_frame: needs pandas; install it with: pip install 'dvae-toolkit\[pandas\]'$"
    ):
        found.to_frame()


def test_pandas_is_not_imported_before_it_is_needed():
    code = "import sys, dvae_eval; dvae_eval.load_result, dvae_eval.estimate_log_z; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
