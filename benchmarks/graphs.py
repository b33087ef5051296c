"""Estimate log Z of glasses on the graphs of quantum annealers within a time limit: error, verdict, failed checks.

    python benchmarks/graphs.py
    python benchmarks/graphs.py --graphs zephyr12 --strengths weak medium --limits 60 120 --json graphs.json
    python benchmarks/graphs.py --kind gaussian
    python benchmarks/graphs.py --quick

Couplings between spins are ±K or normal with standard deviation K, K = 0.1, 0.25 and 0.5; fields of spins are
normal with standard deviation 0.1. `ns` is the processor time of the whole estimate per unit, replica and sweep;
`trips` are round trips per replicate, and `blocks` independent blocks. log Z is that of the spins.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import annealer_graphs
from limits import compile_kernels, cpu_seconds

from dvae_eval.log_z.estimate_log_z import estimate_log_z


def measured(graph: str, strength: str, args: argparse.Namespace, limit: float) -> dict[str, Any]:
    coupling = annealer_graphs.STRENGTHS[strength]
    machine, constant = annealer_graphs.glass(annealer_graphs.GRAPHS[graph](), coupling, args.kind, args.seed)
    wall, cpu = time.monotonic(), cpu_seconds()
    how: dict[str, Any] = {"precision": args.precision} if args.precision else {}
    result = estimate_log_z(
        machine, method="pt-bar", time_limit=limit, threads=args.threads, seed=args.seed, **how
    )
    wall, cpu = time.monotonic() - wall, cpu_seconds() - cpu
    found = result.diagnostics
    n_rungs, n_replicates = len(found["betas"]), len(result.repeats)
    trips = found["round_trips"]
    return {
        "graph": graph,
        "strength": strength,
        "kind": args.kind,
        "limit": limit,
        "wall": wall,
        "cpu": cpu,
        "ns": 1e9 * cpu / (machine.n_units * n_replicates * n_rungs * found["n_sweeps"]),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "log_z": result.log_z + constant,
        "std_err": result.std_err,
        "foreseen": found["foreseen"]["std_err"],
        "replicates": n_replicates,
        "rungs": n_rungs,
        "sweeps": found["n_sweeps"],
        "trips": sum(trips) / len(trips),
        "blocks": found["independent_blocks"],
        "stopped": found["stopped"],
        "trustworthy": result.trustworthy,
        "failed": {check.name: [check.value, check.threshold] for check in result.checks if not check.passed},
    }


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['graph']:10} {row['strength']:7} {row['limit']:6.0f} {row['wall']:6.1f} {row['cpu']:6.1f} "
        f"{row['ns']:5.2f} {row['megabytes']:5.0f} {row['log_z']:11.3f} {row['std_err']:7.3f} {row['rungs']:5} "
        f"{row['sweeps']:6} {row['trips']:6.1f} {row['blocks']:6.1f}  "
        f"{'trusted' if row['trustworthy'] else 'not reached: ' + '; '.join(row['failed'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    graphs, strengths = list(annealer_graphs.GRAPHS), list(annealer_graphs.STRENGTHS)
    parser.add_argument("--graphs", nargs="+", choices=graphs, default=["chimera16", "zephyr12", "pegasus16"])
    parser.add_argument("--strengths", nargs="+", choices=strengths, default=strengths)
    parser.add_argument("--kind", choices=["pm1", "gaussian"], default="pm1", help="of the couplings")
    parser.add_argument("--limits", nargs="+", type=float, default=[120.0], help="seconds")
    parser.add_argument("--precision", type=float, default=0.0, help="nats [default: a limit on the work, too]")
    parser.add_argument("--threads", type=int, help="[all cores]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one small graph, two seconds")
    args = parser.parse_args()
    if args.quick:
        args.graphs, args.strengths, args.limits = ["zephyr4"], ["weak"], [2.0]
    compile_kernels()
    print(
        f"{'graph':10} {'K':7} {'limit':>6} {'wall':>6} {'cpu':>6} {'ns':>5} {'MB':>5} {'log Z':>11} {'error':>7} "
        f"{'rungs':>5} {'sweeps':>6} {'trips':>6} {'blocks':>6}"
    )
    rows = []
    for graph in args.graphs:
        for strength in args.strengths:
            for limit in args.limits:
                rows.append(measured(graph, strength, args, limit))
                print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
