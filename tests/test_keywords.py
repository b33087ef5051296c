"""Settings as keyword arguments: what help() and completion show of a function that takes `**settings`."""

import dataclasses
import inspect
import pydoc
from typing import Any

from dvae_core.config import TrainConfig
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
    assert "batch_size : int, default 100\n        Images in a minibatch." in text
    assert "settings: Any" not in text


def test_defaults_of_a_preset_are_not_shown():
    def example(**settings: Any) -> None:
        """Do nothing."""

    shown = with_settings(TrainConfig, from_preset=True)(example)
    assert {p.default for p in inspect.signature(shown).parameters.values()} == {None}
    assert "epochs : int | None\n    Passes over the training set." in shown.__doc__
