"""Data sets from a user's own NPY or NPZ file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io.containers import hint, npz_names, npz_shapes, read_npy, read_npz
from ..io.files import to_utf8
from ..types import Index
from . import stable
from .dataset import SPLITS, DataSet, Split, SplitName

Arrays = dict[SplitName, NDArray[Any]]

# Lower-case names of a split, its images and its labels: train, x_train, train_images, images_train.
WORDS: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "tr"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing", "tst", "te"),
}
IMAGES = ("x", "images", "image", "data", "imgs", "img", "inputs", "features")
LABELS = ("y", "labels", "label", "targets", "target", "classes")
REMEDY = "check the path, and save the images with numpy.savez(path, train=..., test=...)"
GREY = 255
DARKEST_GREY = 128  # integers that stay below half of 255 have another scale


def load_file(path: Path) -> DataSet:
    """Return the data set in an NPY file, or in an NPZ file with `train` and optionally `valid` and `test`.

    Other accepted names are `val` and `validation`, `x_train` or `train_images` (likewise for the other splits),
    and `train_labels` or `y_train` for labels.  Missing splits are taken from `train` by fixed rules, see
    `from_arrays`. Images under other names are refused; other arrays are listed in `notes`.
    """
    with hint(REMEDY):
        images, labels, others = _read(path)
    return from_arrays(str(path), images, labels, others)


def splits_of(names: Iterable[str]) -> dict[str, tuple[SplitName, bool]]:
    """Return the split, and whether it is of labels, for each name that is one of a split's images or labels."""
    found: dict[str, tuple[SplitName, bool]] = {}
    for name in names:
        parts = [part for part in re.split(r"[_\-. ]+", name.lower()) if part]
        if len(parts) == 1:  # xtrain, trainx
            parts = [part for part in re.split(r"^([xy])(?=t|v|d)|(?<=[tnlv])([xy])$", parts[0]) if part]
        for split, words in WORDS.items():
            rest = [part for part in parts if part not in words]
            if len(parts) - len(rest) == 1 and len(rest) < 2:
                if not rest or rest[0] in IMAGES:
                    found[name] = split, False
                elif rest[0] in LABELS:
                    found[name] = split, True
    return found


def from_arrays(
    name: str, images: Arrays, labels: Arrays | None = None, others: Mapping[str, tuple[int, ...]] | None = None
) -> DataSet:
    """Return a data set from arrays: `train`, and optionally `valid` and `test`.

    Parameters
    ----------
    name : str
        Name of the data set, with which error messages begin.
    images : dict of arrays, shape (n, height, width) or (n, d)
        Booleans, integers 0 and 1 or 0..255, or floats in [0, 1], of the same kind in all splits.  Vectors
        become square images if d is a square number, else images one pixel high.  Floats between 0 and 1 are
        rounded to 1/255.  No value may be masked.
    labels : dict of arrays of integers, shape (n,) or (n, 1), optional
        One-hot labels, shape (n, n_classes), become numbers; several labels per image are ignored.
    others : dict of shapes, optional
        Shapes of arrays whose names are not those of a split; arrays of the images' size are refused.

    Returns
    -------
    DataSet
        Static if all values are 0 or 1, else dynamic.  A missing `valid` is a tenth of `train`, taken after a
        fixed shuffle; if `test` is missing as well, each gets a tenth.

    Raises
    ------
    DataError
        If the arrays do not have that form.
    """
    labels = labels or {}
    if "train" not in images or not set(labels) <= set(images) <= set(SPLITS):
        held = ", ".join([*images, *(f"labels of {split}" for split in labels)]) or "no array with a known name"
        raise DataError(
            f"{name}: holds {held}; give train, optionally valid and test, and labels only with their images"
        )
    _refuse_masked(
        name,
        {
            **{str(split): array for split, array in images.items()},
            **{f"labels of {s}": a for s, a in labels.items()},
        },
    )
    _refuse_unknown_splits(name, images["train"].shape, others or {})
    shaped = {split: _as_images(array, f'{name}, split "{split}"') for split, array in images.items()}
    _check_alike(name, shaped)
    levels = 1 if all(_is_binary(array) for array in shaped.values()) else GREY
    notes = [f"ignored: {', '.join(to_utf8(other) for other in sorted(others))}"] if others else []
    splits = {
        split: Split(
            _as_bytes(array, levels, f'{name}, split "{split}"'),
            _as_labels(labels.get(split), len(array), f'{name}, labels of "{split}"', notes),
        )
        for split, array in shaped.items()
    }
    how = _complete(name, splits)
    notes += _repeated(splits)
    provenance = " ".join(["The user's own file.", how, *(f"{note[0].upper()}{note[1:]}." for note in notes)])
    return DataSet(name, splits["train"], splits["valid"], splits["test"], levels, provenance, notes=tuple(notes))


