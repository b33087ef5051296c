"""State dicts: named tensors of a model, or of a part of one, in a PyTorch or safetensors file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError

from .options import ReadConfig, Reading
from .tree import MAX_NAMES, Lazy, read_tree

# Groups of a checkpoint that contain the state dict, in order of preference.
NESTED = ("state_dict", "model_state_dict", "model", "params", "rbm", "net", "weights")
DEEPEST = 20


def read_tensors(tensors: Mapping[str, Any], config: ReadConfig, format: str) -> Reading:
    """Return the machine in a state dict, or in nested dicts: the single module that is a machine.

    Parameters
    ----------
    tensors : dict of tensors
        Under the names of modules with dots between them, or nested dicts.  Numbers and texts among them are used
        if they determine the units.
    """
    values: dict[str, Any] = {}
    for name, value in _leaves(tensors):
        if name in values:
            raise DataError(f"has two values named {name[:60]!r}; keep one of them")
        if len(values) >= MAX_NAMES:
            raise DataError(f"has more than {MAX_NAMES} values; save the machine alone")
        values[name] = value
    held = Lazy({name: name for name in values}, lambda name: _value(name, values[name]))

    def dtype(name: str) -> str:
        return str(getattr(values[name], "dtype", type(values[name]).__name__)).removeprefix("torch.")

    return read_tree(held, config, format, dtype=dtype, prefer=NESTED, always=False)


def _leaves(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield tensors, numbers and texts with their full names, visiting each dict once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any, int]] = [("", tensors, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if isinstance(value, Mapping):
            if id(value) not in seen and depth < DEEPEST:
                seen.add(id(value))
                waiting += [
                    (f"{prefix}.{key}".removeprefix("."), inner, depth + 1) for key, inner in value.items()
                ]
        elif isinstance(value, int | float | str) or hasattr(value, "untyped_storage"):
            yield prefix, value


def _value(name: str, value: Any) -> NDArray[Any] | str:
    """Return a tensor or a number as an array, or a text as it is; dtypes that NumPy lacks become float64."""
    if isinstance(value, str):
        return value
    if not hasattr(value, "untyped_storage"):
        try:
            return np.array(value, np.bool_ if isinstance(value, bool) else np.float64)
        except OverflowError as error:
            raise DataError(f"{name} is too large for float64; save a smaller number") from error
    import torch

    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise DataError(f"{name} is sparse, quantised or not on the CPU; save it with .to_dense().cpu()")
    tensor = value.detach()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    array: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    return array
