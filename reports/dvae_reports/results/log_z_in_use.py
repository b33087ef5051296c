"""One log Z per prior: a log-likelihood is shown with the best log Z of its run, or names its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dvae_core.text import error_text, estimate, signed
from dvae_eval.likelihood.on_log_z import APPLIED, is_better, on_log_z
from dvae_eval.results import LikelihoodResult, LogZResult


def on_best_log_z(likelihood: LikelihoodResult, log_z: LogZResult | None, source: Path) -> LikelihoodResult:
    """Return the log-likelihood with the log Z of the file `source` if that is better, else with its own.

    With its own, it no longer names `source` as the origin if the file now has another number.
    """
    if log_z is not None and is_better(log_z, likelihood):
        return on_log_z(likelihood, log_z, str(source))
    named = Path(likelihood.log_z_source)
    if named.name == source.name and (log_z is None or log_z.log_z != likelihood.log_z):
        return replace(likelihood, log_z_source="an earlier estimate")
    return likelihood


def shift_of(likelihood: LikelihoodResult) -> float:
    """Return the shift of every image's log-likelihood from the value in its file, nats."""
    return float(likelihood.diagnostics.get(APPLIED, {}).get("shift", 0.0))


def applied_note(likelihood: LikelihoodResult) -> str:
    """Return a note on a log-likelihood that uses another log Z than its file; empty for its own."""
    if (made_with := likelihood.diagnostics.get(APPLIED)) is None:
        return ""
    shift, error = made_with["shift"], likelihood.std_err_log_z
    before = estimate(made_with["log_z"], error).partition(" ")[0]
    now = estimate(likelihood.log_z, error)
    return (
        f"the log-likelihood was computed with log Z = {before}; here it uses the better {now} "
        f"({likelihood.log_z_source}), which shifts every image by exactly {signed(shift, 4)} nats"
    )


def log_z_notes(likelihood: LikelihoodResult, log_z: LogZResult | None) -> list[str]:
    """Return the notes of a page if there are, or were, two estimates of log Z for one prior."""
    if note := applied_note(likelihood):
        return [f"{note[0].upper()}{note[1:]}."]
    if log_z is None or None in (log_z.log_z, likelihood.log_z) or log_z.log_z == likelihood.log_z:
        return []
    own = estimate(likelihood.log_z, likelihood.std_err_log_z)
    difference = likelihood.log_z - log_z.log_z
    return [
        f"The log-likelihood was computed with log Z = {own} ({likelihood.log_z_source}) and uses it here. With "
        f"{estimate(log_z.log_z, log_z.std_err)} from logz.json it would be {error_text(abs(difference))} nats "
        f"{'higher' if difference > 0 else 'lower'}."
    ]
