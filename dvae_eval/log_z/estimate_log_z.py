"""log Z of a Boltzmann machine, with a verdict: exact where that is feasible, else parallel tempering and BAR."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core import __version__
from dvae_core.environment import Effort
from dvae_core.errors import ConfigError, DataError
from dvae_core.io.containers import packed, unpacked
from dvae_core.keywords import configured, with_settings
from dvae_core.progress import Progress, ProgressCallback, ignore, report_to
from dvae_core.rng import numpy_generator

from ..config import LogZConfig
from ..exact.plan import AUTO_SECONDS, EXACT_SECONDS, exact_log_z, exact_plan
from ..machine import Machine
from ..objects import machine_from_object, values_of_units
from ..results import LogZResult
from ..runtime.clock import Clock
from ..runtime.compute import available_cores
from ..runtime.dask_cluster import raise_if_cancelled
from ..runtime.memory_estimate import refuse_too_large
from ..runtime.pool import map_unordered
from ..runtime.resume import FINISHED, Arrays, Store, with_part
from ..starts import Starts, all_units, coupled_kept_states
from ..trajectory import Trajectory
from ..verdict import Check
from .best_reference import estimate_from_best_reference
from .checks import check_mean_of_repeats, check_repeats, student_limit
from .continuing import can_continue, fixed_settings, of_more_comparisons
from .methods import (
    Estimate,
    LogZTask,
    compared_with_exact,
    estimate_by_annealing,
    estimate_exactly,
    search_seconds,
    time_limit,
)

ESTIMATORS: dict[str, Callable[[LogZTask], Estimate]] = {
    "exact": estimate_exactly,
    "pt-bar": estimate_from_best_reference,
    "ais": estimate_by_annealing,
    "reverse-ais": estimate_by_annealing,
}
# The floating-point types in which a method computes.
DTYPES, SAMPLED = {"exact": "float64"}, "float32 fields, float64 sums"
# Diagnostics that are strict bounds in every repeat; the best repeat's are reported.
BOUNDS = ("lower_bound", "n_basins")
EXACT_SHARE = 0.5  # of a time limit: the exact method is chosen if it is predicted to take at most this share
PACKAGES = ("torch", "numpy", "scipy", "pymbar", "numba")
# Raise this when the same settings and seed give other digits; tests/eval/test_environment.py checks it.
ESTIMATOR_VERSION = 1


@with_settings(LogZConfig)
def estimate_log_z(
    model: Any,
    config: LogZConfig | None = None,
    *,
    description: dict[str, Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    partial: Path | None = None,
    finished: Path | None = None,
    constant: float = 0.0,
    starts: Any = None,
    units: str = "auto",
    sign: int = 1,
    beta: float = 1.0,
    trajectory: Trajectory | Sequence[Any] | None = None,
    final_states: Callable[[NDArray[np.uint8]], None] | None = None,
    **settings: Any,
) -> LogZResult:
    """Estimate log Z of a Boltzmann machine, with its standard error and a verdict.

    Parameters
    ----------
    model : BipartiteMachine, GeneralMachine, tuple of arrays, or a model of dimod or networkx
        (W, b_left, b_right) of an RBM, p(v, h) ∝ exp(v'Wh + b_left'v + b_right'h) over {0,1}, W of shape (n_left,
        n_right); or (J, b) of a general machine, see `machine_from_couplings`.  Tensors and sparse matrices count
        as arrays.  For a dimod BinaryQuadraticModel, p(x) ∝ exp(-E(x)) in its own variables; for a networkx graph,
        p(z) ∝ exp(Σ_edges weight z_i z_j + Σ_nodes bias z_i) over {0,1}.
    config : LogZConfig, optional
        Settings; by default the exact value where it is quick to compute, else parallel tempering.
    description : dict, optional
        Entries about the model's file for the result, beside the machine's sizes and digest.
    device : str
        Device of parallel tempering.
    threads : int, optional
        CPU threads, or processes with `n_repeats`; all cores by default.  The result does not depend on them.
    progress : callable, optional
        Called with (phase, done, total, estimate so far or None, its standard error or None).
    partial : Path, optional
        File for the work done so far.  If it holds the beginning of this estimate, the estimate continues from
        it.  At the end it holds the final state of the run: pass it again to continue to a smaller `precision`,
        more `n_sweeps` or more `n_repeats`, or remove it once the result is saved.
    finished : Path, optional
        Such a file of a finished estimate; it is read if `partial` has no content, and never written.
    constant : float
        Nats added to log Z, for a model whose log-probabilities exceed the machine's by this constant.
    starts : array, Starts, or function without arguments that returns either or None, optional
        Known states of the machine, such as its data: 0 and 1, or -1 and +1, shape (n_states, n_units) with the
        units in the machine's order (left ones first), or (n_states, n_left) or (n_states, n_right) for a machine
        given by W and two biases.  A third of the replicates starts from them and must agree with the others; the
        search for basins uses them, and log Z must not fall below their total weight.  A function is called only
        where states are needed: an exact value needs none.
    units : str
        Values of the units of arrays and graphs: `01` (the same as `auto`), or `pm1` for spins -1 and +1.
    sign : 1 or -1
        Whether arrays and graphs are log-probabilities, as above, or energies E, p ∝ exp(-β E).
    beta : float
        Inverse temperature β that multiplies arrays, graphs, and models of dimod.
    trajectory : Trajectory, or sequence of RBMs, optional
        Earlier states of an RBM's training, oldest first, each in any form that `model` may have.  They define a
        second path to the machine beside the one in β; the path with the smaller barrier is used
        (`path="trajectory"`).
    final_states : callable, optional
        Called with states of all units, uint8 (n_replicates, n_units), in the machine's order: those in which a
        run of parallel tempering ended, to be `starts` of the next machine of a training.  It is not called for
        exact values, annealing, repeats and paths along a training.
    **settings
        Fields of LogZConfig, such as method="pt-bar", precision=0.01 or seed=3.

    Returns
    -------
    LogZResult

    Raises
    ------
    ConfigError
        If a setting is invalid, the requested exact value is infeasible, or memory does not suffice.
    DataError
        If the arrays do not define a machine, or the starts are not states of it.
    OverlapError
        If two neighbouring rungs share no mass.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rbm = rng.normal(size=(30, 20)), rng.normal(size=30), rng.normal(size=20)
    >>> exact = estimate_log_z(rbm)
    >>> estimate = estimate_log_z(rbm, method="pt-bar", precision=0.01, seed=1)
    >>> abs(estimate.log_z - exact.log_z) < 6 * estimate.std_err
    True
    """
    effort = Effort()
    machine, offset = machine_from_object(model, units=units, sign=sign, beta=beta)
    constant += offset
    path = _trajectory(trajectory, machine, constant)
    config = configured(
        LogZConfig, config, {**settings, **({"path": "trajectory"} if path else {})}, estimate_log_z
    )
    if config.path == "trajectory" and path is None:
        raise ConfigError("path: a path along a training needs its machines; give trajectory, or leave path out")
    clock = Clock(time_limit(config))
    n_threads = threads or available_cores()
    said = {"units": values_of_units(model, units)} if (units, sign, beta) != ("auto", 1, 1.0) else {}
    described = {**said, **(description or {}), **machine.description()}
    refuse_too_large(machine, config, min(n_threads, config.n_repeats))
    method = _method(machine, config)
    task = LogZTask(machine, config, device, n_threads, report_to(progress), offset=constant, clock=clock)
    of_starts: dict[str, Any] = {}
    task = dataclasses.replace(task, trajectory=path)
    if method == "exact":
        estimate = estimate_exactly(task)
    else:
        task, of_starts = _with_starts(task, starts)
        if final_states and path is None:
            task = dataclasses.replace(task, final_states=_for_all_units(machine, final_states, config.seed))
        estimate = _sampled(method, _coupled(task, method, of_starts, partial, finished))
    if config.against_exact and method != "exact":
        estimate = compared_with_exact(estimate, exact_log_z(machine) + constant)
    return LogZResult.of(
        config,
        estimate.checks,
        log_z=estimate.log_z,
        std_err=estimate.std_err,
        ci95=estimate.ci95,
        method=method,
        repeats=estimate.repeats,
        model=described,
        settings={"device": device, "dtype": DTYPES.get(method, SAMPLED), **of_starts},
        diagnostics=estimate.diagnostics,
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=PACKAGES,
    )


def _trajectory(given: Trajectory | Sequence[Any] | None, machine: Machine, constant: float) -> Trajectory | None:
    """Return the training that leads to a machine; None if none is given."""
    if given is None:
        return None
    if not isinstance(given, Trajectory):
        found = [machine_from_object(model) for model in given]
        given = Trajectory.of([one for one, _ in found], constants=[offset for _, offset in found])
    return given.ending_with(machine, constant)


def _method(machine: Machine, config: LogZConfig) -> str:
    """Return the method to use; ConfigError if the requested comparison with the exact value takes too long."""
    if config.against_exact and (plan := exact_plan(machine)).seconds > EXACT_SECONDS:
        raise ConfigError(f"--against-exact: {plan.need}, which takes too long; leave it out")
    if machine.without_isolated_units()[0] is None:
        return "exact"  # no couplings: a closed form, nothing to temper
    if config.method == "auto":
        limit = config.time_limit or math.inf
        plan = exact_plan(machine, search_seconds(config))
        return "exact" if plan.seconds <= min(AUTO_SECONDS, EXACT_SHARE * limit) else "pt-bar"
    return config.method


def _with_starts(task: LogZTask, starts: Any) -> tuple[LogZTask, dict[str, Any]]:
    """Return the task with the given states, and the entries of the result's settings about them."""
    found = starts() if callable(starts) else starts
    if found is None:
        return task, {}
    found = found if isinstance(found, Starts) else Starts(found)
    try:
        states = coupled_kept_states(task.machine, found.states, task.config.seed)
        return dataclasses.replace(task, starts=states), {"starts": found.description()}
    except DataError as error:
        raise DataError(f"starts: {error}") from error


