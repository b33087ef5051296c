"""What a long estimate has done so far, in a file beside its result: it survives a kill, and is gone on with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz
from dvae_core.io.files import write_npz

__all__ = ["Partial"]


class Partial:
    """A file of named arrays that belongs to one task: another task's is ignored, and overwritten.

    Parameters
    ----------
    path : Path
    task : dict
        All that the numbers hang on, plain JSON values: settings, digests, versions.
    """

    def __init__(self, path: Path, task: dict[str, Any]) -> None:
        self.path = path
        digest = hashlib.sha256(json.dumps(task, sort_keys=True).encode()).digest()
        self.fingerprint = np.frombuffer(digest, dtype=np.uint8)

    def save(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write the arrays, whole or not at all."""
        write_npz(self.path, {"fingerprint": self.fingerprint, **arrays})

    def load(self) -> dict[str, NDArray[Any]] | None:
        """Return the arrays, or None if there are none of this task that can be read."""
        try:
            arrays = read_npz(self.path, npz_names(self.path)) if self.path.exists() else {}
        except DataError:
            # It was made anew from the start before, and can be again.
            return None
        fingerprint = arrays.pop("fingerprint", None)
        same = fingerprint is not None and np.array_equal(fingerprint, self.fingerprint)
        return dict(arrays) if same else None

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
