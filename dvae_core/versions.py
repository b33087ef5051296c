"""Versions of packages, for results and checkpoints."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from . import __version__

__all__ = ["package_versions"]


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of Python, of this toolkit and of the packages `names` that are installed."""
    versions = {"python": platform.python_version(), "dvae-toolkit": __version__}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
