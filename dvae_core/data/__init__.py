"""Data sets by name: `load("digits")`, `load("mnist")`, `load("my-images.npz")`.

Public data sets are read from $DVAE_DATA_DIR, by default from the user's cache, and are downloaded there if they
are missing.  Data whose pixels differ from the published ones are refused.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..errors import DataError
from .bars import bars_and_stripes, log_prob_bars_and_stripes, parse_size
from .caltech import CALTECH101
from .dataset import SPLITS, DataSet, Split, SplitName
from .digits import load_digits
from .fetch import data_folder
from .mnist import MNIST, MNIST_STATIC
from .omniglot import OMNIGLOT
from .public import Public, load_public, locate
from .user import from_arrays, load_file

__all__ = [
    "NAMES",
    "SPLITS",
    "DataSet",
    "Listing",
    "Split",
    "SplitName",
    "describe",
    "from_arrays",
    "is_here",
    "load",
    "log_prob_bars_and_stripes",
]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "digits": "handwritten digits, 8 x 8, dynamic binarisation, 1297/200/300; ships with the package",
        "bars-and-stripes": "4 x 4 patterns of known probability; bars-and-stripes-3x5 for other sizes",
        "mnist": "MNIST, 28 x 28, dynamic binarisation, 50000/10000/10000",
        "mnist-static": "MNIST, 28 x 28, binarised once by Salakhutdinov and Murray, 50000/10000/10000",
        "omniglot": "Omniglot, 28 x 28, dynamic binarisation, 23000/1345/8070",
        "caltech101": "Caltech-101 Silhouettes, 28 x 28, binary, 4100/2264/2307",
    }
)
PUBLIC: Mapping[str, Public] = MappingProxyType(
    {"mnist": MNIST, "mnist-static": MNIST_STATIC, "omniglot": OMNIGLOT, "caltech101": CALTECH101}
)


class Listing(NamedTuple):
    """One line of the list of data sets: name, description, and the place from which it would be read."""

    name: str
    description: str
    place: str


def load(name: str | os.PathLike[str], *, quiet: bool = False) -> DataSet:
    """Return a data set: one of `NAMES`, or the user's own file.

    Parameters
    ----------
    name : str or path
        A name from `NAMES`, "bars-and-stripes-<height>x<width>", or the path of an .npz or .npy file with binary
        or grey images, see `from_arrays`.
    quiet : bool
        Do not show the progress of downloads on standard error.

    Returns
    -------
    DataSet
        It is the same on every computer.

    Raises
    ------
    DataError
        The name is unknown, or a file is missing, damaged or not of the expected form.
    """
    name = os.fspath(name)
    if name.lower().endswith((".npz", ".npy")):
        return load_file(Path(name).expanduser())
    if size := parse_size(name):
        return bars_and_stripes(*size)
    if name == "digits":
        return load_digits()
    if name in PUBLIC:
        return load_public(PUBLIC[name], quiet=quiet)
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    raise DataError(
        f'no data set is called "{name}"{hint}; choose from {", ".join(NAMES)}, '
        "or give the path of an .npz or .npy file"
    )


def is_here(name: str | os.PathLike[str]) -> bool:
    """Return whether `load` would find a data set without the network; its content is not checked."""
    name = os.fspath(name)
    if name not in PUBLIC:
        return not name.lower().endswith((".npz", ".npy")) or Path(name).expanduser().is_file()
    try:
        return _is_found(PUBLIC[name], data_folder())
    except DataError:
        return False


def _is_found(public: Public, folder: Path) -> bool:
    """Return whether a folder contains a public data set."""
    return None not in locate(public, folder) or (folder / public.packed).is_file()


def describe() -> list[Listing]:
    """Return all data sets, and the place from which each would be read."""
    return [Listing(name, description, _place(name)) for name, description in NAMES.items()]


def _place(name: str) -> str:
    """Return, as text, the place from which a data set would be read."""
    if name not in PUBLIC:
        return "built in"
    public, folder = PUBLIC[name], data_folder()
    if _is_found(public, folder):
        return str(folder)
    return f"to be downloaded to {folder}"
