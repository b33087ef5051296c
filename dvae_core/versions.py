"""The version of this toolkit and of other packages, for results and checkpoints."""

from __future__ import annotations

import platform

__version__ = "0.1.0"


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of Python, of this toolkit, and of those packages `names` that are installed."""
    from importlib.metadata import PackageNotFoundError, version  # imported here, since --help imports this module

    versions = {"python": platform.python_version(), "dvae-toolkit": __version__}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
