"""Rows that the cards of results, samples and machines share: failed checks, the machine, the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dvae_core.cards import rows_of
from dvae_core.text import count, duration

from .verdict import Check, Level

# Failed checks that a card shows.
MAX_CHECKS = 2
COLOURS: dict[Level, Literal["good", "open", "bad"]] = {
    "exact": "good",
    "bracketed": "good",
    "checked": "good",
    "loose": "open",
    "doubtful": "bad",
}
Rows = tuple[tuple[str, str], ...]


def rows_of_checks(checks: Sequence[Check]) -> Rows:
    """Return the failed checks, failures before warnings, and their remedies."""
    failed = sorted((c for c in checks if not c.passed), key=lambda check: check.severity)
    shown = failed[:MAX_CHECKS]
    more = f"; {len(failed) - len(shown)} more in .checks" if len(failed) > len(shown) else ""
    found = "; ".join(check.finding for check in shown) + more
    name = "warning" if shown and shown[0].severity == "warning" else "failed"
    remedies = dict.fromkeys(check.remedy for check in shown)
    return rows_of((name, found), ("next", "; ".join(remedies)))


def size_of_machine(model: Mapping[str, Any]) -> str:
    """Return the size of a result's machine in words; empty if `model` does not state it."""
    if "n_left" in model and "n_right" in model:
        return f"RBM of {model['n_left']} + {model['n_right']} units"
    if "n_units" in model:
        bonds = model.get("n_edges", "?")
        return f"machine of {model['n_units']} units and {bonds} couplings"
    return ""


def rows_of_run(model: Mapping[str, Any], seed: int, seconds: float, device: object = None) -> Rows:
    """Return the rows of the machine and of the run: seed, time and device."""
    name = model.get("file")
    size = size_of_machine(model)
    run = f"seed {seed}, {duration(seconds)}" + (f" on {device}" if device else "")
    return rows_of(("machine", ", ".join(str(part) for part in (size, name) if part)), ("run", run))


def per(n: int, what: str) -> str:
    """Return a number with its noun, `1 image` or `1 000 images`."""
    return f"{count(n)} {what}" if n == 1 else f"{count(n)} {what}s"
