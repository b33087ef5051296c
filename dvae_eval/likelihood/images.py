"""A likelihood image by image, in one npz file: every number in full, and pictures of the worst images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError, ResultError
from dvae_core.io.containers import npz_names, read_npz
from dvae_core.io.files import json_object, write_npz

__all__ = ["LikelihoodImages", "images_path"]

SCHEMA = 1
PICTURES = ("originals", "draws", "means")


def images_path(result: Path) -> Path:
    """Return where the images of the result file `result` are: ll.images.npz beside ll.json."""
    return result.with_name(f"{result.stem}.images.npz")


@dataclass(frozen=True, slots=True)
class LikelihoodImages:
    """What a likelihood says of every image, and how some of them are reconstructed.

    Attributes
    ----------
    columns : dict of str to array, shape (n_images,)
        The result's `per_image`, unrounded.
    shown : int64, shape (n_shown,)
        Rows of those that are pictured: the worst first, then some evenly spread over the order of likelihoods.
    n_worst : int
        How many of them are the worst.
    originals, draws, means : uint8, shape (n_shown, height, width)
        The images; p(x = 1 | h) for one draw of their latents from q, as grey levels; and its mean over
        many draws.
    meta : dict
        `model` and `seed` of the result.
    """

    columns: dict[str, NDArray[Any]]
    shown: NDArray[np.int64]
    n_worst: int
    originals: NDArray[np.uint8]
    draws: NDArray[np.uint8]
    means: NDArray[np.uint8]
    meta: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write all to `path` as npz, whole or not at all."""
        meta = {"kind": "ll-images", "schema": SCHEMA, "n_worst": self.n_worst, **self.meta}
        arrays: dict[str, Any] = {f"column_{name}": values for name, values in self.columns.items()}
        arrays |= {"shown": self.shown, **{name: getattr(self, name) for name in PICTURES}}
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        write_npz(path, arrays, compressed=True)

    @classmethod
    def load(cls, path: Path) -> LikelihoodImages:
        """Read the images at `path`; ResultError if they are missing, damaged or of another schema."""
        try:
            arrays = read_npz(path, npz_names(path))
            meta = json_object(arrays.pop("meta").astype(np.uint8).tobytes())
            if (meta.pop("kind", None), meta.pop("schema", None)) != ("ll-images", SCHEMA):
                raise ResultError(f"{path}: not a likelihood's images of schema {SCHEMA}; make the result anew")
            if not isinstance(meta.get("model", {}), dict):
                raise ValueError("does not say of which model")
            columns = {k.removeprefix("column_"): v for k, v in arrays.items() if k.startswith("column_")}
            originals, draws, means = (arrays[name] for name in PICTURES)
            return cls(columns, arrays["shown"], int(meta.pop("n_worst")), originals, draws, means, meta)
        except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, ResultError):
                raise
            raise ResultError(
                f"{path}: cannot be read as a likelihood's images ({error}); make it anew"
            ) from error
