"""The file in which a finished likelihood keeps its images' weights, so that a later one can reuse them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.environment import now_utc
from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz
from dvae_core.io.files import write_npz

from ..runtime.resume import packed, unpacked
from .image_tasks import WEIGHT_FIELDS, Earlier, ImageTask
from .importance import ImageWeights

Index = NDArray[np.int64]
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


class FinishedWork:
    """All tasks of a finished likelihood, in a file.

    Parameters
    ----------
    path : Path, optional
        File of an earlier likelihood.  A missing or unreadable file counts as empty.
    """

    def __init__(self, path: Path | None) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        if path and path.exists():
            try:
                self.arrays = dict(read_npz(path, npz_names(path)))
            except DataError:
                self.arrays = {}

    @property
    def record(self) -> dict[str, Any]:
        """The `date` and sizes of the work, and the work that it continued (`continued_from`); may be empty."""
        return unpacked(self.arrays["record"]) if "record" in self.arrays else {}

    def of(self, task: ImageTask, key: dict[str, Any]) -> FinishedImages | None:
        """Return the finished images of a task with these settings; None if there are none."""
        prefix = f"{task.phase}/"
        part = {n.removeprefix(prefix): a for n, a in self.arrays.items() if n.startswith(prefix)}
        if not np.array_equal(part.get("key", ()), _digest_of(key)):
            return None
        columns = [part.get(name, np.empty(0)) for name in ("index", "digests", *WEIGHT_FIELDS)]
        if "n_samples" not in part or columns[0].ndim != 1 or {len(c) for c in columns} != {len(columns[0])}:
            return None  # not written by `WorkToKeep`
        index, digests, *weights = columns
        return FinishedImages(int(part["n_samples"]), index, digests, ImageWeights(*weights))


class WorkToKeep:
    """Collects and writes the arrays that `FinishedWork` reads."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def add(
        self, task: ImageTask, key: dict[str, Any], index: Index, images: NDArray[Any], weights: ImageWeights
    ) -> None:
        """Add all images of a finished task."""
        arrays = {
            "key": _digest_of(key),
            "n_samples": np.array(task.n_samples),
            "index": index,
            "digests": _digests(images),
            **{name: getattr(weights, name) for name in WEIGHT_FIELDS},
        }
        self.arrays |= {f"{task.phase}/{name}": array for name, array in arrays.items()}

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Write the file atomically; `record` describes the work."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(path, {**self.arrays, "record": packed({**record, "date": now_utc()})})


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


def _digest_of(key: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the SHA-256 of settings."""
    return np.frombuffer(hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).digest(), np.uint8)


def _digests(images: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a digest of every image, shape (n_images,)."""
    kind = f"{images.shape[1:]} {images.dtype}".encode()[:64]
    found = [hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=8, key=kind).digest() for x in images]
    return np.frombuffer(b"".join(found), np.uint64)
