"""The data set that a run was trained on, identified by its digest even if it has moved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from .dataset import DataSet


def find_data(dataset: str, data: str | None, quiet: bool) -> DataSet:
    """Return the data set `data`, by default that of the training; DataError, with a remedy, if it is missing."""
    from . import load

    is_gone = dataset.endswith((".npz", ".npy")) and not Path(dataset).expanduser().exists()
    if data is None and is_gone:
        raise DataError(f"{dataset}: the training data are not there; give --data PATH if they have moved")
    return load(data or dataset, quiet=quiet)


def load_own_data(dataset: str, data: str | None, provenance: Mapping[str, Any], quiet: bool) -> DataSet:
    """Return the data set of a run.

    Parameters
    ----------
    dataset : str
        Name or path of the data set in the run's settings.
    data : str or None
        Its present location, if it has moved.
    provenance : mapping
        Origin of the run or its model; without `data_sha256` the data are not checked.
    quiet : bool
        Do not show the progress of downloads.

    Raises
    ------
    DataError
        If the data are missing, or differ from those of the training.
    """
    found = find_data(dataset, data, quiet)
    if provenance.get("data_sha256") not in (None, found.digest()):
        if data is None:
            raise DataError(
                f"{dataset}: holds other images than those of the training; restore it, or give --data PATH"
            )
        raise DataError(
            f"--data: {data} holds other images than those of the training on {dataset}; "
            "give the training data, or omit the option"
        )
    return found
