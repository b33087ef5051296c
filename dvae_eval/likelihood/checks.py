"""The checks of a log-likelihood, with their limits and remedies."""

from __future__ import annotations

import math

import numpy as np

from ..results import LogZResult
from ..verdict import Check
from .on_log_z import LOG_Z_LIMIT, check_log_z
from .per_image import ImageEstimates
from .simulated import SimulatedGap

# A bound is correct however loose it is, as long as the gap is reported with it.  For weights with known log p(x)
# (log-normal ones, and Gaussian proposals that are too narrow or too wide), the gap was within a factor of about
# two of its estimate up to these limits, and arbitrary beyond: tests/eval/likelihood/test_likelihood_exact.py.
GAP_LIMIT = 2.0
SLOWING_LIMIT = 0.7
# A smaller gap decides nothing, however uncertain it is.
SMALL_GAP = 0.2
# Largest gap on simulated images that may be hidden from q's samples: in nats, or as a multiple of the gap that
# they show, which is correct within a factor of about two.
HIDDEN_GAP, HIDDEN_SHARE = 0.3, 3.0
# The upper bound is two to five times the gap where weights have heavy tails.  Beyond ten times, it comes from a
# few images whose posteriors q misses almost entirely.  Those images also make its error, which is therefore no
# criterion.
LOOSENESS = 10.0
# Two correct estimates of the same number differ by more than this, in standard errors, with probability 1e-4.
AGREEMENT_LIMIT = 3.9

LOOSE = "the bound holds, but is loose: use more --samples, or check with --method ais --limit 20"
MISSED = (
    "the bound holds, but q rarely proposes some latents that the model uses, which q's samples cannot show: "
    "check with --method ais --limit 20"
)
MORE = "use more images or --samples, or check with --method ais --limit 20"


def check_likelihood(log_z: LogZResult, estimate: ImageEstimates, effect: dict[str, float]) -> list[Check]:
    """Return the checks of log Z, and of whether the gap of the bound is small and known.

    Heavy tails of the weights are not checked: they widen the gap, but the bound still holds.

    Parameters
    ----------
    log_z : LogZResult
        The estimate that the likelihood uses.
    estimate : ImageEstimates
    effect : dict of str to float
        Effect of the precision on the mean; empty for float32 and float64.
    """
    checks = check_log_z(log_z)
    if estimate.gap is not None:
        name = "estimated gap between bound and log-likelihood, nats"
        checks.append(_bound_at_most(name, estimate.gap, GAP_LIMIT, LOOSE))
        name = "ratio of the bound's last two gains per decade of samples (1: not converging)"
        slowing = estimate.slowing if estimate.gap > SMALL_GAP else 0.0
        remedy = "the bound holds, but its gap is unknown: " + MORE
        checks.append(_bound_at_most(name, slowing, SLOWING_LIMIT, remedy))
    if effect:
        checks.append(
            Check.at_most(
                "effect of --precision, nats", abs(effect["mean"]), LOG_Z_LIMIT, "use --precision float32"
            )
        )
    return checks


def check_simulated(found: SimulatedGap) -> list[Check]:
    """Return the checks that the gap on simulated images is small, and visible in q's samples.

    There is no check if q's samples are too few to estimate the gap, since no estimate could be wrong.
    """
    if found.gap_from_proposals is None:
        return []
    from_proposals = float(np.nan_to_num(found.gap_from_proposals))
    name = "gap on simulated images, less 2 standard errors, nats"
    # One image has no standard error, and an infinite gap needs none.
    gap = found.gap - 2 * float(np.nan_to_num(found.std_err))
    shown = max(HIDDEN_GAP, HIDDEN_SHARE * from_proposals)
    # The result reports a gap that q's samples show.  A hidden one makes the reported gap wrong.
    remedy = MISSED if gap > shown else LOOSE
    checks = [Check.at_most(name, gap, min(GAP_LIMIT, shown), remedy, warning=remedy is LOOSE)]
    name = "upper bound of the gap on simulated images, nats"
    largest = max(GAP_LIMIT, LOOSENESS * max(from_proposals, found.gap))
    return [*checks, Check.at_most(name, found.bound, largest, MISSED)]


def check_agreement(annealed: ImageEstimates, importance: ImageEstimates) -> list[Check]:
    """Return the check that annealing does not lie below importance weighting."""
    found = importance.compared_with(annealed)
    # The spread over a few images is unreliable; the errors from the samples then decide.
    spread = np.nan_to_num(found["difference_std_err"])
    error = max(spread, math.hypot(annealed.std_err_samples, importance.std_err_samples), 1e-12)
    below = max(0.0, -found["difference"] / error)
    name = "annealing lies below importance weighting, in standard errors"
    remedy = "the chains were annealed too quickly: use more --ais-steps"
    return [Check.at_most(name, below, AGREEMENT_LIMIT, remedy)]


def _bound_at_most(name: str, value: float, threshold: float, remedy: str) -> Check:
    """Return a check of the bound's quality: a warning, since a loose bound is still correct."""
    return Check.at_most(name, value, threshold, remedy, warning=True)
