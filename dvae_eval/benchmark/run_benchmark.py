"""Run estimators on test machines or models, in a separate process per run, and compare with exact values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from dvae_core.environment import Effort
from dvae_core.errors import ConfigError
from dvae_core.keywords import configured, with_settings
from dvae_core.versions import __version__

from ..results import BenchmarkResult
from ..runtime.pool import map_unordered
from .config import BenchmarkConfig
from .host import GRACE_WALL, KILL_WALL, Host, Task
from .kinds import KINDS
from .rules import judged

Run = dict[str, Any]
Key = tuple[str, str, int]
PACKAGES = ("numpy", "scipy", "numba", "torch", "pymbar")
# Raise it when the same settings and seed give other runs than before, apart from changes of the estimators.
ESTIMATOR_VERSION = 1

# The host process of this worker, kept for its next run.
_hosts: list[Host] = []


@with_settings(BenchmarkConfig)
def run_benchmark(
    methods: Sequence[str] | None = None,
    config: BenchmarkConfig | None = None,
    *,
    n_workers: int = 1,
    previous: BenchmarkResult | None = None,
    progress: Callable[[BenchmarkResult, Run | None, int, int], None] | None = None,
    **settings: Any,
) -> BenchmarkResult:
    """Run estimators on machines or models with known answers, and compare.

    Parameters
    ----------
    methods : sequence of str, optional
        Names of methods of `dvae_eval.benchmark.kinds.KINDS`, by default all, or `module:function`.

        For log Z: a function of (W, b_left, b_right, seed, budget) or (J, b, seed, budget), or of some of these,
        that returns (log_z, std_err) or (log_z, std_err, trusted), nats.  Units are 0 and 1.  J has each pair
        once, above its diagonal.  W has shape (n_left, n_right); a function that takes W is run on two-sided
        machines only.

        For likelihoods: a function of (model, images, log_z, seed, budget), or of some of these, that returns
        (log_p_x, std_err), optionally with trusted and gap, see `dvae_eval.benchmark.likelihoods`.
    config : BenchmarkConfig, optional
        Settings; its fields can be given as keywords instead.
    n_workers : int
        Processes on this computer; within a `dvae_eval.cluster` block its workers are used.
    previous : BenchmarkResult, optional
        An earlier result, whose runs are kept; only missing runs are made.
    progress : callable, optional
        Called with the result so far, the run that has just finished (None at the start), the number of finished
        runs, and the number of all runs.

    Returns
    -------
    BenchmarkResult

    Raises
    ------
    ConfigError
        If there is no such method, or `previous` had another suite, budget or version.
    """
    config = configured(BenchmarkConfig, config, settings, run_benchmark)
    methods = tuple(KINDS[config.kind].methods) if methods is None else methods
    effort = Effort()
    runs = {_key(run): run for run in _kept(previous, config)}
    try:
        _refuse_unknown(methods, config.kind)
        keys = list(_keys(methods, config))
        todo = [key for key in keys if key not in runs]

        def result() -> BenchmarkResult:
            return _result(config, keys, runs, effort, previous)

        if progress:
            progress(result(), None, len(keys) - len(todo), len(keys))
        for n, (_, run) in enumerate(map_unordered(_run, config, todo, n_workers), 1):
            runs[_key(run)] = run
            if progress:
                progress(result(), run, len(keys) - len(todo) + n, len(keys))
        return result()
    finally:
        _close_hosts()


def _keys(methods: Sequence[str], config: BenchmarkConfig) -> Iterator[Key]:
    """Yield the keys of all runs; those of a machine follow one another, so that it is made only once."""
    for seed in range(config.seed, config.seed + config.n_seeds):
        for machine in KINDS[config.kind].suite(config.suite):
            for method in dict.fromkeys(methods):
                yield method, machine, seed


def _key(run: Run) -> Key:
    return run["method"], run["machine"], run["seed"]


def _kept(previous: BenchmarkResult | None, config: BenchmarkConfig) -> list[Run]:
    """Return the runs of an earlier result; ConfigError if its settings or version are others."""
    if previous is None:
        return []
    before = {"kind": "logz", **previous.settings}  # earlier files have no kind
    for name in ("kind", "suite", "budget"):
        if before.get(name) != getattr(config, name):
            raise ConfigError(f"was made with {name} {before.get(name)}; give the same, or another file")
    if previous.versions.get("dvae-toolkit") != __version__:
        raise ConfigError("was made with another version of dvae-toolkit; give another file")
    return list(previous.runs)


def _refuse_unknown(methods: Sequence[str], kind: str) -> None:
    """Raise ConfigError for an unknown method; the process that will run a method imports it."""
    for name in methods:
        if name not in KINDS[kind].methods and (note := _host().check(name, kind)):
            raise ConfigError(note)


def _run(config: BenchmarkConfig, key: Key) -> Run:
    """Return the finished run with a key."""
    method, machine, seed = key
    wall = KILL_WALL * config.budget + GRACE_WALL
    task = Task(kind=config.kind, method=method, machine=machine, seed=seed, budget=config.budget, wall=wall)
    found = judged(_host().run(task), _exact(config.kind, machine))
    return {"method": method, "machine": machine, "seed": seed, **found}


@cache
def _exact(kind: str, machine: str) -> float:
    return KINDS[kind].exact(KINDS[kind].make(machine))


def _host() -> Host:
    """Return the host process of this worker, a new one if the last has ended."""
    if _hosts and not _hosts[0].is_alive:
        _close_hosts()
    if not _hosts:
        _hosts.append(Host().__enter__())
    return _hosts[0]


def _close_hosts() -> None:
    while _hosts:
        _hosts.pop().__exit__()


def _result(
    config: BenchmarkConfig,
    keys: Sequence[Key],
    runs: dict[Key, Run],
    effort: Effort,
    previous: BenchmarkResult | None,
) -> BenchmarkResult:
    """Return the result of the finished runs, in an order that does not depend on when they finished."""
    kind = KINDS[config.kind]
    machines = kind.suite(config.suite)
    methods = list(dict.fromkeys([*kind.methods, *(key[0] for key in (*keys, *runs))]))
    ordered = sorted(runs, key=lambda key: (key[2], machines.index(key[1]), methods.index(key[0])))
    found = BenchmarkResult.of(
        config,
        [],
        effort=effort,
        estimator_version=ESTIMATOR_VERSION,
        packages=PACKAGES,
        settings={"n_planned": len(keys)},
        diagnostics={},
        model={},
        runs=[runs[key] for key in ordered],
    )
    missing = sum(key not in runs for key in keys)
    reasons = [f"{missing} of {len(keys)} runs are missing; run the same command again"] if missing else []
    seconds = found.wall_seconds + (previous.wall_seconds if previous else 0.0)
    return replace(found, trustworthy=not missing, reasons=reasons, wall_seconds=seconds)
