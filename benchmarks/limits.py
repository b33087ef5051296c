"""Measure wall and CPU seconds of log Z under time limits, on small to large machines.

    python benchmarks/limits.py
    python benchmarks/limits.py --machines rbm-5000x5000 graph-5640 --limits 20 60 --json limits.json
    python benchmarks/limits.py --quick

`over` is the wall time of an estimate beyond its limit, without compilation, which is done before. `seen` is the
standard error at the end, `foreseen` the one that the pilot predicted. RBMs have Gaussian weights of standard
deviation 2 / sqrt(n) and biases of standard deviation 1. The graphs are ±J glasses with couplings of 0.25 between
spins and fields of 0.1; their units have 14 neighbours, and there are odd cycles.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, Machine, machine_from_bonds

STRIDE, COUPLING, FIELD = 75, 0.25, 0.1


def rbm(n_left: int, n_right: int) -> Machine:
    rng = np.random.default_rng(0)
    W = rng.normal(size=(n_left, n_right)) * 2 / np.sqrt(max(n_left, n_right))
    return BipartiteMachine.from_arrays(W, rng.normal(size=n_left), rng.normal(size=n_right))


def graph(n: int) -> Machine:
    """Return a ±J glass in which unit i is coupled to i + d for seven d."""
    rng = np.random.default_rng(0)
    steps = (1, 2, 3, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE)
    ends = np.array([(i, i + d) for i in range(n) for d in steps if i + d < n])
    spins = rng.choice([-COUPLING, COUPLING], len(ends))
    field = FIELD * rng.normal(size=n)
    around = np.bincount(ends.ravel(), np.repeat(spins, 2), n)
    return machine_from_bonds(ends, 4 * spins, 2 * (field - around))


SHAPES = [(64, 64), (256, 256), (784, 500), (784, 784), (1000, 1000), (2000, 2000), (3000, 3000), (5000, 5000)]
MACHINES: dict[str, Any] = {f"rbm-{n}x{m}": partial(rbm, n, m) for n, m in SHAPES}
MACHINES |= {f"graph-{n}": partial(graph, n) for n in (2048, 5640)}


def cpu_seconds() -> float:
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in times)


def measured(machine: Machine, limit: float, threads: int | None) -> dict[str, Any]:
    wall, cpu = time.monotonic(), cpu_seconds()
    result = estimate_log_z(machine, method="pt-bar", time_limit=limit, threads=threads)
    wall, cpu = time.monotonic() - wall, cpu_seconds() - cpu
    found = result.diagnostics
    return {
        "limit": limit,
        "wall": wall,
        "cpu": cpu,
        "over": wall - limit,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "log_z": result.log_z,
        "seen": result.std_err,
        "foreseen": found["foreseen"]["std_err"],
        "replicates": len(result.repeats),
        "rungs": len(found["betas"]),
        "sweeps": found["n_sweeps"],
        "stopped": found["stopped"],
        "trustworthy": result.trustworthy,
    }


def compile_kernels() -> None:
    rng = np.random.default_rng(0)
    estimate_log_z((rng.normal(size=(12, 12)), np.zeros(12), np.zeros(12)), method="pt-bar", n_sweeps=20)
    estimate_log_z((np.triu(rng.normal(size=(12, 12)), 1), np.zeros(12)), method="pt-bar", n_sweeps=20)


def line(name: str, row: dict[str, Any]) -> str:
    foreseen = "" if row["foreseen"] is None else f"{row['foreseen']:.3g}"
    return (
        f"{name:16} {row['limit']:6.0f} {row['wall']:6.1f} {row['cpu']:6.1f} {row['over']:+6.1f} "
        f"{row['megabytes']:6.0f} {row['log_z']:12.3f} {row['seen']:8.3g} {foreseen:>8} {row['replicates']:4} "
        f"{row['rungs']:5} {row['sweeps']:7} {row['stopped']:>10}{'' if row['trustworthy'] else '  declined'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", nargs="+", choices=list(MACHINES), default=list(MACHINES))
    parser.add_argument("--limits", nargs="+", type=float, default=[20.0, 60.0], help="seconds")
    parser.add_argument("--threads", type=int, help="[all cores]")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one small machine, two seconds")
    args = parser.parse_args()
    if args.quick:
        args.machines, args.limits = ["rbm-64x64"], [2.0]
    compile_kernels()
    print(
        f"{'machine':16} {'limit':>6} {'wall':>6} {'cpu':>6} {'over':>6} {'MB':>6} {'log Z':>12} {'seen':>8} "
        f"{'foreseen':>8} {'reps':>4} {'rungs':>5} {'sweeps':>7} {'ended by':>10}"
    )
    rows = []
    for name in args.machines:
        machine = MACHINES[name]()
        for limit in args.limits:
            rows.append({"machine": name, **measured(machine, limit, args.threads)})
            print(line(name, rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
