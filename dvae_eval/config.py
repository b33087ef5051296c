"""Settings of the estimators: frozen, validated, and the single source of the command line's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dvae_core.config import option, validate
from dvae_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LogZConfig:
    """Settings of an estimate of log Z."""

    method: str = option(
        "auto",
        "Method; auto is exact where log Z can be computed exactly and quickly, else pt-bar (parallel tempering "
        "and Bennett's acceptance ratio).",
        choices=("auto", "exact", "pt-bar", "ais", "reverse-ais"),
    )
    precision: float = option(
        0.0,
        "Run until the standard error, in nats, is this small (0 = 0.002, or what about 20 s reach). A smaller "
        "value continues an earlier run.",
        min=0.0,
        max=1e6,
    )
    time_limit: float = option(
        0.0,
        "Stop after this number of seconds and report the estimate reached by then (0 = no limit, but 30 s "
        "without --precision and --sweeps).",
        min=0.0,
        max=1e9,
    )
    n_sweeps: int = option(
        0,
        "Block Gibbs sweeps of each chain, burn-in included (0 = as --precision requires). More sweeps continue "
        "an earlier run.",
        min=0,
        max=10**9,
    )
    burn_in: float = option(
        0.25, "Fraction of the sweeps to discard at the start (the paper: 0.5).", min=0.0, max=0.95
    )
    n_replicates: int = option(
        32,
        "Independent replicates of the run; their spread is the standard error.",
        min=2,
        max=100_000,
        formerly="n_ladders",
    )
    exchange_rate: float = option(
        0.5, "Target exchange rate of neighbouring rungs, which sets the schedule.", min=0.05, max=0.95
    )
    exchange: Literal["even-odd", "random"] = option(
        "even-odd",
        "Pairs of neighbours that exchange: even and odd pairs in turn, or chosen at random.",
        choices=("even-odd", "random"),
    )
    energies: Literal["reduced", "joint"] = option(
        "reduced",
        "Energies for exchanges and BAR: reduced (one side summed out) or joint (the paper).",
        choices=("reduced", "joint"),
    )
    reference: Literal["auto", "uniform", "fitted", "modes"] = option(
        "auto",
        "Reference distribution, at β = 0: uniform, independent units fitted to samples of the machine, or a "
        "mixture at its modes; auto tries uniform, then modes where a smaller error is expected.",
        choices=("auto", "uniform", "fitted", "modes"),
        formerly="base",
    )
    path: Literal["beta", "trajectory"] = option(
        "beta",
        "Path from the reference to the machine: scaled couplings (beta), or the machines of its training.",
        choices=("beta", "trajectory"),
    )
    n_repeats: int = option(
        1,
        "Independent estimates, whose mean is reported. More repeats continue an earlier run.",
        min=1,
        max=100_000,
    )
    n_chains: int = option(1000, "Chains for ais, reverse-ais and --sandwich.", min=16, max=10**8)
    sandwich: bool = option(False, "Bracket pt-bar by forward and reverse AIS: two stochastic bounds.")
    against_exact: bool = option(False, "Also compute the exact value, and compare the estimate with it.")
    seed: int = option(0, "Random seed; it determines the result.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)
        if 0 < self.n_sweeps < 20:
            raise ConfigError(f"--sweeps: {self.n_sweeps} are too few for an estimate; give at least 20, or 0")
        if self.reference == "modes" and self.energies == "joint":
            raise ConfigError("--energies joint: --reference modes needs reduced energies; omit one of the two")
        if self.path == "trajectory" and (self.energies == "joint" or self.reference in ("fitted", "modes")):
            given = "--energies joint" if self.energies == "joint" else f"--reference {self.reference}"
            raise ConfigError(f"{given}: cannot be combined with a path along a training; omit one of the two")


# Settings by name.  From Appendix H.1 of the paper, whose estimates are repeated runs.
LOG_Z_PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "energies": "joint",
        "exchange": "random",
        "burn_in": 0.5,
        "exchange_rate": 0.5,
        "reference": "uniform",
    }
}


def betas_of(text: str) -> tuple[float, ...]:
    """Return inverse temperatures from a text: `0.5,1,2`, or `0.1:2:20` for 20 values from 0.1 to 2.

    Raises
    ------
    ConfigError
        If the text has neither form.
    """
    try:
        if ":" in text:
            start, stop, n = text.split(":")
            if not 1 < int(n) <= MAX_BETAS:
                raise ValueError
            step = (float(stop) - float(start)) / (int(n) - 1)
            return tuple(round(float(start) + k * step, 12) for k in range(int(n)))
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ConfigError(
            f"--betas: {text!r} is neither a list such as 0.5,1,2 nor start:stop:count such as 0.1:2:20"
        ) from None


MAX_BETAS = 1000


@dataclass(frozen=True, slots=True)
class ObservablesConfig:
    """Settings of observables along β."""

    betas: tuple[float, ...] = option(
        (1.0,),
        "Inverse temperatures, such as 0.5,1,2 or 0.1:2:20 (start:stop:count); 1 is always included. [default: 1]",
        min=0.0,
        max=1e6,
        parse=betas_of,
    )
    method: str = option(
        "auto",
        "Method; auto differentiates the exact log Z where that takes at most about 4 minutes, else uses parallel "
        "tempering.",
        choices=("auto", "exact", "pt"),
    )
    correlations: bool = option(True, "Also report the correlations of all coupled pairs.")
    time_limit: float = option(
        0.0,
        "Stop after this number of seconds and report the averages reached by then (0 = no limit, but 30 s "
        "without --sweeps).",
        min=0.0,
        max=1e9,
    )
    n_sweeps: int = option(
        0, "Block Gibbs sweeps of each chain, burn-in included (0 = what about 20 s allow).", min=0, max=10**9
    )
    burn_in: float = option(0.25, "Fraction of the sweeps to discard at the start.", min=0.0, max=0.95)
    n_replicates: int = option(
        32, "Independent replicates of the run; their spread is the standard error.", min=4, max=100_000
    )
    exchange_rate: float = option(
        0.5, "Target exchange rate of neighbouring rungs, which sets the schedule.", min=0.05, max=0.95
    )
    seed: int = option(0, "Random seed; it determines the result.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings, and sort the inverse temperatures."""
        validate(self)
        if 0 < self.n_sweeps < 20:
            raise ConfigError(f"--sweeps: {self.n_sweeps} are too few for an estimate; give at least 20, or 0")
        if len(self.betas) > MAX_BETAS:
            raise ConfigError(f"--betas: {len(self.betas)} are too many; give at most {MAX_BETAS}")
        object.__setattr__(self, "betas", tuple(sorted({1.0, *map(float, self.betas)})))


