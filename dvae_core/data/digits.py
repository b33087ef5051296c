"""The handwritten digits that are part of this package; digits.txt in the same folder states their origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from ..io.containers import read_npz
from .dataset import SPLITS, DataSet, Split

LEVELS = 16
SHA256 = "f3300f86e4b2f5eb5592a1cfbe46ed2af35c25cd3e6416a499c27cc1ff7264c9"


def load_digits() -> DataSet:
    """Return 1297 + 200 + 300 grey images of 8 by 8 pixels with the labels 0..9."""
    path = Path(__file__).with_name("digits.npz")
    arrays = read_npz(path, [f"{split}{kind}" for split in SPLITS for kind in ("", "_labels")])
    train, valid, test = (Split(arrays[name], arrays[f"{name}_labels"].astype(np.int64)) for name in SPLITS)
    data = DataSet(
        "digits",
        train,
        valid,
        test,
        levels=LEVELS,
        provenance=(
            "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning "
            "Repository, 1998, CC BY 4.0: its 1797 test images, shuffled once and split 1297/200/300. A pixel "
            "value 0..16 divided by 16 is the mean of a Bernoulli variable. The paper does not use this data set."
        ),
    )
    if data.digest() != SHA256:
        raise DataError(f"{path}: altered: digest {data.digest()}, expected {SHA256}; install the package again")
    return data
