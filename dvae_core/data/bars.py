"""Bars and stripes: a data set of any size whose log-probability is known exactly.

An image is made by choosing an orientation, rows or columns, with probability 1/2, and then setting each
line of that orientation to all ones or all zeros with probability 1/2. Hence

    p(x) = 1/2 [all rows of x constant] 2^-height + 1/2 [all columns of x constant] 2^-width,

and the two uniform images, which both orientations produce, are the most likely ones.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..types import Float, Index
from . import stable
from .dataset import DataSet, Split

NAME = "bars-and-stripes"
DEFAULT_SIZE = (4, 4)
MAX_SIDE = 12
MIN_TRAIN_ROWS = 1000
N_VALID, N_TEST = 500, 1000


def bars_and_stripes(height: int, width: int) -> DataSet:
    """Return the data set: exact frequencies for training, independent draws for validation and test.

    The training set contains each image in exact proportion to p(x), and is repeated until it has at least 1000
    images.  Its mean log-likelihood under the true distribution is therefore exactly minus the entropy.  Label 0
    stands for rows, label 1 for columns.
    """
    train = exact_frequencies(height, width)
    log_p = log_prob_bars_and_stripes(train.images, height, width)
    return DataSet(
        name=NAME if (height, width) == DEFAULT_SIZE else f"{NAME}-{height}x{width}",
        train=train,
        valid=sample(N_VALID, height, width, f"{NAME} valid"),
        test=sample(N_TEST, height, width, f"{NAME} test"),
        levels=1,
        provenance=(
            f"Bars and stripes of {height} by {width} pixels, computed: {len(train)} training images in exact "
            f"proportion to their probability, {N_VALID} + {N_TEST} independent draws with fixed seeds for "
            "validation and test (they repeat training images: the whole distribution is known). No model's "
            f"expected log-likelihood can exceed minus the entropy, {log_p.mean():.6f} nats."
        ),
    )


def log_prob_bars_and_stripes(images: NDArray[np.uint8], height: int, width: int) -> Float:
    """Return log p(x) of each image in nats, shape (n,); -inf for an image that is not of bars or stripes.

    `images` has the shape (n, height, width) or (n, height * width) and the values 0 and 1.
    """
    x = images.reshape(-1, height, width)
    rows = (x == x[:, :, :1]).all(axis=(1, 2))
    columns = (x == x[:, :1, :]).all(axis=(1, 2))
    p: Float = 0.5 * rows * 2.0**-height + 0.5 * columns * 2.0**-width
    with np.errstate(divide="ignore"):
        return np.log(p)


def exact_frequencies(height: int, width: int) -> Split:
    """Return images in exact proportion to p(x), in a fixed random order, at least 1000 of them."""
    # A pattern along the shorter side is more likely, and is repeated so that all counts are proportional to p(x).
    longer = max(height, width)
    patterns = np.arange(2**longer)
    is_column = np.repeat([False, True], 2**longer)
    pattern = np.concatenate([patterns % 2**height, patterns % 2**width])
    copies = -(-MIN_TRAIN_ROWS // len(pattern))
    order = stable.permutation(f"{NAME} train", copies * len(pattern)) % len(pattern)
    return _draw(is_column[order], pattern[order], height, width)


def sample(n: int, height: int, width: int, key: str) -> Split:
    """Return n independent draws, determined by `key` and equal on every computer."""
    word = stable.words(key, n)
    return _draw(word >> 63 == 1, word.astype(np.int64) & (2**MAX_SIDE - 1), height, width)


def _draw(is_column: NDArray[np.bool_], pattern: Index, height: int, width: int) -> Split:
    """Return image i from the bits of pattern[i]: bit j sets row j or, if is_column[i], column j."""
    bits = (pattern[:, None] >> np.arange(max(height, width)) & 1).astype(np.uint8)
    rows, columns = bits[:, :height, None], bits[:, None, :width]
    images = np.where(is_column[:, None, None], columns, rows)
    return Split(images, is_column.astype(np.int64))


def parse_size(name: str) -> tuple[int, int] | None:
    """Return (4, 4) for "bars-and-stripes", (3, 5) for "bars-and-stripes-3x5", None for other names."""
    match = re.fullmatch(rf"{NAME}-(\d{{1,4}})x(\d{{1,4}})", name)
    if match is None:
        return DEFAULT_SIZE if name == NAME else None
    height, width = int(match[1]), int(match[2])
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise DataError(f"{name}: sides are 1 to {MAX_SIDE} pixels; give, for example, bars-and-stripes-3x5")
    return height, width
