"""Settings of the estimators as keyword arguments: what help and completion show, and what a misspelt one says."""

import dataclasses
import inspect
import pydoc

import numpy as np
import pytest

from dvae_core.errors import ConfigError
from dvae_eval import (
    CompareConfig,
    LikelihoodConfig,
    LogZConfig,
    ObservablesConfig,
    StatesConfig,
    compare_samples,
    estimate_log_likelihood,
    estimate_log_z,
    estimate_observables,
    sample_states,
)

RBM = (np.zeros((2, 2)), np.zeros(2), np.zeros(2))
READS = np.zeros((3, 4), int)
ESTIMATORS = {
    estimate_log_z: (LogZConfig, (RBM,)),
    sample_states: (StatesConfig, (RBM,)),
    estimate_observables: (ObservablesConfig, (RBM,)),
    compare_samples: (CompareConfig, (RBM, READS)),
    estimate_log_likelihood: (LikelihoodConfig, (None, READS)),
}
CASES = pytest.mark.parametrize(
    ("estimator", "config", "arguments"),
    [pytest.param(f, *rest, id=f.__name__) for f, rest in ESTIMATORS.items()],
)


@CASES
def test_every_setting_is_an_argument_with_its_default(estimator, config, arguments):
    shown = inspect.signature(estimator).parameters
    for field in dataclasses.fields(config):
        if (estimator, field.name) == (sample_states, "n"):
            continue  # given by place as well
        assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert shown[field.name].default == field.default
    text = pydoc.plain(pydoc.render_doc(estimator))
    assert "seed : int, default 0\n        Random seed" in text
    assert not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in shown.values())


@CASES
def test_a_misspelt_setting_names_the_nearest(estimator, config, arguments):
    with pytest.raises(ConfigError, match=r"^sed: no such setting; did you mean seed\?$"):
        estimator(*arguments, sed=1)
    with pytest.raises(ConfigError, match=r"^qqq: no such setting; there are .*, seed"):
        estimator(*arguments, qqq=1)


def test_the_nearest_may_be_an_argument_and_an_option_s_name():
    with pytest.raises(ConfigError, match=r"did you mean threads\?"):
        estimate_log_z(RBM, thread=1)
    with pytest.raises(ConfigError, match=r"did you mean n_sweeps\?"):
        estimate_log_z(RBM, sweeps=100)


def test_settings_of_a_call_come_before_those_of_a_configuration():
    found = sample_states(RBM, config=StatesConfig(n=7, seed=3), seed=4)
    assert (len(found.states), found.seed) == (7, 4)
    assert sample_states(RBM, 5, StatesConfig(n=7)).n_states == 5
    assert sample_states(RBM, config=StatesConfig(n=7, seed=3), seed=None).seed == 3


def test_a_former_name_is_known_and_points_at_the_caller():
    with pytest.warns(DeprecationWarning, match="n_ladders is now called n_replicates") as caught:
        found = estimate_log_z(RBM, n_ladders=8)
    assert found.settings["n_replicates"] == 8
    assert caught[0].filename == __file__
