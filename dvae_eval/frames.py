"""Data frames of pandas for results and samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvae_core.extras import extra_module


def frame_of(columns: Mapping[str, Any]) -> Any:
    """Return columns of equal length as a `pandas.DataFrame`; ConfigError if pandas is not installed."""
    return extra_module("pandas", "pandas", "to_frame").DataFrame(dict(columns))
