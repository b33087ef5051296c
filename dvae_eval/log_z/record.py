"""The rule by which an estimate stops, stored so that a run with another rule can continue from there."""

from __future__ import annotations

from ..config import LogZConfig

# Settings of the stopping rule; and those of the steps after a run, which change none of its samples.
RULE = ("precision", "time_limit", "n_sweeps")
AFTER = ("sandwich", "against_exact", "n_chains")


def rule_of(config: LogZConfig) -> dict[str, float]:
    """Return the settings that decide when a run stops."""
    return {name: getattr(config, name) for name in RULE}
