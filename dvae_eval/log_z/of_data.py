"""Log-likelihood of data under an RBM whose log Z is known: the mean over rows of log p~(v) - log Z.

The hidden units are summed out exactly, log p~(v) = b'v + Σ_j softplus(c_j + (v'W)_j).  There are two errors: that
of log Z, which all rows share, and that of the choice of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.types import Float

from ..machine import BipartiteMachine, Machine
from ..numbers import std_err_of_mean
from ..results import LogZResult
from ..trajectory import Trajectory

Splits = Mapping[str, NDArray[np.uint8]]
BLOCK_VALUES = 1 << 22  # fields of summed-out units per block


def check_pixels(machine: Machine, n: int) -> BipartiteMachine:
    """Return the RBM with its side of n units on the left; DataError if no side has n units."""
    if not isinstance(machine, BipartiteMachine) or machine.order is not None:
        raise DataError("is not an RBM, so that log Z alone does not give the likelihood of data; omit --data")
    if n == machine.n_left:
        return machine
    if n == machine.n_right:
        return BipartiteMachine(machine.W.T, machine.b_right, machine.b_left)
    raise DataError(
        f"has sides of {machine.n_left} and {machine.n_right} units, but the data have {n} values per row; "
        "choose data with one value per visible unit"
    )


def log_p_of_rows(machine: BipartiteMachine, v: NDArray[np.uint8]) -> Float:
    """Return log p~(v) of states of the left side, the right one summed out, nats, shape (n,)."""
    size = max(1, BLOCK_VALUES // machine.n_right)
    parts = [_log_p(machine, v[i : i + size].astype(np.float64)) for i in range(0, len(v), size)]
    return np.concatenate(parts)


def _log_p(machine: BipartiteMachine, v: Float) -> Float:
    hidden: Float = np.logaddexp(0, machine.b_right + v @ machine.W).sum(1)
    return hidden + v @ machine.b_left


def with_log_likelihood(
    result: LogZResult,
    machine: Machine,
    constant: float,
    splits: Splits,
    source: Mapping[str, Any],
    trajectory: Trajectory | None = None,
) -> LogZResult:
    """Return a result with the mean log-likelihood of data in its diagnostics, and its course along a training.

    Parameters
    ----------
    result : LogZResult
        Result for `machine`.
    machine : BipartiteMachine
        One side has one unit per value of a row.
    constant : float
        Nats by which `result.log_z` exceeds the machine's own log Z.
    splits : dict of str to uint8, shape (n, n_pixels)
        Rows of 0 and 1.
    source : dict
        Description of the data's source, for the result.
    trajectory : Trajectory, optional
        The machine's training, if log Z was estimated along it.

    Returns
    -------
    LogZResult
        `log_likelihood` of its diagnostics has `data`, the source, and `splits`: for each split `mean`,
        `std_err_images` and `std_err_log_z`, nats per row, and `n_images`.

    Raises
    ------
    DataError
        If the machine has no such side.
    """
    of_splits = {
        name: {**_mean(machine, result.log_z - constant, v), "std_err_log_z": result.std_err}
        for name, v in splits.items()
    }
    found: dict[str, Any] = {"log_likelihood": {"data": dict(source), "splits": of_splits}}
    if trajectory and (curve := result.diagnostics.get("trajectory")):
        found["trajectory"] = {**curve, "log_likelihood": _along(curve, splits, trajectory)}
    return replace(result, diagnostics={**result.diagnostics, **found})


def _mean(machine: Machine, log_z: float, v: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the mean log-likelihood of rows and its standard error by the choice of rows, nats."""
    log_p = log_p_of_rows(check_pixels(machine, v.shape[1]), v) - log_z
    return {"mean": float(log_p.mean()), "std_err_images": std_err_of_mean(log_p), "n_images": len(v)}


def _along(curve: Mapping[str, Any], splits: Splits, trajectory: Trajectory) -> dict[str, dict[str, list[float]]]:
    """Return the mean of every split at the steps of a curve, and its standard error by the choice of rows."""
    places = [trajectory.steps.index(step) for step in curve["steps"]]
    found = {}
    for name, v in splits.items():
        means = [
            _mean(trajectory.machines[j], log_z - trajectory.constants[j], v)
            for j, log_z in zip(places, curve["log_z"], strict=True)
        ]
        found[name] = {key: [mean[key] for mean in means] for key in ("mean", "std_err_images")}
    return found
