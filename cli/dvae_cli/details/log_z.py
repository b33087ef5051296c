"""The lines about an estimate of log Z: how it was made."""

from __future__ import annotations

import math
from typing import Any

from dvae_core.text import decimals, error_text, fixed, plain, signed
from dvae_eval.results import LogZResult


def details(result: LogZResult) -> list[str]:
    """Return lines to print: how the estimate was made."""
    found = result.diagnostics
    lines = []
    if "exact" in found:
        difference = result.log_z - found["exact"]["log_z"]
        in_errors = f" = {difference / result.std_err:+.1f} standard errors" if result.std_err else ""
        digits = decimals(result.std_err)
        exact = plain(fixed(found["exact"]["log_z"], digits))
        lines.append(f"exact log Z = {exact}; difference {plain(signed(difference, digits))}{in_errors}")
    if "betas" in found:
        low, high = (plain(fixed(end, decimals(result.std_err))) for end in result.ci95)
        kind = "repeats" if "repeats_std_err" in found else "replicates"
        lines.append(
            f"95% interval [{low}, {high}]; {len(result.repeats)} {kind} "
            f"of {len(found['betas'])} rungs, {found['n_sweeps']} sweeps (ended by {found['stopped']}), "
            f"lowest exchange rate {min(found['exchange_rates']):.2f}; "
            f"{sum(c['passed'] for c in found['checks'])} of {len(found['checks'])} checks passed"
        )
    for name, mean in found.get("log_likelihood", {}).get("splits", {}).items():
        digits = decimals(mean["std_err_images"])
        what = "rows" if name == "all" else f"{name} images"
        lines.append(
            f"log-likelihood of {mean['n_images']} {what}: {plain(fixed(mean['mean'], digits))} "
            f"± {error_text(mean['std_err_images'])} nats per image"
        )
    if starts := result.settings.get("starts"):
        lines.append(f"some replicates started from {starts['n_states']} states: {_source(starts)}")
    lines += [_continued(part) for part in found.get("continued_from", [])[-1:]]
    if "uniform_run" in found:
        first = found["uniform_run"]
        log_z, error = (
            fixed(first["log_z"], decimals(first["std_err"])),
            fixed(first["std_err"], decimals(first["std_err"])),
        )
        lines.append(
            f"reference: the machine's modes; a shorter run from the uniform reference gave {plain(log_z)} ± "
            f"{error}"
        )
    if "path" in found:
        path = found["path"]
        what = {"beta": "all couplings scaled", "trajectory": "along the training"}[path["chosen"]]
        lines.append(
            f"path: {what}; communication barrier {path['barrier_beta']:.1f} in beta, "
            f"{path['barrier_trajectory']:.1f} along the training"
        )
    if bounds := found.get("sandwich"):
        digits = decimals(result.std_err)
        low, high = (plain(fixed(bounds[side], digits)) for side in ("lower_bound", "upper_bound"))
        lines.append(f"bounds by annealing (95%): {low} <= log Z <= {high}")
    if "lower_bound" in found:
        n, bound = found["n_basins"], math.floor(found["lower_bound"] * 1e4) / 1e4
        lines.append(f"strict lower bound: log Z >= {bound:.4f}, from {n} known {'basin' if n == 1 else 'basins'}")
    return lines


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
