"""HDF5 files: archives of the rbms package, MATLAB files of version 7.3, and named arrays of others.

Only data that lie in the file itself are read: links into other files, virtual and external data are refused, and
so are filters other than those that come with the library.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import check_count, check_size

from .arrays import KNOWN, Array, read_arrays
from .extras import needs
from .options import ReadConfig, Reading
from .sparse import Coordinates, each_once, from_compressed

if TYPE_CHECKING:
    import h5py

__all__ = ["read"]

UPDATE = re.compile(r"update_([0-9]{1,12})")
FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf
BERNOULLI = "BBRBM"
MAX_NAMES = 100_000


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of an HDF5 file."""
    with needs("h5py", path):
        import h5py
    with h5py.File(path, "r", locking=False) as file:
        if len(file) > MAX_NAMES:
            raise DataError(f"holds {len(file)} names; give a file with fewer")
        updates = {int(found[1]): name for name in file if (found := UPDATE.fullmatch(name))}
        if updates:
            return _archive(file, updates, config)
        return _arrays(file, config)


def _archive(file: h5py.File, updates: dict[int, str], config: ReadConfig) -> Reading:
    """Return the machine of an archive of the rbms package, at one of its updates."""
    number = config.update or max(updates)
    if number not in updates:
        some = ", ".join(map(str, sorted(updates)[-5:]))
        raise DataError(f"--update: has no update {number}; the last ones are {some}")
    kind = BERNOULLI
    config.reject_unused("the rbms package", "update")
    if _is_inside(file, "model_type"):
        kind = _text(file, "model_type")
    if kind != BERNOULLI:
        raise DataError(f"is an archive of type {kind[:40]!r}; only {BERNOULLI}, with units 0 and 1, can be read")
    group = _group(file, updates[number])
    # Archives of old versions have the parameters in the update itself.
    group = _group(group, "params") if _is_inside(group, "params") else group
    arrays = {name: _dataset(group, name) for name in ("weight_matrix", "vbias", "hbias")}
    reading = read_arrays(arrays, ReadConfig(), "rbms archive")
    reading.description["update"] = number
    return reading


def _arrays(file: h5py.File, config: ReadConfig) -> Reading:
    """Return the machine of arrays that lie in the root; MATLAB's have their axes reversed."""
    names = [name for name in sorted(KNOWN) if _is_inside(file, name)]
    is_matlab = any("MATLAB_class" in file[name].attrs for name in names)
    arrays: dict[str, Array] = {}
    for name in names:
        if is_matlab and "MATLAB_sparse" in file[name].attrs:
            arrays[name] = _sparse(name, _group(file, name))
        else:
            arrays[name] = _dataset(file, name).T if is_matlab else _dataset(file, name)
    return read_arrays(arrays, config, "MATLAB 7.3" if is_matlab else "HDF5")


def _sparse(name: str, group: h5py.Group) -> Coordinates:
    """Return a sparse matrix as MATLAB 7.3 stores it, column by column."""
    start = _dataset(group, "jc").ravel()
    row = _dataset(group, "ir").ravel() if _is_inside(group, "ir") else np.empty(0, np.int64)
    value = _dataset(group, "data").ravel() if _is_inside(group, "data") else np.empty(0)
    shape = int(group.attrs["MATLAB_sparse"]), len(start) - 1
    return each_once(name, from_compressed(name, shape, start, row, value))


def _is_inside(group: h5py.Group, name: str) -> bool:
    """Say whether what goes by `name` lies in this very file."""
    import h5py

    links, key = group.id.links, name.encode("utf-8", "surrogateescape")
    # `name in group` would follow a link into another file.
    return bool(links.exists(key)) and links.get_info(key).type == h5py.h5l.TYPE_HARD


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group within the file."""
    import h5py

    if not _is_inside(parent, name) or not isinstance(parent[name], h5py.Group):
        raise DataError(f"{name!r} is no group in this file")
    return parent[name]


def _dataset(parent: h5py.Group, name: str) -> NDArray[Any]:
    """Return an array of numbers within the file, its size checked before it is read."""
    import h5py

    if not _is_inside(parent, name) or not isinstance(parent[name], h5py.Dataset):
        raise DataError(f'holds no array "{name}"')
    data = parent[name]
    if data.dtype.kind not in "buifc" or data.dtype.shape or data.shape is None:
        raise DataError(f"{name!r} holds values of type {data.dtype}; give an array of numbers")
    settings = data.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if data.is_virtual or data.external or filters - FILTERS:
        raise DataError(f"{name!r} lies in another file, or is packed in an unusual way; save it plainly")
    check_size(math.prod(data.shape) * data.dtype.itemsize, name)
    check_count(math.prod(data.shape), name)
    if data.chunks:
        check_size(math.prod(data.chunks) * data.dtype.itemsize, name)
    values: NDArray[Any] = data[()]
    return values


def _text(file: h5py.File, name: str) -> str:
    """Return a short text within the file."""
    import h5py

    if not _is_inside(file, name) or not isinstance(file[name], h5py.Dataset) or file[name].shape != ():
        raise DataError(f"{name!r} is no text in this file")
    value = file[name][()]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
