"""A data set: three disjoint splits of images, and one rule that makes binary vectors of them."""

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
    """Images of one split, (n, height, width) uint8, and their labels, (n,) int64, if there are any."""

    images: NDArray[np.uint8]
    labels: Index | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.intp]) -> Split:
        """Return the given rows, in that order, as a split of their own."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Images whose pixels, divided by `levels`, are the means of Bernoulli variables.

    `levels` is 1 where the images are binary already (static binarisation), else the value that stands for
    a probability of one (dynamic binarisation: pixels are drawn again each time they are asked for).
    `provenance` says in words where the data came from, how they were split, how near they are to the
    paper's, and whom to thank; `notes` are what a user should know of them: what of a file was left aside, and
    how many images are in two splits.
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
            A new array. A pixel of value v is 1 with probability v/levels, exactly.
        """
        values = self._vectors(split)
        if self.levels == 1:
            return values.copy()
        # One of the integers 0..levels-1 lies below v with probability v/levels.
        return (rng.integers(self.levels, size=values.shape, dtype=np.uint8) < values).astype(np.uint8)

    def fixed(self, split: SplitName) -> NDArray[np.uint8]:
        """Return a split's images as 0/1 vectors that are the same on every machine and for every seed.

        This is what a test log-likelihood is measured on: a grey image is drawn once and for all.

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
        """Return a SHA-256 over levels, shapes and pixels, by which a result names the data it was made on."""
        sha = hashlib.sha256(f"levels {self.levels}".encode())
        for name in SPLITS:
            images = self.split(name).images
            sha.update(f" {name} {images.shape} ".encode())
            sha.update(np.ascontiguousarray(images).data)
        return sha.hexdigest()

    def _vectors(self, name: SplitName) -> NDArray[np.uint8]:
        return self.split(name).images.reshape(-1, self.n_pixels)
