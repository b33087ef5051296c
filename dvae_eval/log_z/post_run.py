"""Post-run diagnostics from extra samples: MBAR, thermodynamic integration, and the arrays that figures plot."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dvae_core.errors import ConfigError, NumericalError, OverlapError
from dvae_core.types import Float

from ..couplings import n_entries
from ..machine import Machine
from ..numbers import std_err_of_mean
from ..sampling.mixture import AnyReference, MixtureReference
from ..sampling.reference import Reference, binary_states
from ..sampling.replicas import Works
from .run import TemperedRun
from .with_pymbar import mbar

# Samples, and iterations before each: enough values per rung for a histogram, few enough for MBAR.
N_SAMPLES, EVERY = 8, 8
N_BINS = 40
# Seconds of one core per state: for a bond, for a summed-out unit on a rung, and for an entry of MBAR's matrix.
POTENTIAL_BOND, POTENTIAL_UNIT, MBAR_ENTRY = 2e-10, 7e-9, 2e-6
TOO_LONG = "it would take longer than the time limit allows"
BLOCK_VALUES = 1 << 18  # float64 values per block: small enough for a processor's cache


def post_run_seconds(run: TemperedRun, most: float) -> float:
    """Return the approximate seconds of those diagnostics that fit into `most` seconds."""
    stretch = _stretch_seconds(run)
    both = stretch + _mbar_seconds(run)
    return both if both <= most else stretch if stretch <= most else 0.0


def _stretch_seconds(run: TemperedRun) -> float:
    return N_SAMPLES * EVERY * run.seconds_per_iteration(run.replicas)


def _mbar_seconds(run: TemperedRun) -> float:
    """Return the approximate seconds of MBAR with its potentials, at the run's speed so far."""
    n_rungs, m = len(run.replicas.schedule.betas), run.reduced
    n_states = N_SAMPLES * run.config.n_replicates * n_rungs
    n_bonds = n_entries(m.W) + (0 if m.J is None else n_entries(m.J))
    n_components = len(run.reference.weights) if isinstance(run.reference, MixtureReference) else 1
    of_state = POTENTIAL_BOND * n_bonds + n_rungs * (POTENTIAL_UNIT * n_components * len(m.c) + MBAR_ENTRY)
    return n_states * of_state * run.slowness


def post_run_diagnostics(run: TemperedRun, seconds: float = math.inf) -> dict[str, Any]:
    """Return other estimates of log Z and arrays for figures, from some further iterations, as plain JSON values.

    Parameters
    ----------
    run : TemperedRun
    seconds : float
        Diagnostics that would take longer are left out, and the reason is given.

    Returns
    -------
    dict
        `cross_checks`: log Z in nats by MBAR over the whole schedule and by thermodynamic integration, with their
        errors; they are rough, from few samples.  `energy_histograms`: `edges` (N_BINS + 1,) and `counts` (K + 1,
        N_BINS) of d log p̃_β/dβ.  `overlap_matrix` (K + 1, K + 1), MBAR's.  `from_hot_end` (K + 1,): share of the
        replicates on a rung that visited β = 0 more recently than β = 1.
    """
    if _stretch_seconds(run) > seconds:
        left_out = {"log_z": None, "reason": TOO_LONG}
        return {"cross_checks": {"mbar": left_out, "thermodynamic_integration": left_out}}
    works, states, ends = [], [], []
    for _ in range(N_SAMPLES):
        works.append(run.replicas.run(EVERY))
        states.append(run.replicas.v)
        ends.append(run.replicas.last_end_of_rung)
    together = Works(*(np.concatenate([getattr(w, f.name) for w in works]) for f in fields(Works)))
    edges = np.histogram_bin_edges(together.energies, N_BINS)
    counts = [np.histogram(rung, edges)[0] for rung in np.moveaxis(together.energies, 2, 0)]
    is_affordable = _stretch_seconds(run) + _mbar_seconds(run) <= seconds
    matrix, by_mbar = (
        _mbar(run, np.concatenate(states)) if is_affordable else ([], {"log_z": None, "reason": TOO_LONG})
    )
    return {
        "cross_checks": {"mbar": by_mbar, "thermodynamic_integration": _integral(run, together)},
        "energy_histograms": {"edges": edges.tolist(), "counts": np.array(counts).tolist()},
        "overlap_matrix": matrix,
        "from_hot_end": _from_hot_end(np.concatenate(ends)),
    }


def _from_hot_end(ends: NDArray[np.int64]) -> list[float | None]:
    """Return the share of -1 among the nonzero values of each column; None where all are zero."""
    hot, cold = (ends == -1).sum(0), (ends == 1).sum(0)
    return [float(h / (h + c)) if h + c else None for h, c in zip(hot, cold, strict=True)]


def _mbar(run: TemperedRun, v: NDArray[np.uint8]) -> tuple[list[list[float]], dict[str, Any]]:
    """Return MBAR's overlap matrix and estimate from states (n, n_rungs, n_kept), or why it failed."""
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


