"""A strict reader of the files that `torch.save` writes: plain data and tensors, and nothing that could run.

`torch.load(weights_only=True)` is kept from what a hostile file could still do to it: entries that are packed (a
bomb), views that are larger than what they look at, the format of before 2020, and bits that have flipped, which
PyTorch does not look for.
"""

from __future__ import annotations

import copy
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .containers import open_archive, reading
from .files import utf8_path

PICKLE_BYTES = 1 << 24  # a thousand tensors take a hundredth of it


def is_torch_archive(names: list[str]) -> bool:
    """Say whether a ZIP archive with entries of these names is one that `torch.save` wrote."""
    return any(name.endswith("/data.pkl") for name in names)


def read_torch(path: Path) -> Any:
    """Return what a file that `torch.save` wrote holds, its tensors on the CPU.

    Raises
    ------
    DataError
        If the file is missing, damaged, of PyTorch's old format, or holds anything but plain data.
    """
    import torch

    with reading(path, "PyTorch"):
        _check(path)
        try:
            # Mapped, a tensor cannot claim more than the file has; a copy outlives the file.
            with utf8_path(path) as name:
                content = torch.load(name, map_location="cpu", weights_only=True, mmap=True)
            n_bytes = path.stat().st_size
            for tensor in _tensors(content):
                if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
                    raise DataError(f"{path}: holds a tensor that is sparse, quantised or empty of data")
                if tensor.numel() * tensor.element_size() > n_bytes:
                    raise DataError(f"{path}: holds a tensor of {tuple(tensor.shape)} in {n_bytes} bytes")
            return copy.deepcopy(content)
        except DataError:
            raise
        except Exception as error:  # damaged and hostile pickles raise whatever they please
            # PyTorch's own words advise to load it all the same.
            raise DataError(f"{path}: {_problem(str(error))}") from error


def _problem(error: str) -> str:
    """Return what is wrong with a file that PyTorch did not take, and what to do, in one line."""
    found = re.search(r"GLOBAL ([\w.]{1,80})", error)
    if found and found[1].startswith(("numpy.", "_codecs.")):
        return (
            "holds NumPy arrays, and so more than tensors and plain values; save them with numpy.savez, or "
            "as tensors: torch.from_numpy"
        )
    what = (
        f"holds more than tensors and plain values ({found[1]})"
        if found
        else "holds more than tensors and plain values"
    )
    return f"damaged, or {what}; of a model, save its state_dict()"


def _check(path: Path) -> None:
    """Refuse an archive that PyTorch would not have written, or whose checksums do not fit."""
    with open_archive(path) as archive:
        if not is_torch_archive(archive.namelist()):
            raise DataError(f"{path}: an archive, but none that torch.save wrote")
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise DataError(f"{path}: has a packed entry, which torch.save does not write")
            if entry.filename.endswith("/data.pkl") and entry.file_size > PICKLE_BYTES:
                raise DataError(f"{path}: describes its tensors in {entry.file_size} bytes, which is absurd")
        if (damaged := archive.testzip()) is not None:
            raise DataError(f"{path}: damaged: the checksum of {damaged[:60]!r} does not fit")


def _tensors(content: Any) -> Iterator[Any]:
    """Yield the tensors in nested plain data, each once: what is there a billion times is there once."""
    import torch

    seen: dict[int, Any] = {}
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
