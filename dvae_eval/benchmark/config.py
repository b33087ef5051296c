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
        "What is estimated: log Z of Boltzmann machines, or log p(x) of small discrete VAEs (suite quick).",
        choices=KINDS,
    )
    suite: str = option("quick", "Which of dvae_eval.test_machines.", choices=SUITES)
    budget: float = option(1.0, "CPU seconds for each run.", min=0.05, max=1e6)
    n_seeds: int = option(
        1, "Runs of each method on each machine, with seeds 0, 1, ...", min=1, max=10**6, flag="--seeds"
    )
    seed: int = option(0, "The first seed.", min=0, max=2**31)

    def __post_init__(self) -> None:
        """Validate."""
        validate(self)
        if self.kind == "likelihood" and self.suite != "quick":
            raise ConfigError(f"--suite {self.suite}: is for --kind logz only; give --suite quick")
