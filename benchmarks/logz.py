"""Error of log Z against CPU seconds: this project's estimators, the paper's settings, and the AIS of `rbms`.

    python benchmarks/logz.py
    python benchmarks/logz.py --machines mnist-784x20 --budgets 4 16 64 --repeats 20
    python benchmarks/logz.py --json logz.json --plot logz.png
    python benchmarks/logz.py --quick

Machines: planted-64x20 has few strong modes, in pairs, between which Gibbs sampling does not move; the others are
those of trained_machines.py. If a side has at most 20 units, the reference log Z is exact by enumeration;
otherwise it is the estimate of a run of --reference-seconds.

Methods:

    uniform          this project's tempering from the uniform reference distribution
    fitted, modes    the same from independent units, or a mixture, fitted to samples of the machine
    auto             this project's default
    paper            the paper's settings (App. H.1): joint energies, random exchange, half of the run as burn-in
    ais              this project's annealed importance sampling, uniform reference distribution
    ais-biases       the same from the biases of the larger side, as `rbms` uses those of the visible side
    rbms             compute_partition_function_ais of the `rbms` package (pip install rbms), if it is installed

Every method has the same CPU seconds (--budgets) and the same number of threads. Tempering takes them as a time
limit; for the others a trial run sets the amount of work. The table reports the CPU seconds that each run took,
overhead included. AIS uses five steps per chain, as `rbms` does by default (1000 chains, 5000 steps). Bias, spread
and root-mean-square error are over independent repeats. `figure` compares runs of different length: the root mean
square of the larger of error and reported standard error, times the root of the CPU seconds. `claimed` is the root
mean square of the standard errors that a method reports.

Trained machines are kept in the user's cache (--cache).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Threads that spin while they wait slow down other processes, and the next method.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pooch
import torch
from trained_machines import RECIPES, trained

from dvae_eval.config import LOG_Z_PRESETS, LogZConfig
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, Machine
from dvae_eval.readers import read_machine
from dvae_eval.sampling.annealing import annealed_importance_sampling, uniform_schedule
from dvae_eval.sampling.reference import Reference

STEPS_PER_CHAIN = 5


# --- machines -----------------------------------------------------------------------------------------------


def trained_machine(name: str) -> Callable[[Path], Machine]:
    """Return a function that reads one of `trained_machines` from the cache, and trains it first if needed."""

    def machine(cache: Path) -> Machine:
        path = cache / f"{name}.npz"
        if not path.exists():
            print(f"training {name} (once; kept in {cache})", file=sys.stderr)
            cache.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **trained(RECIPES[name]))
        return read_machine(path).machine

    return machine


def planted(shape: tuple[int, int], strengths: tuple[float, ...] = (0.12, 0.1, 0.1)) -> BipartiteMachine:
    """Return an RBM with Hopfield couplings of random ±1 patterns, in {0,1}: every mode has its mirror image."""
    rng = np.random.default_rng(1)
    J = sum(s * np.outer(rng.choice([-1, 1], shape[0]), rng.choice([-1, 1], shape[1])) for s in strengths)
    return BipartiteMachine.from_arrays(4 * J, -2 * J.sum(1), -2 * J.sum(0))


MACHINES: dict[str, Callable[[Path], Machine]] = {
    "planted-64x20": lambda cache: planted((64, 20)),
    **{name: trained_machine(name) for name in RECIPES},
}
USUAL = ["planted-64x20", "mnist-784x20-early", "digits-64x64"]
QUICK = {"planted-20x10": lambda cache: planted((20, 10), (0.3,)), "digits-64x8": MACHINES["digits-64x8"]}


# --- methods ------------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    log_z: float
    std_err: float | None = None
    trustworthy: bool | None = None


class Job(NamedTuple):
    """The input of a method: the machine, an amount of work in the method's units, a seed, and threads."""

    machine: Machine
    work: float
    seed: int
    threads: int


Method = Callable[[Job], Estimate]  # each method has its own units of work


def tempering(job: Job, **settings: Any) -> Estimate:
    """Return an estimate by parallel tempering with these settings."""
    config = LogZConfig(method="pt-bar", seed=job.seed, **settings)
    result = estimate_log_z(job.machine, config, threads=job.threads)
    return Estimate(result.log_z, result.std_err, result.trustworthy)


def from_reference(reference: str) -> Method:
    """Return tempering from a reference distribution; work is the time limit of all threads together."""
    return lambda job: tempering(job, reference=reference, time_limit=job.work / job.threads)


