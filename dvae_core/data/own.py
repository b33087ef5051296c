"""The data set that a run was trained on, wherever it lies now: its digest says that it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from .dataset import DataSet


def find_data(dataset: str, data: str | None, quiet: bool) -> DataSet:
    """Return the data set called `data`, else that of the training; DataError that says --data if it is gone."""
    from . import load

    is_gone = dataset.endswith((".npz", ".npy")) and not Path(dataset).expanduser().exists()
    if data is None and is_gone:
        raise DataError(f"{dataset}: the data of the training are not there; give --data PATH if they have moved")
    return load(data or dataset, quiet=quiet)


def load_own_data(dataset: str, data: str | None, provenance: Mapping[str, Any], quiet: bool) -> DataSet:
    """Return the data set of a run.

    Parameters
    ----------
    dataset : str
        Name or path as the run has it.
    data : str or None
        Where it lies now, if it has moved.
    provenance : mapping
        The run's or its model's; without `data_sha256` any data are taken for its own.
    quiet : bool
        Show no progress of a download.

    Raises
    ------
    DataError
        If the data are not there, or are others than those of the training.
    """
    found = find_data(dataset, data, quiet)
    if provenance.get("data_sha256") not in (None, found.digest()):
        if data is None:
            raise DataError(
                f"{dataset}: holds other images than those of the training; restore it, or give --data PATH"
            )
        raise DataError(
            f"--data: {data} holds other images than those of the training on {dataset}; "
            "give these, or leave it out"
        )
    return found
