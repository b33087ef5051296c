"""Safetensors files: named tensors, and nothing but them."""

from __future__ import annotations

from pathlib import Path

from dvae_core.errors import DataError

from .extras import needs
from .options import ReadConfig, Reading
from .tensors import read_tensors

__all__ = ["read"]


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a safetensors file."""
    with needs("safetensors", path):
        from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="pt") as file:
            return read_tensors({name: file.get_tensor(name) for name in file.keys()}, config, "safetensors")
    except SafetensorError as error:
        raise DataError(f"damaged, or no safetensors file ({error})") from error
