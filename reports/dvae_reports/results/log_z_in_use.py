"""One log Z for one prior: a likelihood is shown on the best one that lies beside it, or says whose it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dvae_core.text import error_text, estimate, signed
from dvae_eval.likelihood.on_log_z import APPLIED, is_better, on_log_z
from dvae_eval.results import LikelihoodResult, LogZResult


def on_best_log_z(likelihood: LikelihoodResult, log_z: LogZResult | None, source: Path) -> LikelihoodResult:
    """Return the likelihood on the log Z in the file `source` if that is the better one, else on its own.

    The file is then not named as the origin of a number that it does not hold any more.
    """
    if log_z is not None and is_better(log_z, likelihood):
        return on_log_z(likelihood, log_z, str(source))
    named = Path(likelihood.log_z_source)
    if named.name == source.name and (log_z is None or log_z.log_z != likelihood.log_z):
        return replace(likelihood, log_z_source="its own, estimated before")
    return likelihood


def shift_of(likelihood: LikelihoodResult) -> float:
    """Return by how much every image lies above what the likelihood's file says, nats."""
    return float(likelihood.diagnostics.get(APPLIED, {}).get("shift", 0.0))


def applied_note(likelihood: LikelihoodResult) -> str:
    """Say on which log Z a likelihood stands that was made with another one; empty for its own."""
    if (made_with := likelihood.diagnostics.get(APPLIED)) is None:
        return ""
    shift, error = made_with["shift"], likelihood.std_err_log_z
    before = estimate(made_with["log_z"], error).partition(" ")[0]
    now = estimate(likelihood.log_z, error)
    return (
        f"the log-likelihood was made with log Z = {before} and stands here on the better {now} "
        f"({likelihood.log_z_source}): every image shifts by {signed(shift, 4)} nats, exactly"
    )


def log_z_notes(likelihood: LikelihoodResult, log_z: LogZResult | None) -> list[str]:
    """Return what a page says where two log Zs of one prior are, or were, there."""
    if note := applied_note(likelihood):
        return [f"{note[0].upper()}{note[1:]}."]
    if log_z is None or None in (log_z.log_z, likelihood.log_z) or log_z.log_z == likelihood.log_z:
        return []
    own = estimate(likelihood.log_z, likelihood.std_err_log_z)
    difference = likelihood.log_z - log_z.log_z
    return [
        f"The log-likelihood was computed with log Z = {own} ({likelihood.log_z_source}), and stands on it; with "
        f"the {estimate(log_z.log_z, log_z.std_err)} of logz.json it would be {error_text(abs(difference))} nats "
        f"{'higher' if difference > 0 else 'lower'}."
    ]
