"""When an answer counts as right, wrong, declined or failed: the rule of the benchmark, in one place."""

from __future__ import annotations

import math
from typing import Any

# A trusted answer is wrong if its error is beyond both: so many of its own standard errors, and so many nats.
MAX_Z, FLOOR = 4.0, 0.01
# An answer with a standard error of 0 says that it is exact: it must be right to this share of log Z.
EXACT = 1e-6


def judged(found: dict[str, Any], exact: float) -> dict[str, Any]:
    """Return what a run said with `exact`, `error`, `z` and `verdict`.

    The verdict is `right`, `wrong` (trusted all the same), `declined` (by the estimator itself), `failed` (no
    finite number) or `skipped` (an estimator of two-sided machines, on another graph).
    """
    log_z, std_err = found.get("log_z"), found.get("std_err")
    if log_z is None or std_err is None:
        verdict = "skipped" if found.get("skipped") else "failed"
        return {**found, "exact": exact, "error": None, "z": None, "verdict": verdict}
    error = log_z - exact
    if not found["trusted"]:
        verdict = "declined"
    else:
        verdict = "wrong" if is_wrong(error, std_err, exact) else "right"
    return {**found, "exact": exact, "error": error, "z": error / std_err if std_err else None, "verdict": verdict}


def is_wrong(error: float, std_err: float, exact: float) -> bool:
    """Return whether an error is beyond what the answer itself allows, all in nats."""
    if std_err == 0:
        return abs(error) > EXACT * max(1.0, abs(exact))
    return not math.isfinite(error) or abs(error) > max(MAX_Z * std_err, FLOOR)
