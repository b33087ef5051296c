"""Data sets from a user's own NPY or NPZ file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io.containers import hint, npz_names, read_npy, read_npz
from ..types import Index
from . import stable
from .dataset import SPLITS, DataSet, Split, SplitName

__all__ = ["from_arrays", "load_file"]

Arrays = dict[SplitName, NDArray[Any]]
Aliases = Mapping[SplitName, tuple[str, ...]]

IMAGE_NAMES: Aliases = {split: (split, f"x_{split}", f"{split}_images") for split in SPLITS}
LABEL_NAMES: Aliases = {split: (f"{split}_labels", f"y_{split}") for split in SPLITS}
REMEDY = "check the path, and save the images with numpy.savez(path, train=..., test=...)"
GREY = 255
DARKEST_GREY = 128  # integers that never reach half of 255 are on another scale


def load_file(path: Path) -> DataSet:
    """Return the data set in an NPY file, or in an NPZ file with `train` and optionally `valid` and `test`.

    Also understood are `x_train` or `train_images` (likewise for the other splits) and the labels
    `train_labels` or `y_train`. What is missing is split off by fixed rules, see `from_arrays`.
    """
    with hint(REMEDY):
        arrays = _read(path)
    images, labels = _choose(path, arrays, IMAGE_NAMES), _choose(path, arrays, LABEL_NAMES)
    return from_arrays(str(path), images, labels)


def from_arrays(name: str, images: Arrays, labels: Arrays | None = None) -> DataSet:
    """Return a data set of arrays: `train`, and optionally `valid` and `test`.

    Parameters
    ----------
    name : str
        Stands at the head of error messages.
    images : dict of arrays, shape (n, height, width) or (n, d)
        Booleans, integers 0 and 1 or 0..255, or floats in [0, 1], the same kind in each. Vectors become
        squares if d is a square, else images one pixel high. Floats between 0 and 1 are rounded to 1/255.
    labels : dict of arrays of integers, shape (n,), optional

    Returns
    -------
    DataSet
        Static if all values are 0 or 1, else dynamic. A missing `valid` is split off `train` after a fixed
        shuffle, a tenth of it; if `test` is missing as well, each gets a tenth.

    Raises
    ------
    DataError
        The arrays are not of that form.
    """
    labels = labels or {}
    if "train" not in images or not set(labels) <= set(images) <= set(SPLITS):
        held = ", ".join([*images, *(f"labels of {split}" for split in labels)]) or "nothing that is known"
        raise DataError(f"{name}: holds {held}; give train, and perhaps valid and test, labels only beside images")
    shaped = {split: _as_images(array, f'{name}, split "{split}"') for split, array in images.items()}
    _check_alike(name, shaped)
    levels = 1 if all(_is_binary(array) for array in shaped.values()) else GREY
    splits = {
        split: Split(
            _as_bytes(array, levels, f'{name}, split "{split}"'),
            _as_labels(labels.get(split), len(array), f'{name}, labels of "{split}"'),
        )
        for split, array in shaped.items()
    }
    how = _complete(name, splits)
    return DataSet(name, splits["train"], splits["valid"], splits["test"], levels, f"The user's own file. {how}")


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that have a name we know, or its only one as "train"."""
    if path.suffix == ".npy":
        return {"train": read_npy(path)}
    names = npz_names(path)
    known = {name for aliases in (IMAGE_NAMES, LABEL_NAMES) for group in aliases.values() for name in group}
    if len(names) == 1 and not known.intersection(names):
        return {"train": read_npz(path, names)[names[0]]}
    return read_npz(path, known.intersection(names))


def _choose(path: Path, arrays: Mapping[str, NDArray[Any]], aliases: Aliases) -> Arrays:
    """Return the arrays by split; DataError if one goes by two names."""
    chosen: Arrays = {}
    for split, names in aliases.items():
        found = [name for name in names if name in arrays]
        if len(found) > 1:
            raise DataError(f"{path}: holds both {' and '.join(found)}; keep one of them")
        if found:
            chosen[split] = arrays[found[0]]
    return chosen


def _as_images(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Return `array` with three axes."""
    if array.size == 0 or array.ndim not in (2, 3):
        raise DataError(f"{where}: has shape {array.shape}; give (n, height, width) or (n, pixels)")
    if array.ndim == 3:
        return array
    n, d = array.shape
    side = round(d**0.5)
    return array.reshape((n, side, side) if side * side == d else (n, 1, d))


def _check_alike(name: str, images: Arrays) -> None:
    """Require one image shape and one kind of number."""
    if len({array.shape[1:] for array in images.values()}) > 1:
        raise DataError(f"{name}: the splits hold images of different sizes; save them alike")
    if len({array.dtype.kind.replace("u", "i") for array in images.values()}) > 1:
        raise DataError(f"{name}: the splits hold values of different kinds; save them all as uint8, say")


def _is_binary(array: NDArray[Any]) -> bool:
    return bool(((array == 0) | (array == 1)).all())


def _as_bytes(array: NDArray[Any], levels: int, where: str) -> NDArray[np.uint8]:
    """Return the values as integers 0..levels; DataError if they are not probabilities or grey values."""
    is_integer = array.dtype.kind in "iu"
    limit = GREY if is_integer else 1
    if not (array.min() >= 0 and array.max() <= limit):  # true of NaN as well
        values = "integers 0..255" if is_integer else "finite numbers from 0 to 1"
        raise DataError(f"{where}: has values outside 0..{limit}, or not numbers; give {values}")
    if is_integer and levels == GREY and array.max() < DARKEST_GREY:
        raise DataError(
            f"{where}: the largest value is {array.max()}, so the scale is not 0..255; "
            "divide by the value that means 1 and save floats from 0 to 1"
        )
    return (array if is_integer else np.rint(array * float(levels))).astype(np.uint8, order="C")


def _as_labels(labels: NDArray[Any] | None, n: int, where: str) -> Index | None:
    """Return labels as int64, shape (n,)."""
    if labels is None:
        return None
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise DataError(f"{where}: {labels.dtype} of shape {labels.shape}; give {n} integers")
    return labels.astype(np.int64)


def _complete(name: str, splits: dict[SplitName, Split]) -> str:
    """Split off what is missing from `splits`, in place, and return a sentence that tells what was done."""
    missing: list[SplitName] = [split for split in ("valid", "test") if split not in splits]
    if missing == ["test"]:
        raise DataError(f'{name}: holds "valid" but no "test"; give both, only "test", or neither')
    if not missing:
        return "The three splits are the file's."
    whole = splits["train"]
    share = len(whole) // 10
    if share == 0:
        raise DataError(f"{name}: {len(whole)} images are too few to split off a tenth; give at least 10")
    order = stable.permutation("a user's file", len(whole))
    for split, rows in zip(missing, np.split(order[: share * len(missing)], len(missing)), strict=True):
        splits[split] = whole.take(rows)
    splits["train"] = whole.take(order[share * len(missing) :])
    return (
        f"After a fixed shuffle {' and '.join(f'{len(splits[split])} images for {split}' for split in missing)} "
        f"were split off the file's {len(whole)}; {len(splits['train'])} are left to train on."
    )
