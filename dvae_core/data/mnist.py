"""MNIST with grey values, which are binarised again for each use, and MNIST binarised once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..io.containers import npz_names, read_amat, read_idx, read_npz
from .dataset import DataSet
from .fetch import Remote
from .public import GREY, SIDE, Bytes, Public, read_packed, square_split, verified

MNIST_SHA256 = {
    "train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
OUR_NAMES = ("train_images", "train_labels", "test_images", "test_labels")
KERAS_NAMES = ("x_train", "y_train", "x_test", "y_test")
MNIST_N_VALID = 10_000
MNIST_HOMES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MNIST_FILES = (  # in the order of MNIST_SHA256
    ("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
MNIST_REMOTES = tuple(
    Remote(name, tuple(home + name for home in MNIST_HOMES), f"sha256:{sha256}", n_bytes)
    for name, n_bytes, sha256 in MNIST_FILES
)


def _mnist_raw(paths: Sequence[Path]) -> DataSet:
    """Read the four IDX files."""
    return _mnist(
        {
            key: verified(read_idx(path, n_axes=1 if "labels" in key else 3), sha256, str(path))
            for (key, sha256), path in zip(MNIST_SHA256.items(), paths, strict=True)
        }
    )


def _mnist_packed(path: Path) -> DataSet:
    """Read our NPZ file, or the one that Keras distributes under the same name."""
    names = KERAS_NAMES if "x_train" in npz_names(path) else OUR_NAMES
    return _mnist(read_packed(path, dict(zip(MNIST_SHA256, names, strict=True)), MNIST_SHA256))


def _mnist(arrays: dict[str, Bytes]) -> DataSet:
    whole = square_split(arrays["train"], arrays["train_labels"])
    rows = np.arange(len(whole))
    return DataSet(
        "mnist",
        train=whole.take(rows[:-MNIST_N_VALID]),
        valid=whole.take(rows[-MNIST_N_VALID:]),
        test=square_split(arrays["test"], arrays["test_labels"]),
        levels=GREY,
        provenance=(
            "MNIST (LeCun, Bottou, Bengio and Haffner, 1998), CC BY-SA 3.0 according to Keras: its 60000 training "
            "images in their order, the last 10000 kept for validation (the paper does not give its own choice), "
            "and its 10000 test images, as in the paper. Dynamic binarisation: grey value / 255 is the mean of a "
            "Bernoulli variable; ink is 1."
        ),
    )


STATIC_HOME = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
STATIC_SHA256 = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}
STATIC_FILES = (  # in the order of STATIC_SHA256
    ("binarized_mnist_train.amat", 78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    ("binarized_mnist_valid.amat", 15680000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    ("binarized_mnist_test.amat", 15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
)
STATIC_REMOTES = tuple(
    Remote(name, (STATIC_HOME + name,), f"sha256:{sha256}", n_bytes) for name, n_bytes, sha256 in STATIC_FILES
)


# Number of images of each digit in MNIST's test set.
STATIC_TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def _static_raw(paths: Sequence[Path]) -> DataSet:
    """Read the three text files."""
    return _static(
        {
            key: verified(read_amat(path, SIDE * SIDE), sha256, str(path))
            for (key, sha256), path in zip(STATIC_SHA256.items(), paths, strict=True)
        }
    )


def _static_packed(path: Path) -> DataSet:
    """Read an NPZ file of bits, eight per byte, the first in the highest bit; 784 pixels take 98 bytes."""
    arrays = {}
    for name, array in read_npz(path, STATIC_SHA256).items():
        where = f'{path}, array "{name}"'
        if array.dtype != np.uint8:
            raise DataError(f"{where}: holds {array.dtype}, expected uint8")
        arrays[name] = verified(np.unpackbits(array), STATIC_SHA256[name], where)
    return _static(arrays)


def _static(arrays: dict[str, Bytes]) -> DataSet:
    train, valid = (square_split(arrays[name]) for name in ("train", "valid"))
    labels = np.repeat(np.arange(10, dtype=np.uint8), STATIC_TEST_COUNTS)
    test = square_split(arrays["test"], labels)
    return DataSet(
        "mnist-static",
        train,
        valid,
        test,
        levels=1,
        provenance=(
            "MNIST binarised once by Salakhutdinov and Murray (2008), in the form given by H. Larochelle: "
            "50000/10000/10000 images, as in the paper. The training and validation images are a permutation of "
            "MNIST's training set, without labels; the test images are MNIST's, sorted by digit. Ink is 1."
        ),
    )


MNIST = Public(MNIST_REMOTES, _mnist_raw, "mnist.npz", _mnist_packed)
MNIST_STATIC = Public(STATIC_REMOTES, _static_raw, "binarized_mnist.npz", _static_packed)
