"""Replacing the log Z of a likelihood by a better estimate, which shifts every image by the same amount."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..results import LikelihoodResult, LogZResult
from ..verdict import Check, failures_of

# A larger error of log Z could decide between models; that of the paper was about 0.05.
LOG_Z_LIMIT = 0.05
LOG_Z_DOUBTFUL, LOG_Z_ERROR = "log Z was found not to be trustworthy", "standard error of log Z, nats"
# The part of the bound that contains log Z, for models of this project and for others.
PRIOR_PARTS = ("kl_rbm", "log_joint")
# Columns from which log Z is subtracted.
SHIFTED_COLUMNS = ("log_likelihood", "elbo", "importance")
NO_REASON = "marked as not trustworthy, without a reason; estimate it again"
# Key of the diagnostics with the original log Z, if it was replaced.
APPLIED = "log_z_applied"


def check_log_z(log_z: LogZResult) -> list[Check]:
    """Return the checks of the log Z that a likelihood uses."""
    doubts = "; ".join(log_z.reasons)
    doubtful = [] if log_z.trustworthy else [Check.at_most(LOG_Z_DOUBTFUL, 1.0, 0.0, doubts)]
    # A result file has null where an error was not finite.
    std_err = math.inf if log_z.std_err is None else log_z.std_err
    remedy = "estimate log Z with more --sweeps"
    return [*doubtful, Check.at_most(LOG_Z_ERROR, std_err, LOG_Z_LIMIT, remedy, warning=True)]


def is_better(log_z: LogZResult, likelihood: LikelihoodResult) -> bool:
    """Return whether `log_z` is of the same prior, trustworthy, and at least as accurate as the likelihood's."""
    prior = log_z.model.get("prior_sha256")
    if prior is None or prior != likelihood.model.get("prior_sha256") or not log_z.trustworthy:
        return False
    if any(number is None for number in (log_z.log_z, log_z.std_err, likelihood.log_z)):
        return False
    before = likelihood.std_err_log_z
    if (log_z.log_z, log_z.std_err) == (likelihood.log_z, before):
        return False
    was_doubtful = any(check.name == LOG_Z_DOUBTFUL for check in likelihood.checks)
    return was_doubtful or before is None or log_z.std_err <= before


def on_log_z(likelihood: LikelihoodResult, log_z: LogZResult, source: str) -> LikelihoodResult:
    """Return a likelihood with another log Z of the same prior.

    Parameters
    ----------
    likelihood : LikelihoodResult
    log_z : LogZResult
    source : str
        Where that log Z came from; stored in the result.

    Returns
    -------
    LikelihoodResult
        Its `diagnostics["log_z_applied"]` has `log_z` and `source` of the original log Z, and the `shift` of every
        image, nats.
    """
    shift = likelihood.log_z - log_z.log_z
    mean = likelihood.log_likelihood
    made_with = {"log_z": likelihood.log_z, "source": likelihood.log_z_source, "shift": shift}
    others = [check for check in likelihood.checks if check.name not in (LOG_Z_DOUBTFUL, LOG_Z_ERROR)]
    names = {check.name for check in likelihood.checks}
    checks = [c for c in check_log_z(log_z) if c.name in names or not c.passed] + others
    reasons = failures_of(checks)
    if not likelihood.trustworthy and not failures_of(likelihood.checks):
        reasons = likelihood.reasons or [NO_REASON]  # no check of a file of an earlier version explains it
    bits = likelihood.bits_per_dim
    return replace(
        likelihood,
        log_likelihood=mean + shift,
        elbo=likelihood.elbo + shift,
        elbo_parts=_shifted_part(likelihood.elbo_parts, shift),
        bits_per_dim=bits * (mean + shift) / mean if bits is not None and mean else bits,
        per_image={
            k: _shifted(v, shift if k in SHIFTED_COLUMNS else 0.0) for k, v in likelihood.per_image.items()
        },
        log_z=log_z.log_z,
        std_err_log_z=log_z.std_err,
        log_z_source=source,
        diagnostics={
            **_shifted_diagnostics(likelihood.diagnostics, shift),
            "checks": [asdict(check) for check in checks],
            APPLIED: made_with,
        },
        trustworthy=not reasons,
        reasons=reasons,
    )


def _shifted_part(parts: Mapping[str, float], shift: float) -> dict[str, float]:
    """Return the parts of the bound, with the one that contains log Z shifted."""
    name = next((name for name in PRIOR_PARTS if name in parts), None)
    return {key: value + shift if key == name else value for key, value in parts.items()}


def _shifted(values: Sequence[float | None], shift: float) -> list[Any]:
    """Return numbers with the shift added; a file has null where one is not finite."""
    return [value if value is None or not shift else value + shift for value in values]


def _shifted_diagnostics(found: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """Return diagnostics with their log-likelihoods shifted: the curve, the classes and importance weighting's."""
    shifted = dict(found)
    for name in ("bound_curve", "per_class"):
        if isinstance(part := found.get(name), dict) and "log_likelihood" in part:
            shifted[name] = {**part, "log_likelihood": _shifted(part["log_likelihood"], shift)}
    if isinstance(part := found.get("importance"), dict) and part.get("log_likelihood") is not None:
        shifted["importance"] = {**part, "log_likelihood": part["log_likelihood"] + shift}
    return shifted
