"""Mosaics of small images: samples as in Figure 5, and reconstructions.

A mosaic is RGBA.  The gaps between images are transparent and show the page's colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvae_eval.samples.grid import SampleGrid

Images = NDArray[np.uint8]

# Images, or pairs of them, in a row of a picture.
IMAGES_PER_ROW = 10


def mosaic(images: Images) -> Images:
    """Lay images out in rows, with transparent gaps of a ninth of their width between them.

    Parameters
    ----------
    images : uint8, shape (n_rows, n_columns, height, width)
        Intensities from 0 (white) to 255 (black).

    Returns
    -------
    uint8, shape (n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 4)
        RGBA.
    """
    n_rows, n_columns, height, width = images.shape
    gap = max(1, width // 9)
    tiles = np.zeros((n_rows, height + gap, n_columns, width + gap, 4), dtype=np.uint8)
    tiles[:, :height, :, :width, :3] = 255 - images.transpose(0, 2, 1, 3)[..., None]
    tiles[:, :height, :, :width, 3] = 255
    page = tiles.reshape(n_rows * (height + gap), n_columns * (width + gap), 4)
    return page[: page.shape[0] - gap, : page.shape[1] - gap]


def pair_mosaic(originals: Images, reconstructions: Images) -> Images:
    """Return a mosaic of originals, shape (n, height, width), each above its reconstruction."""
    return mosaic(np.stack([originals, reconstructions]))


def samples_image(grid: SampleGrid) -> Images:
    """Return the samples as in Figure 5, RGBA: one row per state of a chain, with several images of each."""
    return _beside(
        [mosaic(grid.samples[:, chain]) for chain in range(grid.samples.shape[1])], grid.samples.shape[-1]
    )


def _beside(pages: list[Images], tile: int) -> Images:
    """Return mosaics side by side, separated by half of `tile` pixels; shorter ones are padded at the bottom."""
    height, gap = max(page.shape[0] for page in pages), max(1, tile // 2)
    padded = [np.pad(page, ((0, height - page.shape[0]), (0, gap), (0, 0))) for page in pages]
    return np.concatenate(padded, axis=1)[:, :-gap]
