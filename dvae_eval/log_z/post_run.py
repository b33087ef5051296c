"""A short look at the replicas after a run: other estimates from the same equilibrium, and what figures show."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import NumericalError, OverlapError

from ..sampling.replicas import Works
from .cross_checks import mbar, reduced_potentials, thermodynamic_integration
from .run import TemperedRun

__all__ = ["look_afterwards"]

Float = NDArray[np.float64]
# Looks, and iterations before each: enough values of every rung for a histogram, few enough for MBAR.
N_LOOKS, EVERY = 8, 8
N_BINS = 40


def look_afterwards(run: TemperedRun) -> dict[str, Any]:
    """Run on for some iterations, and return estimates and pictures as plain JSON values.

    Returns
    -------
    dict
        `cross_checks`: log Z in nats by MBAR over the whole schedule and by thermodynamic integration, with their
        errors; rough ones, from so few samples.  `energy_histograms`: `edges` (N_BINS + 1,) and `counts` (K + 1,
        N_BINS) of d log p̃_β/dβ.  `overlap_matrix` (K + 1, K + 1), MBAR's.  `from_hot_end` (K + 1,): share of the
        replicas on a rung that saw β = 0 later than β = 1.
    """
    works, states, ends = [], [], []
    for _ in range(N_LOOKS):
        works.append(run.replicas.run(EVERY))
        states.append(run.replicas.v)
        ends.append(run.replicas.last_end_of_rung)
    together = Works(*(np.concatenate([getattr(w, f.name) for w in works]) for f in fields(Works)))
    edges = np.histogram_bin_edges(together.energies, N_BINS)
    counts = [np.histogram(rung, edges)[0] for rung in np.moveaxis(together.energies, 2, 0)]
    matrix, by_mbar = _mbar(run, np.concatenate(states))
    return {
        "cross_checks": {"mbar": by_mbar, "thermodynamic_integration": _integral(run, together)},
        "energy_histograms": {"edges": edges.tolist(), "counts": np.array(counts).tolist()},
        "overlap_matrix": matrix,
        "from_hot_end": _from_hot_end(np.concatenate(ends)),
    }


def _from_hot_end(ends: NDArray[np.int64]) -> list[float | None]:
    """Return the share of -1 among the values of a column that are not 0; None where all are."""
    hot, cold = (ends == -1).sum(0), (ends == 1).sum(0)
    return [float(h / (h + c)) if h + c else None for h, c in zip(hot, cold, strict=True)]


def _mbar(run: TemperedRun, v: NDArray[np.uint8]) -> tuple[list[list[float]], dict[str, Any]]:
    """Return MBAR's overlap matrix and estimate from states (n, n_rungs, n_kept); why not, if it has none."""
    grouped = np.moveaxis(v, 1, 0).reshape(-1, v.shape[-1])
    betas = run.replicas.schedule.betas
    try:
        found = mbar(reduced_potentials(run.machine, betas, grouped, run.reference), np.full(len(betas), len(v)))
    except (NumericalError, OverlapError) as error:
        return [], {"log_z": None, "reason": str(error)}
    return found.overlap.tolist(), {
        "log_z": run.log_z_0 - float(found.f_k[-1]),
        "std_err": float(found.std_err[-1]),
    }


def _integral(run: TemperedRun, works: Works) -> dict[str, Any]:
    """Return log Z by thermodynamic integration."""
    found = thermodynamic_integration(works.forward, works.reverse)
    return {
        "log_z": run.log_z_0 + found.value,
        "std_err": found.std_err,
        "quadrature_error": found.quadrature_error,
    }