def _read(path: Path) -> tuple[Arrays, Arrays, dict[str, tuple[int, ...]]]:
    """Return images and labels by split, and shapes of other arrays; the only array of a file is "train"."""
    if path.suffix.lower() == ".npy":
        return {"train": read_npy(path)}, {}, {}
    names = npz_names(path)
    known = splits_of(names)
    if len(names) == 1 and not known:
        return {"train": read_npz(path, names)[names[0]]}, {}, {}
    images = _choose(path, {name: split for name, (split, is_label) in known.items() if not is_label})
    labels = _choose(path, {name: split for name, (split, is_label) in known.items() if is_label}, "buifSU")
    shapes = npz_shapes(path)
    return images, labels, {name: shape for name, shape in shapes.items() if name not in known}


def _choose(path: Path, names: Mapping[str, SplitName], kinds: str = "buif") -> Arrays:
    """Return the arrays by split; DataError if a split has two names."""
    found: dict[SplitName, list[str]] = {}
    for name, split in names.items():
        found.setdefault(split, []).append(name)
    for held in found.values():
        if len(held) > 1:
            raise DataError(f"{path}: holds both {' and '.join(held)}; keep only one")
    arrays = read_npz(path, names, kinds)
    return {split: arrays[found[split][0]] for split in SPLITS if split in found}


def _refuse_masked(name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise DataError for arrays with masked values, which are not values of a pixel."""
    for split, array in arrays.items():
        if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array).any():
            n_masked = int(np.ma.getmaskarray(array).sum())
            raise DataError(
                f"{name}: {n_masked} values of {split} are masked; fill them, or leave those images out"
            )


def _refuse_unknown_splits(name: str, shape: tuple[int, ...], others: Mapping[str, tuple[int, ...]]) -> None:
    """Raise DataError for images whose name is not that of a split, since their use is unknown."""
    for other, of_other in others.items():
        if len(of_other) > 1 and len(shape) > 1 and math.prod(of_other[1:]) == math.prod(shape[1:]) > 1:
            raise DataError(
                f"{name}: holds {to_utf8(other)[:60]!r}, of the size of the images, which is not the name of a "
                "split; rename it to train, valid or test, or remove it"
            )


def _repeated(splits: Mapping[SplitName, Split]) -> list[str]:
    """Return a sentence for each split that contains training images."""
    train = {image.tobytes() for image in splits["train"].images}
    found = {split: sum(image.tobytes() in train for image in splits[split].images) for split in SPLITS[1:]}
    return [
        f"{n} of {len(splits[split])} {'test' if split == 'test' else 'validation'} images are training images, "
        "pixel for pixel"
        for split, n in found.items()
        if n
    ]


def _as_images(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Return `array` with three axes, or raise DataError."""
    if array.size == 0 or array.ndim not in (2, 3):
        raise DataError(f"{where}: has shape {array.shape}; give (n, height, width) or (n, pixels)")
    array = np.asarray(array)
    if array.ndim == 3:
        return array
    n, d = array.shape
    side = round(d**0.5)
    return array.reshape((n, side, side) if side * side == d else (n, 1, d))


def _check_alike(name: str, images: Arrays) -> None:
    """Raise DataError unless all splits have the same image shape and kind of number."""
    if len({array.shape[1:] for array in images.values()}) > 1:
        raise DataError(f"{name}: the splits have images of different sizes; save all with the same size")
    if len({array.dtype.kind.replace("u", "i") for array in images.values()}) > 1:
        raise DataError(
            f"{name}: the splits have values of different types; save all of them as uint8, for example"
        )


def _is_binary(array: NDArray[Any]) -> bool:
    return bool(((array == 0) | (array == 1)).all())


def _as_bytes(array: NDArray[Any], levels: int, where: str) -> NDArray[np.uint8]:
    """Return the values as integers 0..levels; DataError if they are neither probabilities nor grey values."""
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


def _as_labels(labels: NDArray[Any] | None, n: int, where: str, notes: list[str]) -> Index | None:
    """Return labels as int64, shape (n,); None, with a note, for text or several labels per image."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.shape == (n, 1):
        labels = labels.reshape(n)
    if labels.ndim == 2 and len(labels) == n and labels.dtype.kind in "buif":
        if ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
            return np.asarray(labels.argmax(1), np.int64)
        notes.append(f"{where.partition(', ')[2]} are several per image, and ignored")
        return None
    if labels.shape == (n,) and labels.dtype.kind in "SU":
        notes.append(f"{where.partition(', ')[2]} are texts, and ignored")
        return None
    if labels.shape != (n,) or labels.dtype.kind not in "iub":
        raise DataError(f"{where}: {labels.dtype} of shape {labels.shape}; give {n} integers")
    return labels.astype(np.int64)


def _complete(name: str, splits: dict[SplitName, Split]) -> str:
    """Add the missing splits in place, taken from `train`, and return a sentence that describes this."""
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
