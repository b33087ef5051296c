"""Files of initial states: arrays of 0 and 1 or of -1 and +1, text of such values, or images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.data import NAMES, load
from dvae_core.data.bars import parse_size
from dvae_core.data.dataset import DataSet
from dvae_core.data.stable import bernoulli
from dvae_core.data.user import load_file, splits_of
from dvae_core.errors import DataError
from dvae_core.io.containers import check_size, npz_names, read_npy, read_npz, reading
from dvae_core.io.files import check_unchanged, to_utf8

from ..starts import MOST, Starts, binary_states, spread
from .names import SIDES, plain
from .text import read_text

# Endings of the names of states, after the side of their units: v_samples, hidden_states.
SUFFIXES = ("", "samples", "states", "chains", "units")
BLANKS = re.compile(r"[\s,;]+")
VALUES = {"0": 0, "1": 1, "+1": 1, "-1": -1}
ADVICE = "give states of 0 and 1 or of -1 and +1, one per row, or images"


def read_starts(source: str) -> Starts:
    """Return the states in a file, or a data set's training images as 0 and 1.

    Parameters
    ----------
    source : str
        An NPY file; an NPZ file with one array, with two sides such as `v` and `h`, or with images as for
        `dvae_core.data.load`; a text of rows of values; or the name of a data set.  Grey images are made binary,
        in the same way each time: a pixel is on with its value as probability.

    Raises
    ------
    DataError
        If there is no such file, or it contains neither states nor images.
    """
    path = Path(source)
    if not path.exists() and (source in NAMES or parse_size(source)):
        found = load(source, quiet=True)
        return Starts(few_images(found, MOST), {"data": source, "data_sha256": found.digest()})
    try:
        with reading(path, "states"), check_unchanged(path) as digest:
            states = _read(path)
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    return Starts(states, {"file": to_utf8(path), "sha256": digest})


def few_images(data_set: DataSet, most: int) -> NDArray[np.uint8]:
    """Return at most `most` training images, evenly spread, as vectors of 0 and 1; the same ones each time."""
    images = spread(data_set.train.images, most)
    values = images.reshape(len(images), -1)
    return values if data_set.levels == 1 else bernoulli("starts", values, data_set.levels)


def _read(path: Path) -> NDArray[np.uint8]:
    """Return the states in a file, whose format its first bytes determine."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"\x93NUMPY"):
        return _states_or_images(path, read_npy(path))
    if start.startswith(b"PK"):
        return _of_archive(path)
    return binary_states(_of_text(path))


def _of_archive(path: Path) -> NDArray[np.uint8]:
    """Return the states of an NPZ file."""
    names = npz_names(path)
    if any(split == "train" and not is_label for split, is_label in splits_of(names).values()):
        return few_images(load_file(path), MOST)
    if len(names) == 1:
        return _states_or_images(path, read_npz(path, names)[names[0]])
    return states_of_sides(path, names)


def states_of_sides(path: Path, names: list[str]) -> NDArray[np.uint8]:
    """Return the states in two arrays of an NPZ file, left units first; DataError if there are no two sides."""
    left, right = (_of_side(side, names) for side in ("left", "right"))
    if len(left) != 1 or len(right) != 1:
        held = to_utf8(", ".join(names))[:60] or "no arrays"
        raise DataError(f"{path}: contains {held}; save one array of states, or two named v and h, or train")
    arrays = read_npz(path, [left[0], right[0]])
    sides = [binary_states(arrays[name]) for name in (left[0], right[0])]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{path}: has {len(sides[0])} states of {left[0]} and {len(sides[1])} of {right[0]}; save equally many"
        )
    return np.concatenate(sides, axis=1)


def _of_side(side: str, names: Iterable[str]) -> list[str]:
    """Return the names that mean states of one side."""
    known = {word + suffix for word in SIDES[side] for suffix in SUFFIXES}
    return [name for name in names if plain(name) in known]


def _states_or_images(path: Path, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the states in an array that has two values, or the binary versions of its grey images."""
    if array.ndim > 1 and array.size:
        flat = array.reshape(len(array), -1)
        if bool((np.abs(flat) <= 1).all()) and bool((flat == np.round(flat)).all()):
            return binary_states(flat)
        return few_images(_images(path), MOST)
    return binary_states(array)


def _images(path: Path) -> DataSet:
    """Return the images of a file that contains no states; DataError if it contains no images, either."""
    try:
        return load_file(path)
    except DataError as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise DataError(f"{path}: has no states of 0 and 1 or of -1 and +1, and no images: {reason}") from error


def _of_text(path: Path) -> NDArray[np.int8]:
    """Return the values in a text, one row per line, separated by spaces, commas or semicolons."""
    check_size(path.stat().st_size, str(path))
    lines = [line.partition("#")[0].strip() for line in read_text(path).splitlines()]
    rows = [BLANKS.split(line) for line in lines if line]
    for number, row in enumerate(rows, 1):
        if (wrong := next((word for word in row if word not in VALUES), None)) is not None:
            raise DataError(f"row {number} has {wrong[:20]!r}, which is not a state of a unit; {ADVICE}")
        if len(row) != len(rows[0]):
            raise DataError(f"row {number} has {len(row)} values, but the first row has {len(rows[0])}; {ADVICE}")
    if not rows:
        raise DataError(f"is empty; {ADVICE}")
    return np.array([[VALUES[word] for word in row] for row in rows], np.int8)