def _for_all_units(
    machine: Machine, final_states: Callable[[NDArray[np.uint8]], None], seed: int
) -> Callable[[NDArray[np.uint8]], None]:
    """Return a function of the kept units that samples the other units and calls `final_states` with all."""
    return lambda v: final_states(all_units(machine, v, numpy_generator(seed, "log_z", 10)))


def _coupled(
    task: LogZTask, method: str, of_starts: dict[str, Any], partial: Path | None, finished: Path | None
) -> LogZTask:
    """Return the task without isolated units, whose log Z goes into the offset; `partial` stores its progress."""
    settings = {"model": task.machine.sha256, "constant": task.offset, "device": task.device, **of_starts}
    settings |= {"version": [__version__, ESTIMATOR_VERSION], **fixed_settings(task.config, method)}
    if task.trajectory:
        settings["trajectory"] = task.trajectory.sha256
    fits = functools.partial(can_continue, config=task.config)
    store = Store(partial, settings, finished, fits) if partial else None
    if task.trajectory:  # its machines share all units, coupled or not
        return dataclasses.replace(task, store=store)
    coupled, alone = task.machine.without_isolated_units()
    assert coupled is not None  # otherwise `_method` chose the exact value
    return dataclasses.replace(task, machine=coupled, store=store, offset=alone + task.offset)


