"""Data for the likelihood under a machine: rows of 0 and 1 per split, from a file or a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.data import load
from dvae_core.data.dataset import SPLITS
from dvae_core.data.user import splits_of
from dvae_core.io.containers import npz_names, read_npy

from ..starts import binary_states
from .starts import read_starts

ALL = "all"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of 0 and 1.

    Attributes
    ----------
    splits : dict of str to uint8, shape (n, n_pixels)
        `train`, `valid` and `test`, or `all` if the file has no splits.
    source : dict
        Their origin, for the result: plain JSON values.
    """

    splits: dict[str, NDArray[np.uint8]]
    source: dict[str, Any]

    @property
    def n_pixels(self) -> int:
        """Number of values per row."""
        return int(next(iter(self.splits.values())).shape[1])


def read_rows(source: str) -> Rows:
    """Return the rows of a file of states, or of the splits of a data set of images.

    Parameters
    ----------
    source : str
        An NPY file or a text of 0 and 1 or of -1 and +1, as for `read_starts`; images, as for
        `dvae_core.data.load`; or the name of a data set.  Grey images are made binary, in the same way each time:
        a pixel is on with its value as probability.

    Raises
    ------
    DataError
        If there is no such file, or it contains neither states nor images.
    """
    path = Path(source)
    if path.is_file() and not _is_of_images(path):
        found = read_starts(source)
        return Rows({ALL: binary_states(found.states)}, found.source)
    images = load(source, quiet=True)
    splits = {str(split): images.fixed(split) for split in SPLITS}
    return Rows(splits, {"data": source, "data_sha256": images.digest()})


def _is_of_images(path: Path) -> bool:
    """Return whether a file contains grey images, or the splits of a data set."""
    with path.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(b"PK"):
        return any(not is_label for _, is_label in splits_of(npz_names(path)).values())
    if start != b"\x93NUMPY":
        return False
    array = read_npy(path)
    return array.dtype.kind in "uif" and not bool(((array == 0) | (np.abs(array) == 1)).all())