def paper(job: Job) -> Estimate:
    """Return an estimate by the preset of the paper's settings; work is the number of sweeps."""
    return tempering(job, n_sweeps=max(20, round(job.work)), **LOG_Z_PRESETS["paper"])


def shape_of(work: float) -> tuple[int, int]:
    """Return numbers of chains and steps, in the ratio 1 : STEPS_PER_CHAIN, whose product is about `work`."""
    n_chains = max(2, round(math.sqrt(work / STEPS_PER_CHAIN)))
    return n_chains, max(1, round(work) // n_chains)


def ais(job: Job, reference: Reference | None = None) -> Estimate:
    """Return an estimate by annealed importance sampling; work is chains times steps."""
    n_chains, n_steps = shape_of(job.work)
    betas = uniform_schedule(n_steps)
    found = annealed_importance_sampling(
        job.machine, betas, n_chains, job.seed, reference=reference, threads=job.threads
    )
    return Estimate(found.log_z, found.std_err)


def ais_biases(job: Job) -> Estimate:
    reduced = job.machine.reduced()
    return ais(job, Reference(np.zeros_like(reduced.b), reduced.c))


def rbms(job: Job) -> Estimate:
    """Return the estimate of `rbms`, which uses torch's global generator and starts from the visible biases."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.partition_function.ais import compute_partition_function_ais

    assert isinstance(job.machine, BipartiteMachine)
    W, b, c = (torch.from_numpy(a).float() for a in (job.machine.W, job.machine.b_left, job.machine.b_right))
    n_chains, n_steps = shape_of(job.work)
    with torch.random.fork_rng():
        torch.manual_seed(job.seed)
        return Estimate(compute_partition_function_ais(n_chains, n_steps + 1, BBRBM(W, b, c)))


def missing(name: str) -> str | None:
    """Return why a method is not available; None if it is."""
    if name == "rbms":
        try:
            import rbms.partition_function.ais  # noqa: F401
        except ImportError as error:
            return f"{error}; pip install rbms"
    return None


class Entry(NamedTuple):
    """A method, and two amounts of work from whose times the time per unit follows; the first is the least amount.

    Without `trials`, work is in CPU seconds.
    """

    method: Method
    trials: tuple[int, int] | None = None


METHODS = {
    **{name: Entry(from_reference(name)) for name in ("uniform", "fitted", "modes", "auto")},
    "paper": Entry(paper, (200, 600)),
    "ais": Entry(ais, (500, 20_000)),
    "ais-biases": Entry(ais_biases, (500, 20_000)),
    "rbms": Entry(rbms, (500, 20_000)),
}


# --- measuring ----------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the children that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def timed(method: Method, job: Job) -> tuple[Estimate, float]:
    start = cpu_seconds()
    return method(job), cpu_seconds() - start


def work_for(name: str, job: Job, budgets: list[float]) -> list[float]:
    """Return the predicted work for each budget, by a straight line through the times of two trial runs."""
    method, trials = METHODS[name]
    if trials is None:
        method(job._replace(work=1.0))  # warms up
        return budgets
    small, large = trials
    method(job._replace(work=small))  # warms up
    t_small, t_large = (timed(method, job._replace(work=work))[1] for work in (small, large))
    per_unit = max(1e-9, (t_large - t_small) / (large - small))
    return [max(small, round(small + (budget - t_small) / per_unit)) for budget in budgets]


def reference(machine: Machine, seconds: float, threads: int) -> Estimate:
    """Return the exact log Z, or the estimate of a run that is much longer than all others."""
    if len(machine.reduced().b) <= 20:
        return Estimate(exact_log_z(machine), 0.0)
    return from_reference("auto")(Job(machine, seconds, 999, threads))


def measure(
    name: str, job: Job, truth: Estimate, budgets: list[float], n_repeats: int
) -> Iterator[dict[str, Any]]:
    """Yield the errors and times of a method over repeats, for every budget."""
    for budget, work in zip(budgets, work_for(name, job, budgets), strict=True):
        jobs = [job._replace(work=work, seed=seed) for seed in range(1, n_repeats + 1)]
        runs = [timed(METHODS[name].method, each) for each in jobs]
        yield summary([run for run, _ in runs], [s for _, s in runs], truth) | {"budget": budget, "work": work}


def summary(runs: list[Estimate], seconds: list[float], truth: Estimate) -> dict[str, Any]:
    """Return bias, spread and root-mean-square error in nats, and CPU seconds, over repeats."""
    errors = np.array([run.log_z for run in runs]) - truth.log_z
    claims = [run.std_err for run in runs if run.std_err is not None]
    larger = [max(abs(error), run.std_err or 0.0) for error, run in zip(errors.tolist(), runs, strict=True)]
    cpu, rmse = float(np.mean(seconds)), float(np.sqrt(np.mean(errors**2)))
    return {
        "cpu_seconds": cpu,
        "bias": float(errors.mean()),
        "sd": float(errors.std(ddof=1)) if len(errors) > 1 else None,
        "rmse": rmse,
        "figure": float(np.sqrt(np.mean(np.square(larger)))) * math.sqrt(cpu),
        "claimed": float(np.sqrt(np.mean(np.square(claims)))) if claims else None,
        "declined": sum(run.trustworthy is False for run in runs),
        "log_z": [run.log_z for run in runs],
        "seconds": seconds,
    }


# --- output -------------------------------------------------------------------------------------------------

COLUMNS = {
    "cpu_seconds": "cpu s",
    "bias": "bias",
    "sd": "sd",
    "rmse": "rmse",
    "figure": "figure",
    "claimed": "claimed",
}


def heading(name: str, truth: Estimate) -> str:
    how = f"± {truth.std_err:.2g}, a long run" if truth.std_err else "exact"
    columns = " ".join(f"{title:>12}" for title in COLUMNS.values())
    return f"\n{name}: log Z = {truth.log_z:.4f} ({how})\n{'method':12} {columns}"


def line(name: str, found: dict[str, Any]) -> str:
    cells = ["" if found[column] is None else f"{found[column]:.4f}" for column in COLUMNS]
    declined = f"  {found['declined']} not trustworthy" if found["declined"] else ""
    return (f"{name:12} " + " ".join(f"{cell:>12}" for cell in cells) + declined).rstrip()


def plot(path: Path, results: dict[str, Any]) -> None:
    """Draw error against CPU seconds, one panel per machine."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(results), 4), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (machine, found) in zip(panels, results.items(), strict=True):
        for name, rows in found["methods"].items():
            axes.plot([row["cpu_seconds"] for row in rows], [row["rmse"] for row in rows], "o-", label=name)
        axes.set(xscale="log", yscale="log", title=machine)
        axes.set(xlabel="CPU seconds", ylabel="RMS error of log Z (nats)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", nargs="+", choices=[*MACHINES, *QUICK], default=USUAL)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budgets", nargs="+", type=float, default=[4.0, 16.0], help="CPU seconds per run")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--reference-seconds",
        type=float,
        default=200.0,
        help="CPU seconds of the reference run, if log Z is not known exactly",
    )
    parser.add_argument("--cache", type=Path, default=Path(pooch.os_cache("dvae-toolkit")) / "benchmarks")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--plot", type=Path, help="figure to draw (.png, .svg, .pdf)")
    parser.add_argument("--quick", action="store_true", help="a smoke test: tiny machines and budgets")
    args = parser.parse_args()
    if args.quick:
        args.machines, args.budgets, args.repeats = list(QUICK), [0.2, 0.4], 2
    return args


def compared(args: argparse.Namespace, methods: list[str]) -> dict[str, Any]:
    """Measure, print the table row by row, and return all figures."""
    results: dict[str, Any] = {}
    for machine_name in args.machines:
        machine = (MACHINES | QUICK)[machine_name](args.cache)
        truth = reference(machine, args.reference_seconds, args.threads)
        print(heading(machine_name, truth), flush=True)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
        for name in methods:
            for row in measure(name, Job(machine, 0, 0, args.threads), truth, args.budgets, args.repeats):
                found[name].append(row)
                print(line(name, row), flush=True)
        results[machine_name] = {"log_z": truth.log_z, "std_err": truth.std_err, "methods": found}
    return results


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    absent = {name: why for name in args.methods if (why := missing(name))}
    for name, why in absent.items():
        print(f"{name}: skipped ({why})", file=sys.stderr)
    results = compared(args, [name for name in args.methods if name not in absent])
    if args.json:
        where = {"where": platform.processor() or "cpu", "torch": torch.__version__}
        setting = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        found = {"setting": setting | where, "absent": absent, "machines": results}
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.plot:
        plot(args.plot, results)


if __name__ == "__main__":
    main()
