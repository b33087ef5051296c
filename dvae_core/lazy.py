"""Public names of a package that are imported on first use, so that `import` and `--help` stay fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose public names are defined in its modules.

    Parameters
    ----------
    package : str
        The package's `__name__`.
    homes : mapping of str to str
        "module:attribute" per name, with the module relative to the package; "module" for the module itself.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        found = import_module(f".{module}", package)
        return getattr(found, attribute) if attribute else found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
