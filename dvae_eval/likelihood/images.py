"""The npz file with the unrounded numbers of every image of a likelihood, and pictures of the worst images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError, ResultError
from dvae_core.io.containers import npz_names, packed, read_npz
from dvae_core.io.files import json_object, write_npz

from ..results import LikelihoodResult
from .on_log_z import SHIFTED_COLUMNS

if TYPE_CHECKING:
    from dvae_core.training.checkpoint import TrainedModel

SCHEMA = 1
PICTURES = ("originals", "draws", "means")
N_WORST, N_TYPICAL = 20, 20
# Draws of the latents per mean reconstruction.
N_DRAWS = 100


def images_path(result: Path) -> Path:
    """Return the path of the images of a result file: ll.images.npz beside ll.json."""
    return result.with_name(f"{result.stem}.images.npz")


@dataclass(frozen=True, slots=True)
class LikelihoodImages:
    """The numbers of every image of a likelihood, with pictures of some images and their reconstructions.

    Attributes
    ----------
    columns : dict of str to array, shape (n_images,)
        The result's `per_image`, unrounded.
    shown : int64, shape (n_shown,)
        Rows of the images with pictures: the worst first, then some evenly spread over the order of likelihoods.
    n_worst : int
        Number of the worst images among them.
    originals, draws, means : uint8, shape (n_shown, height, width)
        The images; p(x = 1 | h) for one draw of their latents from q, as grey levels; and its mean over many
        draws.
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
        """Write everything to `path` as npz, atomically."""
        meta = {"kind": "ll-images", "schema": SCHEMA, "n_worst": self.n_worst, **self.meta}
        arrays: dict[str, Any] = {f"column_{name}": values for name, values in self.columns.items()}
        arrays |= {"shown": self.shown, **{name: getattr(self, name) for name in PICTURES}}
        arrays["meta"] = packed(meta)
        write_npz(path, arrays, compressed=True)

    def shifted(self, shift: float) -> LikelihoodImages:
        """Return the images with every log-likelihood larger by `shift` nats, as for another log Z."""
        columns = {k: v + shift if k in SHIFTED_COLUMNS else v for k, v in self.columns.items()}
        return replace(self, columns=columns) if shift else self

    @classmethod
    def load(cls, path: Path) -> LikelihoodImages:
        """Return the images in the file `path`; ResultError if it is missing, damaged or of another schema."""
        try:
            arrays = read_npz(path, npz_names(path))
            meta = json_object(arrays.pop("meta").astype(np.uint8).tobytes())
            if (meta.pop("kind", None), meta.pop("schema", None)) != ("ll-images", SCHEMA):
                raise ResultError(
                    f"{path}: not the images of a likelihood of schema {SCHEMA}; make the result again"
                )
            if not isinstance(meta.get("model", {}), dict):
                raise ValueError("no description of the model")
            columns = {k.removeprefix("column_"): v for k, v in arrays.items() if k.startswith("column_")}
            originals, draws, means = (arrays[name] for name in PICTURES)
            return cls(columns, arrays["shown"], int(meta.pop("n_worst")), originals, draws, means, meta)
        except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, ResultError):
                raise
            raise ResultError(
                f"{path}: cannot be read as the images of a likelihood ({error}); make the result again"
            ) from error


def picture_images(result: LikelihoodResult, trained: TrainedModel, images: NDArray[np.uint8]) -> LikelihoodImages:
    """Return the images of a result, with pictures of the worst ones and of some from worst to best.

    Parameters
    ----------
    result : LikelihoodResult
    trained : TrainedModel
        Its model.
    images : uint8, shape (n, n_pixels)
        Its data set.
    """
    columns = {name: np.asarray(values) for name, values in result.per_image.items()}
    order = np.argsort(columns["log_likelihood"])
    spread = np.linspace(0, len(order) - 1, min(N_TYPICAL, len(order))).round().astype(np.int64)
    shown = np.concatenate((order[:N_WORST], order[spread]))
    x = images[columns["index"][shown]]
    draws, means = _reconstructions(trained, x, result.seed)
    shape = (len(x), *trained.image_shape)
    originals, draws, means = (array.reshape(shape) for array in (x * np.uint8(255), draws, means))
    meta = {"model": result.model, "seed": result.seed}
    return LikelihoodImages(columns, shown, len(order[:N_WORST]), originals, draws, means, meta)


def _reconstructions(
    trained: TrainedModel, images: NDArray[np.uint8], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the reconstruction of each image from one draw from q, and the mean over many, as grey levels."""
    # Imported here, because tables and reports read such files without torch.
    import torch

    from dvae_core.rng import torch_generator

    model = trained.model
    x = torch.from_numpy(images).to(model.groups.device, model.prior.W.dtype)
    generator = torch_generator(seed, "samples", 1, device=x.device)
    rho, eps = (x.new_empty(N_DRAWS, len(x), n) for n in model.n_noise)
    with torch.no_grad():
        latents = model.sample_posterior(x, rho.uniform_(generator=generator), eps.normal_(generator=generator))
        p = model.decode(latents.discrete.zeta, latents.layers).sigmoid()
        draw, mean = ((255 * grey).round().to(torch.uint8).cpu().numpy() for grey in (p[0], p.mean(0)))
    return draw, mean
