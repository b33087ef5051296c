"""The data set that a run was trained on, with what a user should be told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dvae_core.data import own

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvae_core.data.dataset import DataSet


def find_data(dataset: str, data: str | None, quiet: bool) -> DataSet:
    """Return what `dvae_core.data.own.find_data` does, and say its notes."""
    return _told(own.find_data(dataset, data, quiet), quiet)


def load_own_data(dataset: str, data: str | None, provenance: Mapping[str, Any], quiet: bool) -> DataSet:
    """Return what `dvae_core.data.own.load_own_data` does, and say its notes."""
    return _told(own.load_own_data(dataset, data, provenance, quiet), quiet)


def _told(found: DataSet, quiet: bool) -> DataSet:
    """Say the notes of a data set, and return it."""
    from .console import say

    for note in found.notes:
        say(note, quiet)
    return found