def _sampled(method: str, task: LogZTask) -> Estimate:
    """Return an estimate, or the mean of several independent ones."""
    return _repeated(task) if task.config.n_repeats > 1 else ESTIMATORS[method](task)


# --- independent repeats ------------------------------------------------------------------------------------


def _repeated(task: LogZTask) -> Estimate:
    """Return the mean of `config.n_repeats` independent estimates, each with its own pilot and random numbers.

    The repeats run in `task.threads` processes.  Their spread is the most conservative error bar.
    """
    n_repeats, store = task.config.n_repeats, task.store
    done, earlier = _load(store, n_repeats)
    todo = [i for i in range(n_repeats) if i not in done]
    shared = dataclasses.replace(task, threads=1, report=ignore, store=None, final_states=None)
    for k, estimate in map_unordered(one_repeat, shared, todo, task.threads):
        done[todo[k]] = estimate
        if store:
            store.save(_packed(done, n_repeats, earlier))
        values = np.array([e.log_z for e in done.values()])
        error = float(values.std(ddof=1)) / math.sqrt(len(done)) if len(done) > 1 else None
        task.report(Progress("repeats", len(done), n_repeats, float(values.mean()), error))
    if store and not todo:
        store.save(_packed(done, n_repeats, earlier))
    estimate = _combined([done[i] for i in range(n_repeats)])
    return dataclasses.replace(estimate, diagnostics={**estimate.diagnostics, **earlier})


