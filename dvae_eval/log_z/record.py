"""By what rule an estimate stopped, and whether another rule can continue from where it did."""

from __future__ import annotations

from ..config import LogZConfig

# Settings that say when to stop; and those of what follows a run, which changes none of its samples.
RULE = ("precision", "time_limit", "n_sweeps")
AFTER = ("sandwich", "against_exact", "n_chains")


def rule_of(config: LogZConfig) -> dict[str, float]:
    """Return the settings that say when a run stops."""
    return {name: getattr(config, name) for name in RULE}
