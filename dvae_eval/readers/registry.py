"""Which reader a file needs: by its content, and by its name only where the content does not say."""

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
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of a number that PyTorch began files with


@dataclass(frozen=True, slots=True)
class Format:
    """A family of files.

    Attributes
    ----------
    title : str
        For people.
    suffixes : tuple of str
        Names that such files have, as a rule.
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
# What is recognised, but is no machine, and what to do about it.
REFUSED = {
    "pickle": "a pickle, which can run anything when it is loaded; save arrays with numpy.savez, or use skops",
    "npy": "one array; save W, b_left and b_right, or J and b, with numpy.savez",
    "idx": "images or labels, no model; give them to dvae-train",
    "amat": "images, no model; give them to dvae-train",
    "torch-old": (
        "a file of torch.save from before PyTorch 1.6, a pickle, which can run anything when it is loaded; this "
        "runs nothing and makes it readable: torch.save(torch.load('OLD', weights_only=True), 'NEW')"
    ),
    "zip": "an archive of no known kind; give an npz, a file of torch.save, or of skops",
    "gzip": "packed by gzip; unpack it first",
}


def read_machine(path: str | os.PathLike[str], config: ReadConfig | None = None) -> Reading:
    """Return the Boltzmann machine in a file, whoever made it.

    Parameters
    ----------
    path : str or path
        A model.pt of this project, or any of `FORMATS`, recognised by its content.
    config : ReadConfig, optional
        What the file leaves open.

    Raises
    ------
    DataError, CheckpointError
        If the file is missing, damaged, of no known format, or holds no machine.
    ConfigError
        If an option is given that the file answers itself, or an optional library is missing.
    """
    path, config = Path(path), config or ReadConfig()
    kind = recognise(path)
    if kind not in FORMATS:
        raise DataError(f"{path}: {REFUSED[kind]}")
    format = FORMATS[kind]
    # What is not finite is refused at the end: NumPy need not warn of it on the way.
    with named_errors(path), reading(path, format.title), check_unchanged(path) as digest:
        with np.errstate(all="ignore"):
            found = format.read(path, config)
    if config.clamp:
        found = with_clamped(found, Path(config.clamp))
    found.description.update(file=str(path), sha256=digest, constant=found.constant)
    return found


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Let a DataError within the block say which file it is about."""
    try:
        yield
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error


def recognise(path: str | os.PathLike[str]) -> str:
    """Return the format of a file: a key of `FORMATS`, or of what is recognised and refused.

    Raises
    ------
    DataError
        If it is missing, no regular file, empty, or of no known format.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: no regular file; give one")
    with reading(path, "model"):
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
        kind = _by_content(path, start) or _by_name(path)
    if kind is None:
        what = "empty" if not start else "of no format that can be read"
        raise DataError(f"{path}: {what}; give one of {', '.join(f.title for f in FORMATS.values())}")
    return kind


def _by_content(path: Path, start: bytes) -> str | None:
    """Return the format that a file's first bytes show, None if they show none."""
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
        raise DataError(f"{path}: damaged, or truncated: it begins as an archive and does not end as one")
    with open_archive(path) as archive:
        names = archive.namelist()
    if is_torch_archive(names):
        return "torch"
    if skops.SCHEMA in names:
        return "skops"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def _of_text(start: bytes) -> str | None:
    """Return the format of a text, None if it is none that is known."""
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
    """Return the format that a file's name promises; its reader will say what is wrong with it."""
    return next((kind for kind, format in FORMATS.items() if path.suffix.lower() in format.suffixes), None)
