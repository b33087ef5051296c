"""Settings of a configuration as keyword arguments, for calls, `help()` and completion."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from .errors import ConfigError

C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])


def with_settings(*config_classes: type[Any], from_preset: bool = False) -> Callable[[F], F]:
    """Return a decorator for a function whose `**settings` are fields of configuration dataclasses.

    The function itself does not change.  In its signature a keyword argument per field replaces `**settings`, and
    its docstring gets a last section, Settings, with type, default and help text per field.  Fields that are
    explicit parameters of the function are skipped.

    Parameters
    ----------
    *config_classes : dataclasses
        Their fields were made with `dvae_core.config.option`.
    from_preset : bool
        Show None as every default, since a preset supplies the values that are not given.
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
    """Return the keyword argument and the help text of each field of a configuration."""
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
    """Return the entry of one setting in the style of NumPy's docstrings."""
    kind = inspect.formatannotation(parameter.annotation)
    default = "" if parameter.default is None else f", default {parameter.default!r}"
    return f"{parameter.name} : {kind}{default}\n    {help}".rstrip()


def configured(cls: type[C], config: C | None, settings: Mapping[str, Any], of: Callable[..., Any]) -> C:
    """Return a configuration with the settings of a call; None stands for a setting that is not given.

    Parameters
    ----------
    cls : type
        A dataclass whose fields were made with `dvae_core.config.option`.
    config : of that class, optional
        Source of the settings that are not given; by default the defaults of `cls`.
    settings : mapping of str to value
    of : callable
        The function that was called, decorated by `with_settings`; errors suggest its arguments.

    Raises
    ------
    ConfigError
        If a setting is unknown, or a value is not allowed.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    former = {f.metadata["formerly"]: f.name for f in fields if "formerly" in f.metadata}
    for name in sorted(former.keys() & settings.keys()):
        warnings.warn(f"{name} is now called {former[name]}", DeprecationWarning, stacklevel=3)
    given = {former.get(name, name): value for name, value in settings.items()}
    refuse_unknown(given, [field.name for field in fields], of)
    given = {name: value for name, value in given.items() if value is not None}
    return cls(**given) if config is None else dataclasses.replace(config, **given)  # type: ignore[type-var]


def refuse_unknown(settings: Mapping[str, Any], names: Collection[str], of: Callable[..., Any]) -> None:
    """Raise ConfigError for a setting that is not in `names`, and suggest the nearest argument of `of`."""
    for name in sorted(settings.keys() - set(names)):
        near = difflib.get_close_matches(name, inspect.signature(of).parameters, 1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
        raise ConfigError(f"{name}: no such setting; {meant}")