def reduced_potentials(
    machine: Machine, betas: ArrayLike, v: ArrayLike, reference: AnyReference | None = None
) -> Float:
    """Return u_kn[k, n] = -log p~_{β_k}(v_n), float64, shape (K + 1, N), nats.

    Parameters
    ----------
    betas : shape (K + 1,)
        Inverse temperatures.
    v : {0, 1}, shape (N, n_kept)
        States of the kept units; for MBAR, grouped by rung.
    reference : Reference, MixtureReference or TrajectoryReference, optional
        Start of the path; uniform by default.

    Raises
    ------
    DataError
        If `v` does not consist of binary states of the kept units.
    """
    reduced, levels = machine.reduced(), np.asarray(betas, np.float64).tolist()
    path = (reference or Reference.uniform(machine)).path(reduced)
    states = torch.from_numpy(binary_states(reduced, v))
    u_kn = np.empty((len(levels), len(states)))
    size = max(1, BLOCK_VALUES // max(1, len(path.c)))
    for start in range(0, len(states), size):
        part = slice(start, start + size)
        block = states[part].double()
        field, pairs = path.field(block), path.pairs(block)
        for k, beta in enumerate(levels):
            u_kn[k, part] = -path.log_p(block, beta, field, pairs).numpy()
    return u_kn


@dataclass(frozen=True, slots=True)
class Integral:
    """log Z_1 - log Z_0 by thermodynamic integration, nats.

    Attributes
    ----------
    value : float
    std_err : float
        Sampling error from the spread between replicates; nan for a single one.
    quadrature_error : float
        Difference between `value` and the rule of the next lower order, added up over steps without signs: roughly
        an upper bound on the error from the distance between rungs.  Where it is not small, `value` means nothing,
        however small `std_err` is.
    repeats : float64, shape (n_replicates,)
        Estimates of the single replicates, to first order; their mean is `value`.
    """

    value: float
    std_err: float
    quadrature_error: float
    repeats: Float


def thermodynamic_integration(forward: ArrayLike, reverse: ArrayLike) -> Integral:
    """Integrate the mean of x = log p~_{k+1}(v) - log p~_k(v) along the geometric path between neighbours.

    On p_t ∝ p~_k^{1-t} p~_{k+1}^t the mean E of x is d log Z_t/dt, its variance V the next derivative, and its
    third cumulant κ the one after.  Known at both ends, they are integrated by the two-point Hermite rule of
    degree 5, (E_0 + E_1) / 2 + (V_0 - V_1) / 10 + (κ_0 + κ_1) / 120; the trapezoid is its first term.  The
    difference from the cubic rule, (E_0 + E_1) / 2 + (V_0 - V_1) / 12, estimates the error.  All three fail if the
    works of neighbouring rungs are several standard deviations apart, as exchanges allow where a mode is about to
    form.

    Parameters
    ----------
    forward, reverse : float64, shape (n_samples, n_replicates, K)
        Works of independent replicates, as in `Works`: -x at samples of rung k, and x at samples of rung k + 1.

    Raises
    ------
    ConfigError
        If the shapes do not match.
    NumericalError
        If a work is nan or infinite.
    """
    w_f, w_r = _works(forward, reverse)
    cubic, quintic = _hermite(_moments(-w_f), _moments(w_r))
    repeats = quintic.sum(-1)
    error = float(np.abs((quintic - cubic).mean(0)).sum())
    return Integral(float(repeats.mean()), std_err_of_mean(repeats), error, repeats)


def _works(forward: ArrayLike, reverse: ArrayLike) -> tuple[Float, Float]:
    """Return the works as float64 arrays; raise unless their shapes match and all values are finite."""
    w_f, w_r = np.asarray(forward, np.float64), np.asarray(reverse, np.float64)
    if w_f.ndim != 3 or w_f.shape != w_r.shape or not w_f.size:
        raise ConfigError(
            f"works have shapes {w_f.shape} and {w_r.shape}; give (n_samples, n_replicates, K) twice"
        )
    if not (np.isfinite(w_f).all() and np.isfinite(w_r).all()):
        raise NumericalError(
            "thermodynamic integration needs finite works; some are nan or infinite; check the machine for "
            "extreme couplings"
        )
    return w_f, w_r


Moments = tuple[Float, Float, Float]


def _moments(x: Float) -> Moments:
    """Return mean, variance and third cumulant of x (n_samples, n_replicates, K) per replicate, (n_replicates, K).

    They are taken about the mean of all replicates, and are linear in the samples to first order: a replicate that
    is stuck does not appear sharp, and the mean over replicates is the cumulant of all samples.
    """
    centred = x - x.mean((0, 1))
    squares = centred**2
    third = squares * centred - 3 * squares.mean((0, 1)) * centred
    return x.mean(0), squares.mean(0), third.mean(0)


def _hermite(start: Moments, end: Moments) -> tuple[Float, Float]:
    """Return integrals over [0, 1] of a function with these values and derivatives, of degrees 3 and 5."""
    mean, variances = (start[0] + end[0]) / 2, start[1] - end[1]
    return mean + variances / 12, mean + variances / 10 + (start[2] + end[2]) / 120
