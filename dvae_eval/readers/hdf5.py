"""HDF5 files: archives of the rbms package and of CaloQuVAE, MATLAB files of version 7.3, and other named arrays.

Only data in the file itself are read: links into other files, virtual and external data, and filters that do not
come with the library are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import check_count, check_size
from dvae_core.io.files import utf8_path

from . import heaps
from .arrays import Array
from .extras import needs
from .names import role
from .options import ReadConfig, Reading
from .sparse import Coordinates, each_once, from_compressed
from .tree import MAX_NAMES, Lazy, read_tree

if TYPE_CHECKING:
    import h5py

UPDATE = re.compile(r"(update|epoch)_([0-9]{1,12})")
FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf
UNITS_OF = {"BBRBM": "01", "IIRBM": "pm1"}
KINDS = {
    "PBRBM": "Potts units",
    "BGRBM": "Gaussian hidden units",
    "IGRBM": "Gaussian hidden units",
    "BBCRBM": "units that depend on a condition",
}
DEEPEST = 8
LONGEST_TEXT = 1000


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of an HDF5 file."""
    with _opened(path) as file:
        kind, updates = _updates(file)
        return _archive(file, kind, updates, config) if updates else _tree(file, config)


def read_updates(path: Path, config: ReadConfig) -> list[Reading]:
    """Return the machines of an archive at all its updates or epochs, up to the requested one, in order.

    The list is empty for a file that is no archive.
    """
    with _opened(path) as file:
        kind, updates = _updates(file)
        last = config.update or (_last(file, updates) if updates else 0)
        return [_at(file, kind, updates[n], n, config) for n in sorted(updates) if n <= last]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Yield an open HDF5 file, after checks that it can be read."""
    with needs("h5py", path):
        import h5py
    # Before the library opens the file, because attributes may be strings, too.
    with path.open("rb") as stream:
        if not heaps.are_sound(stream):
            raise DataError("damaged: its string storage is invalid; save it again")
    with utf8_path(path) as name, h5py.File(name, "r", locking=False) as file:
        if len(file) > MAX_NAMES:
            raise DataError(f"has {len(file)} names; give a file with fewer")
        yield file


def _updates(file: h5py.File) -> tuple[str, dict[int, str]]:
    """Return an archive's word for its updates, and their names by number; empty if the file is no archive."""
    for kind in ("update", "epoch"):
        found = (UPDATE.fullmatch(name) for name in file)
        if updates := {int(match[2]): match[0] for match in found if match and match[1] == kind}:
            return kind, updates
    return "", {}


def _archive(file: h5py.File, word: str, updates: dict[int, str], config: ReadConfig) -> Reading:
    """Return the machine of an archive of the rbms package or of CaloQuVAE at the requested update or epoch."""
    number = config.update or _last(file, updates)
    if number not in updates:
        some = ", ".join(map(str, sorted(updates)[-5:]))
        raise DataError(f"--update: there is no {word} {number}; give another, the last are {some}")
    return _at(file, word, updates[number], number, config)


def _at(file: h5py.File, word: str, name: str, number: int, config: ReadConfig) -> Reading:
    """Return the machine of an archive at the update or epoch with this name and number."""
    is_rbms = word == "update"
    config.reject_unused("the rbms package" if is_rbms else "CaloQuVAE", "update")
    kind = "BBRBM"
    if is_rbms and _is_inside(file, "model_type"):
        kind = _text(file, "model_type")
    if kind not in UNITS_OF:
        what = f", with {KINDS[kind]}" if kind in KINDS else ""
        raise DataError(
            f"has the type {kind[:40]!r}{what}; give an archive of {' or '.join(UNITS_OF)}, with units 0 and 1 or "
            "-1 and +1"
        )
    group = _group(file, name)
    # Archives of old versions have the parameters directly in the update.
    group = _group(group, "params") if _is_inside(group, "params") else group
    names = {key: key for key in group if _is_inside(group, key) and not _is_group(group, key)}
    format = "rbms archive" if is_rbms else "CaloQuVAE checkpoint"
    held = Lazy(names, partial(_value, group))
    reading = read_tree(held, ReadConfig(), format, declared=UNITS_OF[kind])
    reading.description["update"] = number
    return reading


def _last(file: h5py.File, updates: dict[int, str]) -> int:
    """Return the last update: that of the attribute `last_epoch` if there is one, else the largest number."""
    said = file.attrs.get("last_epoch")
    is_number = isinstance(said, np.integer | int) and int(said) in updates
    return int(said) if is_number else max(updates)


def _tree(file: h5py.File, config: ReadConfig) -> Reading:
    """Return the machine of arrays in the root or in a group; MATLAB stores them with their axes reversed."""
    names = _names(file)
    is_matlab = any("MATLAB_class" in file[name].attrs for name in file if _is_inside(file, name))
    said = _attributes(file)
    names |= {name: f"\0{name}" for name in said if name not in names}

    def load(name: str) -> Array | str:
        return said[name[1:]] if name.startswith("\0") else _value(file, name)

    return read_tree(Lazy(names, load), config, "MATLAB 7.3" if is_matlab else "HDF5")


