"""A strict reader of files that `torch.save` wrote: plain data and tensors only, and no code.

In addition to `torch.load(weights_only=True)` it refuses compressed entries (a decompression bomb), views that are
larger than their storage, the format from before 2020, and flipped bits, for which PyTorch does not check.
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

PICKLE_BYTES = 1 << 24  # a thousand tensors take a hundredth of this


def is_torch_archive(names: list[str]) -> bool:
    """Return whether the names of a ZIP archive's entries are those of a file that `torch.save` wrote."""
    return any(name.endswith("/data.pkl") for name in names)


def read_torch(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote, with its tensors on the CPU.

    Raises
    ------
    DataError
        If the file is missing, damaged, of PyTorch's old format, or holds anything but plain data.
    """
    import torch

    with reading(path, "PyTorch"):
        _check(path)
        try:
            # With mmap a tensor cannot exceed the file; the deep copy does not depend on the file.
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
        except Exception as error:  # damaged and hostile pickles may raise any exception
            # PyTorch's own message recommends to load the file without protection.
            raise DataError(f"{path}: {_problem(str(error))}") from error


def _problem(error: str) -> str:
    """Return the fault of a file that PyTorch refused, and the remedy, in one line."""
    found = re.search(r"GLOBAL ([\w.]{1,80})", error)
    if found and found[1].startswith(("numpy.", "_codecs.")):
        return (
            "holds NumPy arrays, not only tensors and plain values; save them with numpy.savez, or "
            "as tensors: torch.from_numpy"
        )
    what = (
        f"holds more than tensors and plain values ({found[1]})"
        if found
        else "holds more than tensors and plain values"
    )
    return f"damaged, or {what}; save the state_dict() of a model"


def _check(path: Path) -> None:
    """Raise DataError for an archive that `torch.save` does not write, or with a wrong checksum."""
    with open_archive(path) as archive:
        if not is_torch_archive(archive.namelist()):
            raise DataError(f"{path}: an archive, but not one that torch.save wrote")
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise DataError(f"{path}: has a compressed entry, which torch.save does not write")
            if entry.filename.endswith("/data.pkl") and entry.file_size > PICKLE_BYTES:
                raise DataError(
                    f"{path}: the description of its tensors takes {entry.file_size} bytes, which is too much"
                )
        if (damaged := archive.testzip()) is not None:
            raise DataError(f"{path}: damaged: the checksum of {damaged[:60]!r} is wrong")


def _tensors(content: Any) -> Iterator[Any]:
    """Yield each tensor in nested plain data once, however often it is referenced."""
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
