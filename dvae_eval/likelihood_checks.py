"""Whether a log-likelihood may be trusted: checks that can fail, each with its limit and what to do."""

from __future__ import annotations

import math

from .image_estimates import ImageEstimates
from .results import Check, LogZResult

__all__ = ["check_agreement", "check_likelihood"]

# An error of log Z beyond this would decide between models; the paper's own was about 0.05.
LOG_Z_LIMIT = 0.05
# A bound that lies further below the log-likelihood than this would, too, though it errs to the safe side.
GAP_LIMIT = 0.2
# Of the images whose weights have no mean to rely on, the share beyond which the mean over images has none either.
SUSPECT_LIMIT = 0.75
# A difference of two estimates of the same number that luck makes with a probability of 1e-4, in standard errors.
AGREEMENT_LIMIT = 3.9


def check_likelihood(log_z: LogZResult, estimate: ImageEstimates, effect: dict[str, float]) -> list[Check]:
    """Return the checks of a log-likelihood: log Z, the gap that the bound leaves, the tails of the weights.

    Parameters
    ----------
    log_z : LogZResult
        That the estimate was made with.
    estimate : ImageEstimates
    effect : dict of str to float
        What a change of precision does to the mean; empty if there was none.
    """
    checks = []
    if not log_z.trustworthy:
        reasons = "; ".join(log_z.reasons)
        checks.append(Check("log Z was found not to be trustworthy", 1.0, 0.0, False, reasons))
    remedy = "estimate log Z with more --sweeps"
    # A result file holds null where an error was not finite.
    std_err = math.inf if log_z.std_err is None else log_z.std_err
    checks.append(_at_most("standard error of log Z, nats", std_err, LOG_Z_LIMIT, remedy))
    if estimate.gap is not None:
        remedy = "the bound holds, but is loose: give more --samples, or see --method ais"
        checks.append(
            _at_most("estimated gap between bound and log-likelihood, nats", estimate.gap, GAP_LIMIT, remedy)
        )
        share = float(estimate.suspect.mean())
        remedy = "compare with --method ais --limit 20"
        checks.append(
            _at_most("share of images whose weights have too heavy a tail", share, SUSPECT_LIMIT, remedy)
        )
    if effect:
        checks.append(
            _at_most("effect of --precision, nats", abs(effect["mean"]), LOG_Z_LIMIT, "use --precision float32")
        )
    return checks


def check_agreement(annealed: ImageEstimates, importance: ImageEstimates) -> list[Check]:
    """Return the check that annealing has found no less than importance weighting did."""
    found = importance.beside(annealed)
    if len(annealed.values) < 2:
        return []
    below = max(0.0, -found["difference"] / max(found["difference_std_err"], 1e-12))
    name, remedy = "annealing lies below importance weighting, in standard errors", "use more --ais-steps"
    return [_at_most(name, below, AGREEMENT_LIMIT, remedy)]


def _at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    return Check(name, value, threshold, value <= threshold, remedy)
