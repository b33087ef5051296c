"""The rule by which an answer of a benchmark is right, wrong, declined or failed."""

from __future__ import annotations

import math
from typing import Any

# A trusted answer is wrong if its error exceeds both: MAX_Z of its standard errors, and FLOOR nats.
MAX_Z, FLOOR = 4.0, 0.01
# An answer with a standard error of 0 claims to be exact; its error may be at most this fraction of log Z.
EXACT = 1e-6


def judged(found: dict[str, Any], exact: float) -> dict[str, Any]:
    """Return the outcome of a run with `exact`, `error`, `z` and `verdict` added.

    If the answer is a lower bound with an estimated `gap`, z measures the error beyond that gap.

    The verdict is `right`, `wrong` (although trusted), `declined` (not trusted by the estimator itself), `failed`
    (no finite number) or `skipped` (an estimator of two-sided machines, on another graph).
    """
    value, std_err = found.get("log_z", found.get("log_p_x")), found.get("std_err")
    if value is None or std_err is None:
        verdict = "skipped" if found.get("skipped") else "failed"
        return {**found, "exact": exact, "error": None, "z": None, "verdict": verdict}
    error = value - exact
    unexplained = beyond_gap(error, found.get("gap", 0.0))
    if not found["trusted"]:
        verdict = "declined"
    else:
        verdict = "wrong" if is_wrong(unexplained, std_err, exact) else "right"
    z = unexplained / std_err if std_err else None
    return {**found, "exact": exact, "error": error, "z": z, "verdict": verdict}


def beyond_gap(error: float, gap: float) -> float:
    """Return the part of an error that the gap of a lower bound does not explain, nats.

    It is the whole error if the answer is too high, since a gap only explains one that is too low.
    """
    return error if error > 0 else min(0.0, error + gap)


def is_wrong(error: float, std_err: float, exact: float) -> bool:
    """Return whether an error exceeds what the answer's standard error allows, all in nats."""
    if std_err == 0:
        return abs(error) > EXACT * max(1.0, abs(exact))
    return not math.isfinite(error) or abs(error) > max(MAX_Z * std_err, FLOOR)
