"""By what rule an estimate stopped, and whether another rule can continue from where it did."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import LogZConfig

# Settings that say when to stop; and those of what follows a run, which changes none of its samples.
RULE = ("precision", "time_limit", "n_sweeps")
AFTER = ("sandwich", "against_exact", "n_chains")


def rule_of(config: LogZConfig) -> dict[str, float]:
    """Return the settings that say when a run stops."""
    return {name: getattr(config, name) for name in RULE}


def packed(value: Any) -> NDArray[np.uint8]:
    """Return a JSON value as an array."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpacked(array: NDArray[Any]) -> Any:
    """Return the JSON value of an array."""
    return json.loads(array.tobytes().decode())
