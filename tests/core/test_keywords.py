"""Settings as keyword arguments: what help() and completion show of a function that takes `**settings`."""

import dataclasses
import inspect
import pydoc
from typing import Any

import numpy as np
import pytest

from dvae_core.config import ModelConfig, TrainConfig
from dvae_core.errors import ConfigError
from dvae_core.keywords import with_settings


def example(data: str, *, seed: int = 3, **settings: Any) -> dict[str, Any]:
    """Return the settings."""
    return settings


def test_every_field_is_a_keyword_argument_with_its_default():
    shown = with_settings(TrainConfig)(example)
    assert shown is example  # not wrapped: a call is as before
    assert shown("x", epochs=2) == {"epochs": 2}
    parameters = inspect.signature(shown).parameters
    fields = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    assert list(parameters) == ["data", *{"seed": 0} | {n: 0 for n in fields if n != "seed"}]
    assert {name: parameters[name].default for name in fields} == {**fields, "seed": 3}
    assert parameters["learning_rate"].annotation is float
    text = pydoc.plain(pydoc.render_doc(shown))
    assert "batch_size : int, default 100\n        Images per minibatch." in text
    assert "settings: Any" not in text


def test_defaults_of_a_preset_are_not_shown():
    def example(**settings: Any) -> None:
        """Do nothing."""

    shown = with_settings(TrainConfig, from_preset=True)(example)
    assert {p.default for p in inspect.signature(shown).parameters.values()} == {None}
    assert "epochs : int | None\n    Passes over the training set." in shown.__doc__


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1.5}, "--seed: 1.5 is not allowed; give a whole number between 0 and"),
        ({"epochs": "5"}, "--epochs: '5' is not allowed; give a whole number"),
        ({"n_chains": 8.0}, "--chains: 8.0 is not allowed; give a whole number"),
        ({"n_sweeps": 0}, "--sweeps: 0 is not allowed; give a number between 1"),
        ({"learning_rate": "0.1"}, "--learning-rate: '0.1' is not allowed; give a number between"),
        ({"learning_rate": float("nan")}, "--learning-rate: nan is not allowed"),
        ({"amp": "no"}, "--amp: 'no' is not allowed; give True or False"),
        ({"sampler": 3}, "--sampler: 3 is not allowed; give one of gibbs, tempering"),
    ],
)
def test_a_value_of_another_type_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_numbers_of_numpy_are_numbers():
    config = TrainConfig(seed=np.int64(3), learning_rate=np.float32(0.1), warmup_strength=2, amp=np.True_)
    assert (config.seed, config.warmup_strength) == (3, 2)
    with pytest.raises(ConfigError, match=r"--encoder-hidden: 3.5 is not allowed"):
        ModelConfig(encoder_hidden=(10, 3.5))
