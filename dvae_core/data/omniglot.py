"""Omniglot, 28 by 28: the images of Burda, Grosse and Salakhutdinov (2016), or a close copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import stable
from .dataset import DataSet
from .fetch import Remote
from .public import GREY, Bytes, Public, read_mat, read_packed, square_split, upright

OMNIGLOT_SHA256 = {
    "train": "cb3d89800234cdf1fee99ea3756afdbe14a7ac7e63fee2bc2017e86bb5a8c867",
    "train_labels": "1278a48cf5f62e9db7d463c30a53b86d0f1e4bfc88f78ee47818854cf7b470ba",
    "test": "97bdb40c7727014f10143bb61dd9f654d8b0cee0b398fe8bab1570f2259df1ca",
    "test_labels": "06ed341bb4e8ca6f704b2883dbfd83c107d8e2a4191408cc325ff6dd4779c9d4",
}
OMNIGLOT_N_VALID = 1345
CHARDATA = Remote(
    "chardata.mat",
    (
        "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",
        "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
    ),
    "md5:21ecaf34373511aa7691cf2e0802aa3d",  # the only digest that was published
)
CHARDATA_NOTE = (
    "The images as prepared by Burda, Grosse and Salakhutdinov (2016), the paper's own source, rounded to "
    "1/255, with their partition"
)
REBUILT_NOTE = (
    "A close copy, made from the original drawings, of the images that Burda, Grosse and Salakhutdinov (2016) "
    "prepared and the paper uses: the training images are theirs to 1/255 as far as could be compared, but "
    "the test set holds 8115 images, presumably all their 8070 among them, so that test log-likelihoods "
    "compare only nearly"
)


def _omniglot_raw(paths: Sequence[Path]) -> DataSet:
    """Read chardata.mat, whose columns are images of probabilities, stored column by column."""
    content = read_mat(CHARDATA, paths[0], ["data", "target", "testdata", "testtarget"])
    arrays = {
        "train": _chardata_images(content["data"]),
        "train_labels": content["target"].argmax(axis=0).astype(np.uint8),
        "test": _chardata_images(content["testdata"]),
        "test_labels": content["testtarget"].argmax(axis=0).astype(np.uint8),
    }
    return _omniglot(arrays, CHARDATA_NOTE)


def _chardata_images(columns: NDArray[Any]) -> Bytes:
    images: Bytes = np.rint(upright(columns.T) * GREY).astype(np.uint8)
    return images


def _omniglot_packed(path: Path) -> DataSet:
    names = {key: key for key in OMNIGLOT_SHA256}
    return _omniglot(read_packed(path, names, OMNIGLOT_SHA256), REBUILT_NOTE)


def _omniglot(arrays: dict[str, Bytes], note: str) -> DataSet:
    whole = square_split(arrays["train"], arrays["train_labels"])
    order = stable.permutation("omniglot partition", len(whole))
    test = square_split(arrays["test"], arrays["test_labels"])
    return DataSet(
        "omniglot",
        train=whole.take(order[:-OMNIGLOT_N_VALID]),
        valid=whole.take(order[-OMNIGLOT_N_VALID:]),
        test=test,
        levels=GREY,
        provenance=(
            f"Omniglot (Lake, Salakhutdinov and Tenenbaum, 2013), MIT licence. {note}: {len(whole)} training "
            f"images, of which the last {OMNIGLOT_N_VALID} after a fixed shuffle are kept for validation, and "
            f"{len(test)} test images. Dynamic binarisation: grey value / 255 is the mean of a Bernoulli "
            "variable; ink is 1. Labels are the 50 alphabets."
        ),
    )


OMNIGLOT = Public((CHARDATA,), _omniglot_raw, "omniglot.npz", _omniglot_packed)
