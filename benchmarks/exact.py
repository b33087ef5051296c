"""Time the exact log Z by route, and compare it with its prediction and with a plain enumeration.

    python benchmarks/exact.py
    python benchmarks/exact.py --large --threads 2
    python benchmarks/exact.py dense-22x64 chimera-4x4x4 --json exact.json

`predicted` decides whether `--method auto` computes the exact value; it assumes two cores that are shared. `cpu`
is the time of all threads together, and `ns` is this time per state and summed unit (enumeration only). `plain`
enumerates the same machine with PyTorch, a matrix product and a softplus, unless this takes minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvae_core.graphs import graph_edges
from dvae_eval.exact.plan import exact_plan
from dvae_eval.machine import BipartiteMachine, Machine, machine_from_couplings

PLAIN_VALUES = 2.0**31


def dense(n: int, m: int, scale: float) -> Machine:
    rng = np.random.default_rng(0)
    return BipartiteMachine.from_arrays(*(scale * rng.normal(size=shape) for shape in ((n, m), n, m)))


def planted(n: int, m: int, n_patterns: int) -> Machine:
    rng = np.random.default_rng(0)
    left, right = (rng.choice([-1.0, 1.0], size=(n_patterns, size)) for size in (n, m))
    W = left.T @ right / np.sqrt(n * m)
    return BipartiteMachine.from_arrays(W, -W.sum(1) / 2, -W.sum(0) / 2)


def graph(name: str, n: int) -> Machine:
    rng = np.random.default_rng(0)
    J = np.zeros((n, n))
    for i, j in graph_edges(name, n):
        J[i, j] = rng.normal()
    return machine_from_couplings(J, rng.normal(size=n))


def sparse(n: int, m: int, n_bonds: int) -> Machine:
    rng = np.random.default_rng(0)
    W = np.zeros((n, m))
    W.flat[rng.permutation(n * m)[:n_bonds]] = rng.normal(size=n_bonds)
    return BipartiteMachine.from_arrays(W, rng.normal(size=n), rng.normal(size=m))


SMALL: dict[str, Callable[[], Machine]] = {
    "dense-20x784": lambda: dense(20, 784, 0.3),
    "dense-22x64": lambda: dense(22, 64, 0.5),
    "huge-22x64": lambda: dense(22, 64, 50.0),
    "complete-26": lambda: graph("complete", 26),
    "planted-3-64x64": lambda: planted(64, 64, 3),
    "sparse-64x64-200": lambda: sparse(64, 64, 200),
    "sparse-500x500-700": lambda: sparse(500, 500, 700),
    "grid-16x16": lambda: graph("grid-16x16", 256),
    "chimera-4x4x4": lambda: graph("chimera-4x4x4", 128),
    "ring-1000": lambda: graph("ring", 1000),
}
LARGE: dict[str, Callable[[], Machine]] = {
    "dense-28x64": lambda: dense(28, 64, 0.5),
    "dense-25x500": lambda: dense(25, 500, 0.2),
    "complete-32": lambda: graph("complete", 32),
    "planted-3-500x500": lambda: planted(500, 500, 3),
    "sparse-64x64-270": lambda: sparse(64, 64, 270),
    "grid-22x22": lambda: graph("grid-22x22", 484),
    "chimera-6x6x4": lambda: graph("chimera-6x6x4", 288),
}


def plain_seconds(machine: Machine) -> float | None:
    """Return the seconds of an enumeration in blocks of states; None if it would take too long."""
    r = machine.reduced()
    n, n_summed = len(r.b), len(r.c)
    if n > 40 or n_summed * 2.0**n > PLAIN_VALUES:
        return None
    W, b, c = map(torch.from_numpy, (r.W, r.b, r.c))
    J = torch.zeros(n, n, dtype=torch.float64) if r.J is None else torch.from_numpy(r.J)
    block = min(1 << n, max(1, (1 << 20) // n_summed))
    started, total = time.monotonic(), torch.tensor(-torch.inf, dtype=torch.float64)
    for start in range(0, 1 << n, block):
        numbers = torch.arange(start, min(start + block, 1 << n))
        v = (numbers[:, None] >> torch.arange(n) & 1).double()
        terms = v @ b + ((v @ J) * v).sum(1) / 2 + torch.logaddexp(torch.zeros(()).double(), v @ W + c).sum(1)
        total = torch.logaddexp(total, torch.logsumexp(terms, 0))
    return time.monotonic() - started


def measure(machine: Machine, threads: int | None) -> dict[str, Any]:
    """Return the route, log Z and times in seconds."""
    started = time.monotonic()
    plan = exact_plan(machine)
    planned = time.monotonic()
    cpu = time.process_time()
    log_z = plan.log_z(threads=threads)
    cpu, done = time.process_time() - cpu, time.monotonic()
    reduced = machine.reduced()
    factors = len(reduced.c) * 2.0 ** len(reduced.b) if plan.route == "enumeration" else None
    return {
        "route": plan.route,
        "log_z": log_z,
        "planning": planned - started,
        "predicted": plan.seconds,
        "seconds": done - planned,
        "cpu": cpu,
        "ns": None if factors is None or factors > 1e15 else 1e9 * cpu / factors,
        "plain": plain_seconds(machine),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join([*SMALL, *LARGE]))
    parser.add_argument("--large", action="store_true", help="also machines that take seconds to a minute")
    parser.add_argument(
        "--threads", type=int, help="threads of the exact value; plain PyTorch uses its own default"
    )
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    known = SMALL | LARGE
    if unknown := set(args.names) - set(known):
        parser.error(f"no such machine: {', '.join(sorted(unknown))}")
    # Compile and load everything before the clock starts.
    for machine in (dense(15, 300, 1.0), sparse(64, 64, 250)):
        exact_plan(machine).log_z(threads=args.threads)
    print(
        "machine              route                            planning predicted  seconds      cpu     ns   plain"
    )
    found = {}
    for name in args.names or [*SMALL, *(LARGE if args.large else ())]:
        row = found[name] = measure(known[name](), args.threads)
        ns = "" if row["ns"] is None else f"{row['ns']:.3f}"
        plain = "" if row["plain"] is None else f"{row['plain']:.2f}"
        print(
            f"{name:20} {row['route']:32} {row['planning']:8.2f} {row['predicted']:9.2f} {row['seconds']:8.2f} "
            f"{row['cpu']:8.2f} {ns:>6} {plain:>7}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "machines": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