@dataclass(frozen=True, slots=True)
class LikelihoodConfig:
    """Settings of the log-likelihood of images."""

    method: str = option(
        "importance",
        "Method: importance weighting alone, or also annealing from q to the posterior (slow; use --limit).",
        choices=("importance", "ais"),
    )
    n_samples: int = option(
        10_000, "Importance samples per image, K. More samples continue an earlier result.", min=1, max=10**8
    )
    limit: int = option(
        0,
        "Number of images to evaluate, evenly spread over the split (0 = all). More images continue an earlier "
        "result.",
        min=0,
        max=10**9,
    )
    split: Literal["train", "valid", "test"] = option(
        "test", "Part of the data set.", choices=("train", "valid", "test")
    )
    as_trained: bool = option(
        True, "Measure the model as trained; --no-smoothing sets zeta = z (footnote 5).", flag="--smoothing"
    )
    precision: str = option(
        "float32",
        "Precision of the networks. tf32 and bf16 need CUDA; their effect on the estimate is measured.",
        choices=("float32", "float64", "tf32", "bf16"),
    )
    log_z_error: float = option(
        0.02, "Standard error, in nats, to which log Z is estimated where it has no result yet.", min=1e-4, max=1.0
    )
    n_simulated: int = option(
        50,
        "Number of simulated images on which to bracket the gap; at most as many as are evaluated (0 = skip).",
        min=0,
        max=10**6,
    )
    n_ais_chains: int = option(100, "Chains per image for --method ais.", min=2, max=10**6)
    n_ais_steps: int = option(1000, "Temperatures from q to the posterior for --method ais.", min=1, max=10**6)
    seed: int = option(0, "Random seed; it determines the result.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)


@dataclass(frozen=True, slots=True)
class GradientConfig:
    """Settings of a comparison of gradient estimators."""

    n_samples: int = option(4000, "Draws per image and estimator.", min=8, max=10**8)
    n_reference: int = option(
        20_000, "Draws per image for the average that replaces the true gradient.", min=8, max=10**9
    )
    n_pilot: int = option(1000, "Draws per image to fit the baselines.", min=8, max=100_000)
    limit: int = option(10, "Number of images to use: the first ones of the split.", min=1, max=100)
    split: Literal["train", "valid", "test"] = option(
        "test", "Part of the data set.", choices=("train", "valid", "test")
    )
    seed: int = option(0, "Random seed; it determines the result, except for the times.", min=0, max=2**63 - 1)

    def __post_init__(self) -> None:
        """Validate the settings."""
        validate(self)
