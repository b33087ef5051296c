"""Settings of a configuration as keyword arguments that `help()` and completion show, with their defaults."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def with_settings(*config_classes: type[Any], from_preset: bool = False) -> Callable[[F], F]:
    """Return a decorator for a function whose `**settings` are fields of configuration dataclasses.

    The function itself stays as it is.  Its signature gets a keyword argument per field in place of `**settings`,
    and its docstring a last section, Settings, with type, default and help of each.  Fields that the function
    names itself are left out.

    Parameters
    ----------
    *config_classes : dataclasses
        Their fields were made with `dvae_core.config.option`.
    from_preset : bool
        Show None as every default, since a preset supplies the value of what is not given.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        settings = [
            setting
            for cls in config_classes
            for setting in _settings(cls, from_preset)
            if setting[0].name not in signature.parameters
        ]
        parameters = [*own, *(parameter for parameter, _ in settings)]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        section = "\n".join(_entry(*setting) for setting in settings)
        function.__doc__ = f"{inspect.getdoc(function) or ''}\n\nSettings\n--------\n{section}\n".lstrip()
        return function

    return decorate


def _settings(cls: type[Any], from_preset: bool) -> list[tuple[inspect.Parameter, str]]:
    """Return a keyword argument and the help of every field of a configuration."""
    hints = typing.get_type_hints(cls)
    return [
        (
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if from_preset else field.default,
                annotation=hints[field.name] | None if from_preset else hints[field.name],
            ),
            str(field.metadata.get("help", "")),
        )
        for field in dataclasses.fields(cls)
    ]


def _entry(parameter: inspect.Parameter, help: str) -> str:
    """Return the lines on one setting as NumPy's docstrings have them."""
    kind = inspect.formatannotation(parameter.annotation)
    default = "" if parameter.default is None else f", default {parameter.default!r}"
    return f"{parameter.name} : {kind}{default}\n    {help}".rstrip()
