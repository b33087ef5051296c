"""Public data sets: how they are found in the data folder, downloaded, read and verified.

Each is read from its original files or from one NPZ file with the same pixels.  In both cases the decoded pixels
must have the SHA-256 of the data set.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io.containers import hint, read_npz
from .dataset import DataSet, Split
from .fetch import VARIABLE, Remote, data_folder, fetch

Bytes = NDArray[np.uint8]
SIDE = 28
GREY = 255
REMEDY = f"delete the file to download it again, or set {VARIABLE} to a folder with an intact copy"


@dataclass(frozen=True, slots=True)
class Public:
    """A data set with its two containers: the original files and one NPZ file of our own layout.

    `read_raw` takes the paths of the original files, in the order of `remotes`; both readers raise DataError
    unless they decode exactly the data set.
    """

    remotes: tuple[Remote, ...]
    read_raw: Callable[[Sequence[Path]], DataSet]
    packed: str
    read_packed: Callable[[Path], DataSet]


def load_public(public: Public, *, quiet: bool = False) -> DataSet:
    """Return the data set; files that the data folder lacks are downloaded.

    Raises
    ------
    DataError
        A file is damaged, or is missing and cannot be downloaded.
    """
    folder = data_folder()
    packed, found = folder / public.packed, locate(public, folder)
    if None in found and packed.is_file():
        with hint(REMEDY):
            return public.read_packed(packed)
    paths = [
        path or fetch(remote, folder, quiet=quiet) for path, remote in zip(found, public.remotes, strict=True)
    ]
    with hint(REMEDY):
        return public.read_raw(paths)


def locate(public: Public, folder: Path) -> list[Path | None]:
    """Return the paths of the original files in `folder`, unpacked or gzipped, None for missing files."""
    stems = [remote.name.removesuffix(".gz") for remote in public.remotes]
    candidates = [(folder / stem, folder / f"{stem}.gz") for stem in stems]
    return [next((path for path in pair if path.is_file()), None) for pair in candidates]


def verified(array: NDArray[Any], expected: str, where: str) -> Bytes:
    """Return `array` if it is uint8 and its SHA-256, in C order, is `expected`; else DataError."""
    if array.dtype != np.uint8:
        raise DataError(f"{where}: holds {array.dtype}, expected uint8")
    found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    if found != expected:
        raise DataError(f"{where}: damaged or altered: the pixels' sha256 is {found}, expected {expected}")
    return array


def read_packed(path: Path, names: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, Bytes]:
    """Return the arrays of an NPZ file by our own keys; `names` are their names in the file."""
    arrays = read_npz(path, names.values())
    return {key: verified(arrays[name], digests[key], f'{path}, array "{name}"') for key, name in names.items()}


def read_mat(remote: Remote, path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a MATLAB file, in their stored type.

    The file must equal `remote` in every bit, because `loadmat` trusts the headers of a file.
    """
    from scipy.io import loadmat

    arrays: dict[str, NDArray[Any]] = loadmat(io.BytesIO(remote.read(path)), variable_names=list(names))
    return arrays


def square_split(images: Bytes, labels: Bytes | None = None) -> Split:
    """Return a split of square images."""
    return Split(images.reshape(-1, SIDE, SIDE), None if labels is None else labels.astype(np.int64).ravel())


def upright(rows: NDArray[Any]) -> NDArray[Any]:
    """Return images (n, 28, 28) from vectors (n, 784) in MATLAB's order, which is column by column."""
    return np.ascontiguousarray(rows.reshape(-1, SIDE, SIDE).transpose(0, 2, 1))
