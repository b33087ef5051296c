"""MATLAB files of version 5 to 7: named matrices, full or sparse."""

from __future__ import annotations

from pathlib import Path

from dvae_core.io.containers import advice, read_mat_variables

from .arrays import KNOWN, read_arrays
from .options import ReadConfig, Reading

__all__ = ["read"]


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a MATLAB file."""
    with advice("save W, b_left and b_right, or J and b, with -v7"):
        return read_arrays(read_mat_variables(path, KNOWN), config, "MATLAB 5")
