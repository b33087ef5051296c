"""Libraries that only some users need: imported where they are used, with a line on how to have them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import ConfigError


def extra_module(name: str, extra: str, needed_by: str) -> Any:
    """Return a module of an optional library.

    Parameters
    ----------
    name : str
        Of the module.
    extra : str
        The extra of this package that installs it.
    needed_by : str
        What needs it, for the reader of the error.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{needed_by}: needs {name}; install it with: pip install 'dvae-toolkit[{extra}]'"
        ) from error
