"""Caltech-101 Silhouettes, 28 by 28, split 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .dataset import SPLITS, DataSet
from .fetch import Remote
from .public import Bytes, Public, read_mat, read_packed, square_split, upright, verified

CALTECH_SHA256 = {
    "train": "4e667900732526e6c757b385151c31812ec071b1e833dcad1f10cbe9c12e9a96",
    "train_labels": "ceea4e4868a5be4e79438fa7a7e3379fa03bb0aebc9753af708a9aeb3c35d44a",
    "valid": "d31899cd9a8421bad5500bdfa166ea93b6490c6f67abbd09826603751801628d",
    "valid_labels": "facd8da6a7aeeb9cf52a9d00bd6c384cdcf8dc416ed8f812acab132f092b4846",
    "test": "caf9bfb9732aced2ed6d7cfb7bf678eb933622574c87a3ce159a3c76dcb2b722",
    "test_labels": "ef8b3a783543c23ebbf7b0a4bd128f753de31b31a4decfcdf4a066ef850f5489",
}
CALTECH_MAT = Remote(
    "caltech101_silhouettes_28_split1.mat",
    ("https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",),
    "sha256:eb6735e8d84b1850fabc5590124aab1755e90c9fd28123585324398405e1e42a",
    872124,
)


def _caltech_raw(paths: Sequence[Path]) -> DataSet:
    """Read the MATLAB file, whose rows are images column by column."""
    names = {"train": "train", "valid": "val", "test": "test"}
    wanted = [f"{name}_{kind}" for name in names.values() for kind in ("data", "labels")]
    content = read_mat(CALTECH_MAT, paths[0], wanted)
    arrays = {split: upright(content[f"{name}_data"]) for split, name in names.items()}
    arrays |= {f"{split}_labels": content[f"{name}_labels"] for split, name in names.items()}
    return _caltech({key: verified(arrays[key], CALTECH_SHA256[key], str(paths[0])) for key in arrays})


def _caltech_packed(path: Path) -> DataSet:
    return _caltech(read_packed(path, {key: key for key in CALTECH_SHA256}, CALTECH_SHA256))


def _caltech(arrays: dict[str, Bytes]) -> DataSet:
    train, valid, test = (square_split(arrays[name], arrays[f"{name}_labels"]) for name in SPLITS)
    return DataSet(
        "caltech101",
        train,
        valid,
        test,
        levels=1,
        provenance=(
            "Caltech-101 Silhouettes, 28 by 28, split 1 (Marlin, Swersky, Chen and de Freitas, 2010; no licence "
            "stated): 4100/2264/2307 images, the file's own partition, the common one. Polarity is the file's: "
            "the object is 0, the background 1. Labels are 1..101. Four distinct images occur "
            "in both train and test."
        ),
    )


CALTECH101 = Public((CALTECH_MAT,), _caltech_raw, "caltech101_silhouettes.npz", _caltech_packed)
