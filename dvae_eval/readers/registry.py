"""The choice of a file's reader: by its content, and by its name only if the content does not determine it."""

from __future__ import annotations

import codecs
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from dvae_core.errors import DataError
from dvae_core.io.containers import open_archive, reading
from dvae_core.io.files import check_unchanged
from dvae_core.io.torch_files import is_torch_archive

from . import dimod, matlab4, matlab5, skops, uai
from .clamping import with_clamped
from .options import ReadConfig, Reading
from .text import decode

START_BYTES = 4096
AMAT = re.compile(r"[01]( [01]){3,} ?(\n|$)")
HDF5 = b"\x89HDF\r\n\x1a\n"
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number at the start of old PyTorch files


@dataclass(frozen=True, slots=True)
class Format:
    """A family of formats.

    Attributes
    ----------
    title : str
        Name for messages.
    suffixes : tuple of str
        Usual suffixes of such files.
    reader : str
        Module and function in this package.
    """

    title: str
    suffixes: tuple[str, ...]
    reader: str

    def read(self, path: Path, config: ReadConfig) -> Reading:
        """Return the machine of a file of this family."""
        module, _, function = self.reader.partition(":")
        read: Callable[[Path, ReadConfig], Reading] = getattr(import_module(f".{module}", __package__), function)
        return read(path, config)


FORMATS = {
    "npz": Format("NumPy npz", (".npz",), "npz:read"),
    "torch": Format("PyTorch", (".pt", ".pth", ".ckpt", ".bin"), "torch_file:read"),
    "safetensors": Format("safetensors", (".safetensors",), "safetensors:read"),
    "hdf5": Format("HDF5", (".h5", ".hdf5", ".mat"), "hdf5:read"),
    "mat": Format("MATLAB", (".mat",), "matlab5:read"),
    "skops": Format("skops", (".skops",), "skops:read"),
    "bqm": Format("dimod BQM", (".bqm",), "dimod:read_bqm"),
    "coo": Format("dimod COO", (".coo",), "dimod:read_coo"),
    "uai": Format("UAI", (".uai",), "uai:read"),
    "mat4": Format("MATLAB 4", (), "matlab4:read"),
    "json": Format("JSON", (".json",), "json_file:read"),
}
# Formats that are recognised but refused, with what to do.
REFUSED = {
    "pickle": "a pickle, which can run anything when it is loaded; save arrays with numpy.savez, or use skops",
    "npy": "a single array; save W, b_left and b_right, or J and b, with numpy.savez",
    "idx": "images or labels, not a model; use them with dvae-train",
    "amat": "images, not a model; use them with dvae-train",
    "torch-old": (
        "a pickle of torch.save from before PyTorch 1.6, which can run anything when it is loaded; convert it "
        "safely with torch.save(torch.load('OLD', weights_only=True), 'NEW')"
    ),
    "zip": "an archive of unknown kind; give an NPZ file, or a file of torch.save or skops",
    "gzip": "packed by gzip; unpack it first",
}


def read_machine(path: str | os.PathLike[str], config: ReadConfig | None = None) -> Reading:
    """Return the Boltzmann machine in a file of any known format.

    Parameters
    ----------
    path : str or path
        A model.pt of this project, or a file of any of `FORMATS`, recognised by its content.
    config : ReadConfig, optional
        Options for what the file does not determine.

    Returns
    -------
    Reading
        The machine over {0,1}, the constant to add to its log Z, and the description of the file.

    Raises
    ------
    DataError, CheckpointError
        If the file is missing, damaged, of no known format, or contains no machine.
    ConfigError
        If an option contradicts the format, or an optional library is missing.
    """
    path, config = Path(path), config or ReadConfig()
    kind = recognise(path)
    if kind not in FORMATS:
        raise DataError(f"{path}: {REFUSED[kind]}")
    format = FORMATS[kind]
    # Values that are not finite are refused at the end, so that NumPy's warnings are not needed.
    with named_errors(path), reading(path, format.title), check_unchanged(path) as digest:
        with np.errstate(all="ignore"):
            found = format.read(path, config)
    if config.clamp:
        found = with_clamped(found, Path(config.clamp))
    found.description.update(file=str(path), sha256=digest, constant=found.constant)
    return found


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Prefix a DataError raised within the block with the name of the file."""
    try:
        yield
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error


def recognise(path: str | os.PathLike[str]) -> str:
    """Return the format of a file: a key of `FORMATS` or of `REFUSED`.

    Raises
    ------
    DataError
        If it is missing, not a regular file, empty, or of no known format.
    """
    path = Path(path)
    if not path.is_file():
        problem = "no such file; check the path" if not path.exists() else "not a regular file; give a file"
        raise DataError(f"{path}: {problem}")
    with reading(path, "model"):
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
        kind = _by_content(path, start) or _by_name(path)
    if kind is None:
        what = "empty" if not start else "of no known format"
        raise DataError(f"{path}: {what}; give one of {', '.join(f.title for f in FORMATS.values())}")
    return kind


def _by_content(path: Path, start: bytes) -> str | None:
    """Return the format that the first bytes of a file determine; None if they determine none."""
    if start.startswith(b"PK"):
        return _of_archive(path)
    if start.startswith(HDF5) or start[512:].startswith(HDF5):
        return "hdf5"
    if matlab5.is_mat(start):
        return "mat"
    for magic, kind in ((dimod.MAGIC, "bqm"), (b"\x93NUMPY", "npy"), (b"\x1f\x8b", "gzip")):
        if start.startswith(magic):
            return kind
    if start[:3] == b"\0\0\x08" and start[3:4] in b"\1\2\3\4":
        return "idx"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        return "safetensors"
    if start.startswith(OLD_TORCH):
        return "torch-old"
    if matlab4.is_mat(start):
        return "mat4"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "pickle"
    return _of_text(start)


def _of_archive(path: Path) -> str:
    """Return the format of a ZIP archive."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: damaged or truncated: it begins like an archive, but has no end; save it again")
    with open_archive(path) as archive:
        names = archive.namelist()
    if is_torch_archive(names):
        return "torch"
    if skops.SCHEMA in names:
        return "skops"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def _of_text(start: bytes) -> str | None:
    """Return the format of a text; None if it is unknown."""
    if b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    text = decode(start).lstrip()
    first = next(
        (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "//"))), ""
    )
    if first.strip().upper().startswith(uai.KINDS):
        return "uai"
    if text.startswith("{"):
        return "json"
    if AMAT.match(text):
        return "amat"
    return "coo" if dimod.is_coo(text) else None


def _by_name(path: Path) -> str | None:
    """Return the format of a file's suffix; its reader then reports what is wrong with the content."""
    return next((kind for kind, format in FORMATS.items() if path.suffix.lower() in format.suffixes), None)
