"""Safetensors files: named tensors and metadata."""

from __future__ import annotations

from pathlib import Path

from dvae_core.errors import DataError
from dvae_core.io.files import utf8_path

from .extras import needs
from .options import ReadConfig, Reading
from .tensors import read_tensors


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a safetensors file; its metadata may determine the units."""
    with needs("safetensors", path):
        from safetensors import SafetensorError, safe_open
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            said = {name: text for name, text in (file.metadata() or {}).items() if name not in tensors}
            return read_tensors(said | tensors, config, "safetensors")
    except SafetensorError as error:
        raise DataError(f"damaged, or not a safetensors file ({error}); save it again") from error
