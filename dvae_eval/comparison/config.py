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
        "How the machine's own numbers are had: exactly if that takes some 4 minutes at the most, else by "
        "parallel tempering.",
        choices=("auto", "exact", "pt"),
    )
    n_sweeps: int = option(
        0, "Sweeps of every chain in each tempered run (0 = what some 20 s allow).", min=0, max=10**9
    )
    n_replicates: int = option(32, "Independent replicates of each tempered run.", min=4, max=100_000)
    basins: bool = option(True, "Weights of the machine's basins, too.")
    n_worst: int = option(
        10, "Deviations of units and pairs that are listed, the largest first.", min=1, max=10**6
    )
    seed: int = option(0, "Fixes the result.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)
        if 0 < self.n_sweeps < 20:
            raise ConfigError(f"--sweeps: {self.n_sweeps} are too few for an estimate; give at least 20, or 0")
