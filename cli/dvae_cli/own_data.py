"""The data set that a run was trained on; its notes are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dvae_core.data import own

from .console import is_quiet, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dvae_core.data.dataset import DataSet


def find_data(dataset: str, data: str | None) -> DataSet:
    """Return `dvae_core.data.own.find_data(...)`, and print its notes."""
    return _with_notes_printed(own.find_data(dataset, data, is_quiet()))


def load_own_data(dataset: str, data: str | None, provenance: Mapping[str, Any]) -> DataSet:
    """Return `dvae_core.data.own.load_own_data(...)`, and print its notes."""
    return _with_notes_printed(own.load_own_data(dataset, data, provenance, is_quiet()))


def _with_notes_printed(found: DataSet) -> DataSet:
    """Print the notes of a data set, and return it."""
    for note in found.notes:
        say(note)
    return found
