"""Count wrong estimates of log Z that are trusted, on machines with a known log Z and hidden modes.

    python benchmarks/adversaries.py
    python benchmarks/adversaries.py --machines golf-hole digits01-784x20 --seeds 5 --json adversaries.json

In a trained machine the heaviest mode and all modes near it (--radius kept units) are hidden, with --hide

    search     from every search for basins, and so from mixture and starts; basins of sampled states remain
    states     from basins of sampled states as well: only the states of the first run remain
    nothing    nothing is hidden

In the other machines modes are hard to find by construction. A result is wrong if its error exceeds 4.5 standard
errors. The table names the checks that failed; the last lines count all results, those that were declined, and
those that were trusted and wrong.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pooch
from trained_machines import RECIPES, trained

from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import Machine
from dvae_eval.readers import read_machine
from dvae_eval.sampling.basins import Basins, find_basins, with_basins_of
from dvae_eval.sampling.lower_bound import LowerBound
from dvae_eval.test_machines.rbms import golf_hole, unequal_patterns

WRONG = 4.5  # standard errors
TRAINED = ("digits01-784x20", "populations-800x20-late", "mnist-784x20-late", "clusters-80x10", "clusters-120x11")
MADE: dict[str, Callable[[], tuple[Machine, float]]] = {
    "golf-hole": lambda: golf_hole(),
    "golf-hole-100x40": lambda: golf_hole(100, 40, 0.2, 0.9),
    "patterns-1:0.5": lambda: unequal_patterns(10, 20, (0.03, 0.015)),
    "patterns-1:0.9": lambda: unequal_patterns(8, 30, (0.06, 0.054)),
}


def known(name: str, cache: Path) -> tuple[Machine, float]:
    """Return a machine and its log Z; train the machine first if it is not in the cache."""
    if name in MADE:
        return MADE[name]()
    path = cache / f"{name}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **trained(RECIPES[name]))
    machine = read_machine(path).machine
    return machine, exact_log_z(machine)


@contextmanager
def hidden(machine: Machine, level: str, radius: float) -> Iterator[None]:
    """Hide the heaviest mode of a machine, and all modes near it, from searches for basins."""
    best = find_basins(machine.reduced(), 12345).means[0]

    def far(means: np.ndarray) -> np.ndarray:
        return np.abs(means - best).sum(1) >= radius

    def bound_of(bound: LowerBound) -> LowerBound:
        kept = far(bound.means)
        return bound if kept.all() else LowerBound(-1e9, bound.means[kept] if kept.any() else 1 - bound.means[:1])

    def search(*args: Any, **settings: Any) -> Basins:
        found = find_basins(*args, **settings)
        kept = far(found.means)
        if not kept.any():
            return Basins(1 - found.means[:1], found.bounds[:1] - 100, bound_of(found.lower_bound))
        return Basins(found.means[kept], found.bounds[kept], bound_of(found.lower_bound))

    def settled(*args: Any, **settings: Any) -> LowerBound:
        found = with_basins_of(*args, **settings)
        return bound_of(found) if level == "states" else found

    if level == "nothing":
        yield
        return
    with patch.object(tempered, "find_basins", search), patch.object(tempered, "with_basins_of", settled):
        yield


def measured(name: str, level: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the error, the verdict and the cost of one estimate."""
    machine, exact = known(name, args.cache)
    started = time.process_time()
    with hidden(machine, level, args.radius):
        found = estimate_log_z(machine, method="pt-bar", seed=seed, time_limit=args.limit, threads=1)
    error = found.log_z - exact
    failed = [check["name"] for check in found.diagnostics["checks"] if not check["passed"]]
    return {
        "machine": name,
        "hidden": level,
        "seed": seed,
        "error": error,
        "std_err": found.std_err,
        "reference": found.diagnostics.get("reference", "uniform"),
        "trusted": found.trustworthy,
        "wrong": abs(error) > WRONG * found.std_err,
        "failed": failed,
        "cpu_seconds": time.process_time() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*MADE, *TRAINED]
    parser.add_argument("--machines", nargs="+", choices=names, default=names)
    parser.add_argument("--hide", nargs="+", choices=["nothing", "search", "states"], default=["search", "states"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per estimate")
    parser.add_argument("--radius", type=float, default=3.5, help="kept units within which modes are hidden")
    parser.add_argument("--cache", type=Path, default=Path(pooch.os_cache("dvae-toolkit")) / "benchmarks")
    parser.add_argument("--json", type=Path, help="file for all results, one per line")
    args = parser.parse_args()
    results = []
    print(f"{'machine':24} {'hidden':8} {'seed':>4} {'error':>9} {'se':>8} {'from':8} verdict")
    for name in args.machines:
        for level in ["nothing"] if name in MADE else args.hide:
            for seed in range(args.seeds):
                row = measured(name, level, seed, args)
                results.append(row)
                verdict = ("TRUSTED AND WRONG" if row["wrong"] else "trusted") if row["trusted"] else "declined"
                print(
                    f"{name:24} {level:8} {seed:4} {row['error']:+9.4f} {row['std_err']:8.4f} "
                    f"{row['reference']:8} {verdict}{': ' if row['failed'] else ''}{'; '.join(row['failed'])}",
                    flush=True,
                )
                if args.json:
                    with args.json.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    of_wrong = Counter(name for row in results if row["wrong"] for name in row["failed"])
    n_wrong = sum(row["wrong"] for row in results)
    for name, n in of_wrong.most_common():
        print(f"caught {n} of {n_wrong} wrong ones: {name}")
    print(
        f"{len(results)} results, {sum(not row['trusted'] for row in results)} declined, {n_wrong} wrong, "
        f"{sum(row['wrong'] and row['trusted'] for row in results)} trusted and wrong"
    )


if __name__ == "__main__":
    main()
