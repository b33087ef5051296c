"""A data set: three splits of images, and the rule that converts them to binary vectors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..types import Float, Index
from . import stable

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images of one split, (n, height, width) uint8, and their labels, (n,) int64, or None."""

    images: NDArray[np.uint8]
    labels: Index | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.intp]) -> Split:
        """Return the given rows, in that order, as a new split."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Images whose pixels, divided by `levels`, are the means of Bernoulli variables.

    `levels` is 1 if the images are binary (static binarisation), else the value of a pixel with probability one
    (dynamic binarisation: each call of `binary` draws the pixels again).  `provenance` describes the origin of the
    data, their splits, and how they differ from the paper's.  `notes` are messages for the user: ignored content
    of a file, and the number of images in two splits.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    levels: int
    provenance: str
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image."""
        return cast(tuple[int, int], self.train.images.shape[1:])

    @property
    def n_pixels(self) -> int:
        """Length D of a binary vector."""
        height, width = self.image_shape
        return height * width

    @property
    def binarisation(self) -> Literal["static", "dynamic"]:
        """Whether `binary` returns the same pixels each time or draws them again."""
        return "static" if self.levels == 1 else "dynamic"

    def split(self, name: SplitName) -> Split:
        """Return the split called `name`; DataError if there is none."""
        if name not in SPLITS:
            raise DataError(f'{self.name}: no split "{name}"; choose from {", ".join(SPLITS)}')
        return cast(Split, getattr(self, name))

    def binary(self, split: SplitName, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a split's images as 0/1 vectors, drawn with `rng` if the binarisation is dynamic.

        Returns
        -------
        NDArray[np.uint8], shape (n, n_pixels), C order
            A new array.  A pixel of value v is 1 with probability v/levels, exactly.
        """
        values = self._vectors(split)
        if self.levels == 1:
            return values.copy()
        # One of the integers 0..levels-1 lies below v with probability v/levels.
        return (rng.integers(self.levels, size=values.shape, dtype=np.uint8) < values).astype(np.uint8)

    def fixed(self, split: SplitName) -> NDArray[np.uint8]:
        """Return a split's images as 0/1 vectors that are the same on every computer and for every seed.

        Test log-likelihoods are measured on these pixels: a grey image is drawn only once.

        Returns
        -------
        NDArray[np.uint8], shape (n, n_pixels), C order
            A new array.
        """
        values = self._vectors(split)
        return values.copy() if self.levels == 1 else stable.bernoulli(f"binary {split}", values, self.levels)

    def pixel_means(self) -> Float:
        """Return the mean of each binary pixel over the training set, shape (n_pixels,), in [0, 1]."""
        means: Float = self._vectors("train").mean(axis=0, dtype=np.float64)
        return means / self.levels

    def digest(self) -> str:
        """Return the SHA-256 of levels, shapes and pixels, which results record to identify their data."""
        sha = hashlib.sha256(f"levels {self.levels}".encode())
        for name in SPLITS:
            images = self.split(name).images
            sha.update(f" {name} {images.shape} ".encode())
            sha.update(np.ascontiguousarray(images).data)
        return sha.hexdigest()

    def _vectors(self, name: SplitName) -> NDArray[np.uint8]:
        return self.split(name).images.reshape(-1, self.n_pixels)