def one_repeat(task: LogZTask, index: int) -> Estimate:
    """Return the estimate of one of the task's repeats."""
    config = task.config
    seed = int(numpy_generator(config.seed, "log_z", 4, index).integers(2**63))
    own = dataclasses.replace(
        task,
        config=dataclasses.replace(config, seed=seed, n_repeats=1),
        report=raise_if_cancelled,
        clock=Clock(time_limit(config)),
        n_comparisons=config.n_repeats,
    )
    return ESTIMATORS["pt-bar" if config.method == "auto" else config.method](own)


def _combined(done: list[Estimate]) -> Estimate:
    """Return the mean of the repeats, the worst of every check, and the diagnostics of the first repeat."""
    values, errors = np.array([e.log_z for e in done]), np.array([e.std_err for e in done])
    n = len(done)
    std_err = max(float(values.std(ddof=1)), math.sqrt(float((errors**2).mean()))) / math.sqrt(n)
    # All repeats share the rounding error, and the gap of reverse annealing: averaging reduces neither.
    gap = float(np.mean([e.diagnostics.get("gap", 0.0) for e in done]))
    std_err = math.hypot(std_err, done[0].diagnostics["rounding"], gap)
    of_all = [check for e in done for check in e.checks]  # repeats from modes have further checks
    checks = [_worst([c for c in of_all if c.name == name]) for name in dict.fromkeys(c.name for c in of_all)]
    n_independent = done[0].n_independent
    checks.append(check_repeats(values, errors, n_independent))
    best = max(done, key=lambda e: float(e.diagnostics["lower_bound"])).diagnostics
    limit = student_limit(n_independent)
    checks.append(check_mean_of_repeats(float(values.mean()), std_err, best["lower_bound"], limit))
    diagnostics = {**done[0].diagnostics, **{name: best[name] for name in BOUNDS}}
    diagnostics["repeats_std_err"] = errors.tolist()
    diagnostics["n_sweeps_of_repeats"] = [e.diagnostics["n_sweeps"] for e in done]
    return Estimate(float(values.mean()), std_err, values.tolist(), n, checks, diagnostics)


def _worst(checks: list[Check]) -> Check:
    """Return the first failed check, else the one nearest to its limit."""
    return min(checks, key=lambda c: (c.passed, abs(c.value - c.threshold)))


def _packed(done: dict[int, Estimate], n_repeats: int, earlier: dict[str, Any]) -> Arrays:
    """Return the estimates finished so far, and the record of the whole estimate, as arrays."""
    estimates = {i: dataclasses.asdict(estimate) for i, estimate in done.items()}
    return {"repeats": packed(estimates), "record": packed({"n_repeats": n_repeats, **earlier})}


def _load(store: Store | None, n_repeats: int) -> tuple[dict[int, Estimate], dict[str, Any]]:
    """Return the estimates finished earlier, by number, and the runs that this one continues."""
    arrays = store.load() if store else None
    if arrays is None or "record" not in arrays:  # repeats of an earlier version are computed again
        return {}, {}
    record = unpacked(arrays["record"])
    found = {
        int(i): Estimate(**{**e, "checks": [Check.of_dict(c) for c in e["checks"]]})
        for i, e in unpacked(arrays["repeats"]).items()
        if int(i) < n_repeats
    }
    n_before, past = record["n_repeats"], record.get("continued_from", [])
    if n_before < n_repeats or FINISHED in arrays:
        past = with_part(past, {"n_repeats": n_before, "n_done": len(found)})
    found = {i: made for i, e in found.items() if (made := of_more_comparisons(e, n_before, n_repeats))}
    return found, {"continued_from": past} if past else {}
