"""The lines about an estimate of log Z: how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dvae_core.text import decimals, error_text, fixed, plain, signed
from dvae_eval.results import LogZResult


def details(result: LogZResult) -> list[str]:
    """Return lines to print: how the estimate was made."""
    return [*_measured(result), *_begun(result), *_path_and_bounds(result)]


def _measured(result: LogZResult) -> Iterator[str]:
    """Yield lines about the numbers: the exact value, the sampler's interval, and the data's log-likelihood."""
    found, digits = result.diagnostics, decimals(result.std_err)
    if "exact" in found:
        difference = result.log_z - found["exact"]["log_z"]
        in_errors = f" = {difference / result.std_err:+.1f} standard errors" if result.std_err else ""
        exact = plain(fixed(found["exact"]["log_z"], digits))
        yield f"exact log Z = {exact}; difference {plain(signed(difference, digits))}{in_errors}"
    if "betas" in found:
        low, high = (plain(fixed(end, digits)) for end in result.ci95)
        kind = "repeats" if "repeats_std_err" in found else "replicates"
        yield (
            f"95% interval [{low}, {high}]; {len(result.repeats)} {kind} "
            f"of {len(found['betas'])} rungs, {found['n_sweeps']} sweeps (ended by {found['stopped']}), "
            f"lowest exchange rate {min(found['exchange_rates']):.2f}; "
            f"{sum(c['passed'] for c in found['checks'])} of {len(found['checks'])} checks passed"
        )
    for name, mean in found.get("log_likelihood", {}).get("splits", {}).items():
        what = "rows" if name == "all" else f"{name} images"
        number = plain(fixed(mean["mean"], decimals(mean["std_err_images"])))
        error = error_text(mean["std_err_images"])
        yield f"log-likelihood of {mean['n_images']} {what}: {number} ± {error} nats per image"


def _begun(result: LogZResult) -> Iterator[str]:
    """Yield lines about the start of the run: starting states, an earlier result, a run from another reference."""
    found = result.diagnostics
    if starts := result.settings.get("starts"):
        yield f"some replicates started from {starts['n_states']} states: {_source(starts)}"
    for part in found.get("continued_from", [])[-1:]:
        yield _continued(part)
    if first := found.get("uniform_run"):
        log_z, error = (fixed(first[name], decimals(first["std_err"])) for name in ("log_z", "std_err"))
        yield (
            f"reference: the machine's modes; a shorter run from the uniform reference gave {plain(log_z)} "
            f"± {error}"
        )


def _path_and_bounds(result: LogZResult) -> Iterator[str]:
    """Yield lines about the path, and about bounds that hold beside the estimate."""
    found = result.diagnostics
    if path := found.get("path"):
        what = {"beta": "all couplings scaled", "trajectory": "along the training"}[path["chosen"]]
        yield (
            f"path: {what}; communication barrier {path['barrier_beta']:.1f} in beta, "
            f"{path['barrier_trajectory']:.1f} along the training"
        )
    if bounds := found.get("sandwich"):
        digits = decimals(result.std_err)
        low, high = (plain(fixed(bounds[side], digits)) for side in ("lower_bound", "upper_bound"))
        yield f"bounds by annealing (95%): {low} <= log Z <= {high}"
    if "lower_bound" in found:
        n, bound = found["n_basins"], math.floor(found["lower_bound"] * 1e4) / 1e4
        yield f"strict lower bound: log Z >= {bound:.4f}, from {n} known {'basin' if n == 1 else 'basins'}"


def _continued(part: dict[str, Any]) -> str:
    """Return the line about the earlier result that was continued."""
    if "n_repeats" in part:
        return f"continued from {part['n_done']} repeats"
    error = "" if part["std_err"] is None else f", ± {error_text(part['std_err'])}"
    return f"continued from {part['n_done']} sweeps{error} ({part['date'][:10]})"


def _source(starts: dict[str, Any]) -> str:
    """Return the source of the starting states."""
    place = starts.get("file") or starts.get("data") or starts.get("codes_of") or starts.get("states_of", "")
    return f"codes of {place}" if "codes_of" in starts else str(place)
