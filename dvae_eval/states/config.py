"""Settings of samples: frozen, validated, and the single source of the command line's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dvae_core.config import option, validate

from ..config import LogZConfig

FORMATS = ("npz", "csv", "dimod")  # file formats of states


@dataclass(frozen=True, slots=True)
class StatesConfig:
    """Settings of samples of a machine."""

    n: int = option(1000, "Number of states.", min=1, max=10**8)
    method: Literal["auto", "exact", "pt-bar"] = option(
        "auto",
        "Method; auto is exact (independent states) where that is quick, else pt-bar (parallel tempering).",
        choices=("auto", "exact", "pt-bar"),
    )
    precision: float = option(
        0.0,
        "Temper until the standard error of log Z, in nats, is this small (0 = 0.002, or what about 20 s reach).",
        min=0.0,
        max=1e6,
    )
    time_limit: float = option(
        0.0,
        "Stop tempering after this number of seconds (0 = no limit, but 30 s without --precision and --sweeps).",
        min=0.0,
        max=1e9,
    )
    n_sweeps: int = option(
        0, "Sweeps of each chain before states are taken (0 = as --precision requires).", min=0, max=10**9
    )
    n_replicates: int = option(
        32, "Independent replicates of the run; states are taken from all of them.", min=2, max=100_000
    )
    exchange_rate: float = option(
        0.5, "Target exchange rate of neighbouring rungs, which sets the schedule.", min=0.05, max=0.95
    )
    reference: Literal["auto", "uniform", "fitted", "modes"] = option(
        "auto",
        "Reference distribution, at β = 0, as for dvae-eval logz.",
        choices=("auto", "uniform", "fitted", "modes"),
    )
    best: bool = option(False, "Also report the most probable state, or the most probable one seen.")
    seed: int = option(0, "Random seed; it determines the states.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)
        self.of_log_z()

    def of_log_z(self) -> LogZConfig:
        """Return the settings of the run that estimates log Z and provides the states."""
        names = (
            "method",
            "precision",
            "time_limit",
            "n_sweeps",
            "n_replicates",
            "exchange_rate",
            "reference",
            "seed",
        )
        return LogZConfig(**{name: getattr(self, name) for name in names})
