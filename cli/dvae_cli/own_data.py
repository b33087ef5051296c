"""The data set that a run was trained on; its notes are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dvae_core.data import own

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvae_core.data.dataset import DataSet


def find_data(dataset: str, data: str | None, quiet: bool) -> DataSet:
    """Return `dvae_core.data.own.find_data(...)`, and print its notes."""
    return _with_notes_printed(own.find_data(dataset, data, quiet), quiet)


def load_own_data(dataset: str, data: str | None, provenance: Mapping[str, Any], quiet: bool) -> DataSet:
    """Return `dvae_core.data.own.load_own_data(...)`, and print its notes."""
    return _with_notes_printed(own.load_own_data(dataset, data, provenance, quiet), quiet)


def _with_notes_printed(found: DataSet, quiet: bool) -> DataSet:
    """Print the notes of a data set, and return it."""
    from .console import say

    for note in found.notes:
        say(note, quiet)
    return found
