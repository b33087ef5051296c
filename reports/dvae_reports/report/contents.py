"""The contents of a report, recorded in its head, so that a page with less does not replace it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path

from dvae_core.io.files import read_text

from ..results.machine_record import MachineRecord
from ..results.run_directory import RunRecord

META = re.compile(r'<meta name="dvae-contents" content="([^"]*)">')
TITLE = re.compile(r"<title>(.*?) · discrete VAE report</title>")


def contents(records: Sequence[RunRecord]) -> list[str]:
    """Return a name for each result that a report on these runs shows."""
    parts = ("epochs", "log_z", "likelihood", "samples")
    return [f"{r.directory.resolve().name}: {part}" for r in records for part in parts if getattr(r, part)]


def machine_contents(record: MachineRecord) -> list[str]:
    """Return a name for each result that a report on a machine shows."""
    return [f"{record.model.get('prior_sha256')}: {found.kind}" for found in record.results]


def read_contents(page: str) -> set[str] | None:
    """Return the recorded contents of a page; None if it records none (an earlier version, another program)."""
    found = META.search(page)
    try:
        return set(json.loads(unescape(found.group(1)))) if found else None
    except (TypeError, ValueError):
        return None


def shows_as_much(page: str, old: Path) -> bool:
    """Return whether a page shows everything that the page in the file `old` shows."""
    try:
        before = read_text(old)
    except (OSError, ValueError):
        return False
    if (shown := read_contents(before)) is not None:
        return shown <= (read_contents(page) or set())
    # Pages of earlier versions name their runs in the title only.
    titles = [TITLE.search(text) for text in (page, before)]
    return all(titles) and len({title.group(1) for title in titles if title}) == 1
