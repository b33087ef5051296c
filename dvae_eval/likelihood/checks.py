"""Whether a log-likelihood may be trusted: checks that can fail, each with its limit and what to do."""

from __future__ import annotations

import math

import numpy as np

from ..results import LogZResult
from ..verdict import Check
from .on_log_z import LOG_Z_LIMIT, check_log_z
from .per_image import ImageEstimates
from .simulated import SimulatedGap

# A bound holds however far below the log-likelihood it lies, as long as the gap is reported beside it.  For
# weights with known log p(x), log-normal ones and those of Gaussians that are too narrow or too wide, the gap was
# within a factor of about two of its estimate up to these limits, and anywhere beyond them
# (tests/test_likelihood_exact.py).
GAP_LIMIT = 2.0
SLOWING_LIMIT = 0.7
# A gap below this decides nothing, whatever its own error.
SMALL_GAP = 0.2
# Largest gap on simulated images that q's samples may fail to show: in nats, or as a multiple of the gap that they
# show, which is right within a factor of about two.
HIDDEN_GAP, HIDDEN_SHARE = 0.3, 3.0
# The bound from above is two to five times the gap where weights have heavy tails.  Beyond ten times, it comes
# from a few images of whose posterior q misses nearly all.  Its error is no criterion: those images make it.
LOOSENESS = 10.0
# A difference of two estimates of the same number that luck makes with a probability of 1e-4, in standard errors.
AGREEMENT_LIMIT = 3.9

LOOSE = "the bound holds, but is loose: give more --samples, or see --method ais --limit 20"
MISSED = (
    "the bound holds, but q hardly proposes some of the latents that the model uses, and its samples do not show "
    "that: see --method ais --limit 20"
)
MORE = "give more images or --samples, or see --method ais --limit 20"


def check_likelihood(log_z: LogZResult, estimate: ImageEstimates, effect: dict[str, float]) -> list[Check]:
    """Return the checks of a log-likelihood: log Z, and whether the gap of the bound is small and known.

    Heavy tails of the weights are not checked: their mean is then far from normal, but the bound holds, and its
    gap is wider.

    Parameters
    ----------
    log_z : LogZResult
        The one that was used.
    estimate : ImageEstimates
    effect : dict of str to float
        What the precision does to the mean; empty for float32 and float64.
    """
    checks = check_log_z(log_z)
    if estimate.gap is not None:
        name = "estimated gap between bound and log-likelihood, nats"
        checks.append(_bound_at_most(name, estimate.gap, GAP_LIMIT, LOOSE))
        name = "ratio of the bound's last two gains per decade of samples (1: not converging)"
        slowing = estimate.slowing if estimate.gap > SMALL_GAP else 0.0
        remedy = "the bound holds, but how far it lies below the log-likelihood is unknown: " + MORE
        checks.append(_bound_at_most(name, slowing, SLOWING_LIMIT, remedy))
    if effect:
        checks.append(
            Check.at_most(
                "effect of --precision, nats", abs(effect["mean"]), LOG_Z_LIMIT, "use --precision float32"
            )
        )
    return checks


def check_simulated(found: SimulatedGap) -> list[Check]:
    """Return the checks that the gap on simulated images is small, and that q's samples show it.

    Where q's samples are too few to estimate the gap, there is no estimate that could be wrong, and no check.
    """
    if found.gap_from_proposals is None:
        return []
    from_proposals = float(np.nan_to_num(found.gap_from_proposals))
    name = "gap on simulated images, less 2 standard errors, nats"
    # One image has no standard error, and an infinite gap needs none.
    gap = found.gap - 2 * float(np.nan_to_num(found.std_err))
    shown = max(HIDDEN_GAP, HIDDEN_SHARE * from_proposals)
    # A gap that q's samples do show is reported; one that they hide makes the reported one wrong.
    remedy = MISSED if gap > shown else LOOSE
    checks = [Check.at_most(name, gap, min(GAP_LIMIT, shown), remedy, warning=remedy is LOOSE)]
    name = "upper bound of the gap on simulated images, nats"
    largest = max(GAP_LIMIT, LOOSENESS * max(from_proposals, found.gap))
    return [*checks, Check.at_most(name, found.bound, largest, MISSED)]


def check_agreement(annealed: ImageEstimates, importance: ImageEstimates) -> list[Check]:
    """Return the check that annealing is not below importance weighting."""
    found = importance.compared_with(annealed)
    # The spread over a few images says little; the errors from the samples then decide.
    spread = np.nan_to_num(found["difference_std_err"])
    error = max(spread, math.hypot(annealed.std_err_samples, importance.std_err_samples), 1e-12)
    below = max(0.0, -found["difference"] / error)
    name, remedy = "annealing lies below importance weighting, in standard errors", "use more --ais-steps"
    return [Check.at_most(name, below, AGREEMENT_LIMIT, remedy)]


def _bound_at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    """Return a check of how good the bound is: it holds all the same."""
    return Check.at_most(name, value, threshold, remedy, warning=True)
