"""Pictures of a model as arrays: samples of the prior and reconstructions, in one npz file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError, ResultError
from dvae_core.io.containers import npz_names, packed, read_npz
from dvae_core.io.files import json_object, write_npz

ARRAYS = ("samples", "originals", "reconstructions")
LATENTS = ("z", "zeta", "continuous")
SCHEMA = 1


def names_model(meta: dict[str, Any]) -> bool:
    """Return whether the metadata of pictures identify their model."""
    model = meta.get("model")
    return isinstance(model, dict) and isinstance(model.get("sha256"), str)


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """Samples and reconstructions of one model, as mean intensities 0..255.

    Attributes
    ----------
    samples : uint8, shape (n_rows, n_chains, n_draws, height, width)
        p(x = 1) of draws from the prior.  Rows are separated by block Gibbs sweeps of the same persistent
        chains; the `n_draws` share one RBM state and differ in their continuous latents (Figure 5).
    originals, reconstructions : uint8, shape (n, height, width)
        Test images, and p(x = 1) given one posterior sample of each.
    meta : dict
        `model` as in a `Result`, `n_sweeps` between rows, `seed`, `command`.
    latents : dict of float32 arrays
        Those of `samples`: `z`, the RBM's units, (n_rows, n_chains, n_units); `zeta`, smoothed, (n_rows, n_chains,
        n_draws, n_units); `continuous`, all layers one after the other, (n_rows, n_chains, n_draws, n_continuous).
        Empty in files of earlier versions.
    """

    samples: NDArray[np.uint8]
    originals: NDArray[np.uint8]
    reconstructions: NDArray[np.uint8]
    meta: dict[str, Any]
    latents: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the arrays to `path` as npz, atomically."""
        meta = packed({"kind": "samples", "schema": SCHEMA, **self.meta})
        pictures = {name: getattr(self, name) for name in ARRAYS}
        write_npz(path, {"meta": meta, **pictures, **self.latents}, compressed=True)

    def supersedes(self, old: SampleGrid) -> bool:
        """Return whether these can replace `old` without loss: at least as many pictures of the same model."""
        mine, theirs = ((g.meta["model"]["sha256"], g.meta.get("n_sweeps")) for g in (self, old))
        sizes, before = ((*g.samples.shape[:3], len(g.originals)) for g in (self, old))
        return mine == theirs and all(more >= less for more, less in zip(sizes, before, strict=True))

    @classmethod
    def load(cls, path: Path) -> SampleGrid:
        """Read the arrays at `path`; ResultError if they are missing, damaged or of another schema."""
        try:
            arrays = read_npz(path, ("meta", *ARRAYS))
            held = set(npz_names(path))
            latents = read_npz(path, [name for name in LATENTS if name in held])
            meta = json_object(arrays.pop("meta").astype(np.uint8).tobytes())
        except (DataError, ValueError) as error:
            raise ResultError(f"{path}: cannot be read as samples ({error}); make them again") from error
        axes = [arrays[name].ndim for name in ARRAYS]
        if (
            meta.get("kind") != "samples"
            or meta.get("schema") != SCHEMA
            or axes != [5, 3, 3]
            or not names_model(meta)
        ):
            raise ResultError(f"{path}: not samples of schema {SCHEMA}; make them again")
        return cls(**arrays, meta=meta, latents=latents)
