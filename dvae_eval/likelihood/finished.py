"""The images' weights of a finished likelihood, as arrays of a file that a later one continues from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.types import Index

from ..runtime.resume import Arrays, above, below, signed, verified
from .image_tasks import WEIGHT_FIELDS, Earlier, ImageTask
from .importance import ImageWeights

# A task with more bytes of log weights than this does not keep them: 10 000 images of 1000 samples.
KEPT_BYTES = 80_000_000


@dataclass(frozen=True, slots=True)
class FinishedImages:
    """The images of one task.

    Attributes
    ----------
    n_samples : int
        Weights per image.
    index : int64, shape (n_images,)
        Indices of the images in their data set.
    digests : uint64, shape (n_images,)
        Digests of their pixels.
    weights : ImageWeights
        Of all images.
    """

    n_samples: int
    index: Index
    digests: NDArray[np.uint64]
    weights: ImageWeights

    def are_of(self, images: NDArray[Any]) -> bool:
        """Return whether the images are those of a data set of shape (n, ...)."""
        is_inside = bool((self.index < len(images)).all())
        return is_inside and np.array_equal(_digests(images[self.index]), self.digests)

    def row(self, i: int) -> ImageWeights:
        """Return the weights of the i-th image."""
        return ImageWeights(*(getattr(self.weights, name)[i] for name in WEIGHT_FIELDS))


def finished_images(work: Arrays, task: ImageTask, key: dict[str, Any]) -> FinishedImages | None:
    """Return the images of a task with these settings in finished work; None if there are none."""
    part = verified(key, below(f"{task.phase}/", work)) or {}
    columns = [part.get(name, np.empty(0)) for name in ("index", "digests", *WEIGHT_FIELDS)]
    if "n_samples" not in part or columns[0].ndim != 1 or {len(c) for c in columns} != {len(columns[0])}:
        return None  # not written by `arrays_of`
    index, digests, *weights = columns
    return FinishedImages(int(part["n_samples"]), index, digests, ImageWeights(*weights))


def arrays_of(
    task: ImageTask, key: dict[str, Any], index: Index, images: NDArray[Any], weights: ImageWeights
) -> Arrays:
    """Return all images of a finished task, as arrays of the finished work."""
    arrays = {"n_samples": np.array(task.n_samples), "index": index, "digests": _digests(images)}
    arrays |= {name: getattr(weights, name) for name in WEIGHT_FIELDS}
    return above(f"{task.phase}/", signed(key, arrays))


def earlier_work(found: FinishedImages, n_samples: int, index: Index, images: NDArray[Any]) -> Earlier:
    """Return the earlier work on these images: whole if it has `n_samples` per image, begun if it has fewer."""
    rows = {int(at): i for i, at in enumerate(found.index)}
    mine = [(at, rows[int(i)]) for at, i in enumerate(index) if int(i) in rows]
    digests = _digests(images)
    same = {at: found.row(i) for at, i in mine if digests[at] == found.digests[i]}
    if found.n_samples == n_samples:
        return Earlier(whole=same)
    return Earlier(begun=same if 0 < found.weights.log_w.shape[1] <= n_samples else {})


def n_to_keep(n_images: int, n_samples: int, tile: int, earlier: Earlier) -> int:
    """Return the number of weights to keep per image: those of whole tiles, or 0.

    It is 0 if there would be too many in total, or if an earlier estimate did not keep those of an image that is
    reused whole.
    """
    n = n_samples // tile * tile
    is_known = all(len(weights.log_w) == n for weights in earlier.whole.values())
    return n if is_known and 8 * n * n_images <= KEPT_BYTES else 0


def _digests(images: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a digest of every image, shape (n_images,)."""
    kind = f"{images.shape[1:]} {images.dtype}".encode()[:64]
    found = [hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=8, key=kind).digest() for x in images]
    return np.frombuffer(b"".join(found), np.uint64)