def _names(file: h5py.File) -> dict[str, str]:
    """Return the full names of all arrays in the file, visiting each group once."""
    import h5py

    names: dict[str, str] = {}
    waiting: list[tuple[str, Any, int]] = [("", file, 0)]
    seen: set[Any] = set()
    while waiting:
        prefix, group, depth = waiting.pop()
        if (place := h5py.h5o.get_info(group.id).addr) in seen or depth > DEEPEST:
            continue
        seen.add(place)
        for name in group:
            if not _is_inside(group, name) or name.startswith("#refs#"):
                continue
            full = f"{prefix}/{name}".removeprefix("/")
            item = group[name]
            if isinstance(item, h5py.Group) and "MATLAB_sparse" not in item.attrs:
                waiting.append((full, item, depth + 1))
            elif isinstance(item, h5py.Group | h5py.Dataset):
                names[full] = full
            if len(names) + len(waiting) > MAX_NAMES:
                raise DataError(f"has more than {MAX_NAMES} names; give a file with fewer")
    return names


def _attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes of the root that may determine the units or a temperature."""
    found: dict[str, Any] = {}
    for name in list(file.attrs)[:1000]:
        if role(name) in ("kind", "temperature"):
            value = file.attrs[name]
            if isinstance(value, str | bytes):
                found[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            elif isinstance(value, np.number) and not np.iscomplexobj(value):
                found[name] = np.asarray(value)
    return found


def _value(parent: h5py.Group, name: str) -> Array | str:
    """Return an array, a sparse MATLAB matrix, or a text."""
    import h5py

    item = parent[name]
    kind = item.attrs.get("MATLAB_class", b"")
    if isinstance(item, h5py.Group):
        return _sparse(name, item)
    if kind == b"char":
        letters = _dataset(parent, name).ravel()[:LONGEST_TEXT]
        return "".join(chr(int(letter)) for letter in letters if 0 < letter < 0x110000)
    if item.shape == () and (h5py.check_string_dtype(item.dtype) or item.dtype.kind == "S"):
        return _text(parent, name)
    array = _dataset(parent, name)
    return array.T if kind else array


def _sparse(name: str, group: h5py.Group) -> Coordinates:
    """Return a sparse matrix of MATLAB 7.3, which is stored column by column."""
    start = _dataset(group, "jc").ravel()
    row = _dataset(group, "ir").ravel() if _is_inside(group, "ir") else np.empty(0, np.int64)
    value = _dataset(group, "data").ravel() if _is_inside(group, "data") else np.empty(0)
    shape = int(group.attrs["MATLAB_sparse"]), len(start) - 1
    return each_once(name, from_compressed(name, shape, start, row, value))


def _is_inside(group: h5py.Group, name: str) -> bool:
    """Return whether the object `name`, with slashes between groups, is stored in this file itself."""
    import h5py

    first, _, rest = name.partition("/")
    links, key = group.id.links, first.encode("utf-8", "surrogateescape")
    # `name in group` would follow a link into another file.
    if not links.exists(key) or links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return False
    return not rest or (isinstance(group[first], h5py.Group) and _is_inside(group[first], rest))


def _is_group(parent: h5py.Group, name: str) -> bool:
    """Return whether an object of the file is a group."""
    import h5py

    return isinstance(parent[name], h5py.Group)


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group of the file; DataError if there is none."""
    if not _is_inside(parent, name) or not _is_group(parent, name):
        raise DataError(f"{name!r} is not a group in this file; save it again")
    return parent[name]


def _dataset(parent: h5py.Group, name: str) -> NDArray[Any]:
    """Return an array of numbers of the file, after a check of its size."""
    import h5py

    if not _is_inside(parent, name) or not isinstance(parent[name], h5py.Dataset):
        raise DataError(f'has no array "{name}"; save it again')
    data = parent[name]
    if data.dtype.kind not in "buifc" or data.dtype.shape or data.shape is None:
        raise DataError(f"{name!r} has values of type {data.dtype}; save an array of numbers")
    _check_plain(data, name)
    values: NDArray[Any] = data[()]
    return values


def _check_plain(data: h5py.Dataset, name: str) -> None:
    """Raise DataError for data in another file, with an unusual filter, or of a size that is too large."""
    settings = data.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if data.is_virtual or data.external or filters - FILTERS:
        raise DataError(f"{name!r} is stored in another file, or with an unusual filter; save it without them")
    check_size(math.prod(data.shape) * data.dtype.itemsize, name)
    check_count(math.prod(data.shape), name)
    if data.chunks:
        check_size(math.prod(data.chunks) * data.dtype.itemsize, name)


def _text(file: h5py.Group, name: str) -> str:
    """Return a text of the file, shortened if it is long."""
    import h5py

    if not _is_inside(file, name) or not isinstance(file[name], h5py.Dataset) or file[name].shape != ():
        raise DataError(f"{name!r} is not a text in this file; save it again")
    _check_plain(file[name], name)
    value = file[name][()]
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))[:LONGEST_TEXT]
