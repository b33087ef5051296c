"""The settings of a benchmark, which are the options of `dvae-eval benchmark`."""

from __future__ import annotations

from dataclasses import dataclass

from dvae_core.config import option, validate
from dvae_core.errors import ConfigError

KINDS = ("logz", "likelihood")
SUITES = ("quick", "standard", "trained", "large")


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """Settings of a benchmark."""

    kind: str = option(
        "logz",
        "What to estimate: log Z of Boltzmann machines, or log p(x) of small discrete VAEs (--suite quick only).",
        choices=KINDS,
    )
    suite: str = option("quick", "Suite of test machines, from dvae_eval.test_machines.", choices=SUITES)
    budget: float = option(1.0, "CPU seconds per run.", min=0.05, max=1e6)
    n_seeds: int = option(
        1, "Runs per method and machine, with successive seeds.", min=1, max=10**6, flag="--seeds"
    )
    seed: int = option(0, "First seed.", min=0, max=2**31)

    def __post_init__(self) -> None:
        """Validate."""
        validate(self)
        if self.kind == "likelihood" and self.suite != "quick":
            raise ConfigError(f"--suite {self.suite}: is for --kind logz only; give --suite quick")
