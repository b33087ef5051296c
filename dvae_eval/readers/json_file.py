"""JSON files: a dimod BinaryQuadraticModel from `to_serializable`, or named arrays as lists of numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dvae_core.errors import DataError
from dvae_core.io.files import json_object, read_text

from . import dimod
from .arrays import Array
from .options import ReadConfig, Reading
from .tree import MAX_NAMES, read_tree


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a JSON file."""
    try:
        found = json_object(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(f"damaged JSON ({str(error)[:200]}); give the file of a model") from error
    if found.get("type") == "BinaryQuadraticModel" or "bqm_schema" in found.get("version", ()):
        return dimod.read_serializable(found, config)
    if is_result(found):
        raise DataError("is a result; give the file of a model")
    values: dict[str, Array | str] = {}
    waiting: list[tuple[str, Any]] = list(found.items())
    while waiting:
        name, value = waiting.pop(0)
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif (array := _array(value)) is not None:
            values[name] = array
        if len(values) + len(waiting) > MAX_NAMES:
            raise DataError(f"has more than {MAX_NAMES} values; save the machine alone")
    try:
        return read_tree(values, config, "JSON", always=False)
    except DataError as error:
        raise DataError(f"JSON without a model: {error}" if "no machine" in str(error) else str(error)) from error


def is_result(found: dict[str, Any]) -> bool:
    """Return whether a JSON object is a result or a configuration of this project."""
    return {"kind", "schema"} <= found.keys() or {"dataset", "model", "training"} <= found.keys()


def _array(value: Any) -> Array | str | None:
    """Return a number or nested lists of numbers as an array, or a text as it is; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return (
            np.asarray(value, np.bool_ if isinstance(value, bool) else np.float64) if _is_number(value) else None
        )
    if not isinstance(value, list):
        return None
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_number(value: float) -> bool:
    """Return whether a JSON number fits float64; JSON integers have no limit."""
    return abs(value) < 1e300 and math.isfinite(value)
