"""Settings of the comparison of samples: frozen, validated, and the source of the command line's options."""

from __future__ import annotations

from dataclasses import dataclass

from dvae_core.config import option, validate
from dvae_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """Settings of the comparison of samples with a machine."""

    method: str = option(
        "auto",
        "Method for the machine's own averages; auto is exact where that takes at most about 4 minutes, else "
        "parallel tempering.",
        choices=("auto", "exact", "pt"),
    )
    n_sweeps: int = option(
        0, "Sweeps of each chain in each tempered run (0 = what about 20 s allow).", min=0, max=10**9
    )
    n_replicates: int = option(32, "Independent replicates of each tempered run.", min=4, max=100_000)
    basins: bool = option(True, "Also report the weights of the machine's basins.")
    n_worst: int = option(
        10, "Number of deviations of units and pairs to list, the largest first.", min=1, max=10**6
    )
    seed: int = option(0, "Random seed; it determines the result.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)
        if 0 < self.n_sweeps < 20:
            raise ConfigError(f"--sweeps: {self.n_sweeps} are too few for an estimate; give at least 20, or 0")
