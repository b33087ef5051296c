"""Compare errors of log Z with their standard errors: z over many seeds on trained machines.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --machines mnist-784x20-late --seeds 100 --limit 20 --json z.jsonl

Each row is a machine of `trained_machines.py` whose log Z is exact by enumeration: the standard deviation of z =
error / standard error, which is 1 if standard errors are right; the mean of z; the number of declined results; the
largest |z| of a trusted result; medians of |error| and of the standard error, in nats; and mean CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pooch
from trained_machines import HELD_OUT, RECIPES, trained

from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.readers import read_machine

USUAL = ["digits01-784x20", "mnist-784x20-late", "populations-800x20-late"]


def measured(name: str, seed: int, limit: float, machine: Any, exact: float) -> dict[str, Any]:
    """Return the error, the verdict and the cost of one estimate."""
    started = time.process_time()
    found = estimate_log_z(machine, method="pt-bar", seed=seed, time_limit=limit, threads=1)
    failed = [check["name"] for check in found.diagnostics["checks"] if not check["passed"]]
    return {
        "machine": name,
        "seed": seed,
        "error": found.log_z - exact,
        "std_err": found.std_err,
        "trusted": found.trustworthy,
        "reference": found.diagnostics.get("reference", "uniform"),
        "failed": failed,
        "cpu_seconds": time.process_time() - started,
    }


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """Return a machine's row of the table."""
    error, std_err = (np.array([row[key] for row in rows]) for key in ("error", "std_err"))
    z, is_trusted = error / std_err, np.array([row["trusted"] for row in rows])
    largest = np.abs(z[is_trusted]).max() if is_trusted.any() else np.nan
    spread = z.std(ddof=1) if len(z) > 1 else np.nan
    seconds = np.mean([row["cpu_seconds"] for row in rows])
    return (
        f"{name:26} {len(z):5} {spread:6.2f} {z.mean():+6.2f} {(~is_trusted).sum():8} {largest:8.1f} "
        f"{np.median(np.abs(error)):9.4f} {np.median(std_err):9.4f} {seconds:6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    exact = [name for name, recipe in RECIPES.items() if recipe.n_hidden <= 20]
    parser.add_argument("--machines", nargs="+", choices=exact, default=USUAL)
    parser.add_argument(
        "--held-out", action="store_true", help="use the machines with other data, sizes and rates"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per estimate")
    parser.add_argument("--cache", type=Path, default=Path(pooch.os_cache("dvae-toolkit")) / "benchmarks")
    parser.add_argument("--json", type=Path, help="file to append all results to, one per line")
    args = parser.parse_args()
    columns = f"{'sd z':>6} {'mean':>6} {'declined':>8} {'max |z|':>8} {'|error|':>9} {'claimed':>9} {'cpu s':>6}"
    print(f"{'machine':26} {'seeds':>5} {columns}")
    for name in [f"held-out-{name}" for name in HELD_OUT] if args.held_out else args.machines:
        path, rows = args.cache / f"{name}.npz", []
        if not path.exists():
            args.cache.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **trained(RECIPES[name]))
        machine = read_machine(path).machine
        log_z = exact_log_z(machine)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            rows.append(measured(name, seed, args.limit, machine, log_z))
            if args.json:
                with args.json.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        print(line(name, rows), flush=True)


if __name__ == "__main__":
    main()
