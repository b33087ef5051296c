"""Optional libraries: imported where they are used, with an error that states how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import ConfigError


def extra_module(name: str, extra: str, needed_by: str) -> Any:
    """Return a module of an optional library.

    Parameters
    ----------
    name : str
        Name of the module.
    extra : str
        Extra of this package that installs the library.
    needed_by : str
        Option or feature that needs it, for the error message.

    Raises
    ------
    ConfigError
        If the library is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{needed_by}: needs {name}; install it with: pip install 'dvae-toolkit[{extra}]'"
        ) from error
