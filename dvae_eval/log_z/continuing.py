"""Which finished runs an estimate can continue from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from dvae_core.io.containers import unpacked

from ..config import LogZConfig
from ..runtime.resume import below
from .checks import student_limit
from .methods import Estimate
from .record import AFTER, RULE, rule_of
from .run import PRECISION, chunk_of, first_rate_check, least_rate_of

Arrays = Mapping[str, NDArray[Any]]


def fixed_settings(config: LogZConfig, method: str) -> dict[str, Any]:
    """Return the settings that a run shares with the runs that continue it.

    More repeats continue repeats; more sweeps continue a single run.
    """
    settings = {**dataclasses.asdict(config), "method": method}
    is_many = config.n_repeats > 1
    left_out = ("n_repeats",) if is_many else (*RULE, *AFTER)
    kept = {name: value for name, value in settings.items() if name not in left_out}
    return {**kept, "is_many": is_many, "has_length": config.n_sweeps > 0}


def can_continue(arrays: Arrays, config: LogZConfig) -> bool:
    """Return whether a run with these settings can begin with the arrays of one that had another stopping rule.

    A looser rule would have stopped earlier, so its run starts from the beginning.  So does a run of fixed length
    if the shorter one used shorter blocks, or would have adapted its schedule again at another time.
    """
    if "repeats" in arrays:
        return config.n_repeats > 1
    state = _last_run(arrays)
    if "record" not in state:
        return False
    record = unpacked(state["record"])
    rule = {name: record[name] for name in RULE}
    if rule == rule_of(config):
        return True
    if int(state["n_replicates"]) != config.n_replicates or 0 < config.time_limit < rule["time_limit"]:
        return False
    if config.n_sweeps:
        return rule["n_sweeps"] <= config.n_sweeps and _is_same_start(state, int(rule["n_sweeps"]), config)
    errors, precision = state["errors"], config.precision or PRECISION
    # The last error is that at the end.
    return precision <= (rule["precision"] or PRECISION) or not len(errors) or errors[-1, 1] > precision


def of_more_comparisons(estimate: Estimate, before: int, n: int) -> Estimate | None:
    """Return the estimate of a repeat with its checks' limits for n repeats instead of `before`.

    None if more than the limits depends on the number of repeats: such a repeat must run again.
    """
    if n == before:
        return estimate
    first = estimate.diagnostics.get("uniform_run", {})
    if "referee" in estimate.diagnostics or first.get("failed_checks") or (first and n < before):
        return None
    independent = estimate.n_independent
    limits = {
        student_limit(independent - k, m * before): student_limit(independent - k, m * n)
        for k, m in ((0, 1), (2, 2))
        if independent - k > 1
    }
    checks = [
        replace(c, threshold=limits[c.threshold], passed=c.value <= limits[c.threshold])
        if c.threshold in limits
        else c
        for c in estimate.checks
    ]
    return replace(estimate, checks=checks)


def _last_run(arrays: Arrays) -> Arrays:
    """Return the state of the run that made the estimate: the second one where two are stored."""
    prefix = next((p for p in ("second/", "first/", "") if f"{p}betas" in arrays), "")
    return below(prefix, arrays)


def _is_same_start(state: Arrays, n_sweeps: int, config: LogZConfig) -> bool:
    """Return whether a run of fixed length began as a longer one would."""
    if int(state["sums/chunk"]) != (chunk := chunk_of(config.n_sweeps)):
        return False
    due = first_rate_check(config.n_sweeps)
    if due == first_rate_check(n_sweeps):
        return True
    rates, at = state["least_rates"], -(-due // chunk) - 1  # of the first chunk that ends at `due` or later
    is_seen = at < len(rates)
    is_sound = not is_seen or rates[at] >= least_rate_of(config.exchange_rate)
    return is_sound and not bool(state["looked"][1])
