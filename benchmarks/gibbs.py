"""Measure chain-sweeps per core-second of block Gibbs sampling, without and with parallel tempering.

    python benchmarks/gibbs.py
    python benchmarks/gibbs.py --shapes 64x64 784x20 --threads 1 --json gibbs.json
    python benchmarks/gibbs.py --device cuda

A chain-sweep draws both sides of one chain once. All rows use the same RBM and the same number of chains:

    naive torch        bernoulli(sigmoid(matmul)) for either side: the obvious way to write it
    torch              the tempering of this project in torch, sweeps alone
    torch, tempering   the same with works and exchanges after every sweep
    numba              the compiled kernels of this project, sweeps alone
    numba, tempering   the same with works and exchanges after every sweep
    products alone     both matrix products in single precision, into allocated memory
    random alone       a uniform random number for every unit, by torch, into allocated memory

The last two limit any code that multiplies matrices or draws from torch; the kernels do neither. Rows take turns,
and their medians are compared. A core-second is a second of processor time, so that other processes on the machine
matter less; `busy` is the share of its threads' time in which a row was running. On a GPU, seconds are those of
the clock, and there is no row of numba.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

# Threads that spin while they wait slow down other processes, and the next row.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numba
import numpy as np
import torch

from dvae_eval.machine import BipartiteMachine
from dvae_eval.sampling import tempering
from dvae_eval.sampling.replicas import Replicas
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas

Sampler = Callable[[int], object]


def random_rbm(n: int, m: int) -> BipartiteMachine:
    rng = np.random.default_rng(0)
    W = rng.normal(size=(n, m)) / np.sqrt(max(n, m))
    return BipartiteMachine.from_arrays(W, rng.normal(size=n), rng.normal(size=m))


# --- the samplers: each is called with a number of sweeps -----------------------------------------------------


def naive(machine: BipartiteMachine, n_chains: int, device: str) -> Sampler:
    W, b, c = (torch.from_numpy(a).float().to(device) for a in (machine.W, machine.b_left, machine.b_right))
    v = b.new_zeros(n_chains, len(b)).bernoulli_(0.5)

    def sweep(n: int) -> None:
        nonlocal v
        for _ in range(n):
            h = torch.bernoulli(torch.sigmoid(v @ W + c))
            v = torch.bernoulli(torch.sigmoid(h @ W.T + b))

    return sweep


def products(machine: BipartiteMachine, n_chains: int, device: str) -> Sampler:
    W = torch.from_numpy(machine.W).float().to(device)
    transposed, (v, h) = W.T.contiguous(), (torch.rand(n_chains, n, device=device) for n in W.shape)

    def multiply(n: int) -> None:
        for _ in range(n):
            torch.mm(v, W, out=h)
            torch.mm(h, transposed, out=v)
            v.fill_(0.5)

    return multiply


def random_numbers(machine: BipartiteMachine, n_chains: int, device: str) -> Sampler:
    numbers = torch.empty(n_chains, machine.n_units, device=device)

    def draw(n: int) -> None:
        for _ in range(n):
            numbers.uniform_()

    return draw


def ours(machine: BipartiteMachine, args: argparse.Namespace, engine: str, threads: int) -> Replicas:
    with mock.patch.object(tempering, "has_numba", return_value=engine == "numba"):
        schedule = Schedule.uniform(args.rungs - 1)
        how = {"device": args.device, "threads": threads}
        t = make_replicas(machine, schedule, args.replicates, seed=0, round=0, **how)
    t.anneal(1)
    return t


def samplers(machine: BipartiteMachine, args: argparse.Namespace, threads: int) -> dict[str, Sampler]:
    size = (args.replicates * args.rungs, args.device)
    found: dict[str, Sampler] = {"naive torch": naive(machine, *size)}
    for engine in ("torch",) if args.device.startswith("cuda") else ("torch", "numba"):
        t = ours(machine, args, engine, threads)
        found[engine] = lambda n, t=t: t.sweep(t.schedule.betas, n)
        found[f"{engine}, tempering"] = t.run
    return found | {
        "products alone": products(machine, *size),
        "random alone": random_numbers(machine, *size),
    }


# --- measuring ------------------------------------------------------------------------------------------------


def timed(sample: Sampler, n: int, device: str) -> tuple[float, float]:
    """Return processor seconds and seconds on the clock; on a GPU both are those on the clock."""
    wall, cpu = time.monotonic(), time.process_time()
    sample(n)
    if not device.startswith("cuda"):
        return time.process_time() - cpu, time.monotonic() - wall
    torch.cuda.synchronize(device)
    return (time.monotonic() - wall,) * 2


def measure(machine: BipartiteMachine, args: argparse.Namespace, threads: int) -> dict[str, dict[str, float]]:
    """Return the rates of every sampler."""
    torch.set_num_threads(threads)
    rows, n_chains = samplers(machine, args, threads), args.replicates * args.rungs
    counts = {}
    for name, sample in rows.items():
        timed(sample, 2, args.device)
        cpu, _ = timed(sample, 2, args.device)
        counts[name] = max(2, round(args.seconds * threads * 2 / max(cpu, 1e-6)))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(args.repeats):
        for name, sample in rows.items():
            times[name].append(timed(sample, counts[name], args.device))
    return {name: summary(times[name], n_chains * counts[name], threads) for name in rows}


def summary(times: list[tuple[float, float]], n_sweeps: int, threads: int) -> dict[str, float]:
    rates = [n_sweeps / cpu for cpu, _ in times]
    return {
        "per_core_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "per_second": statistics.median(n_sweeps / wall for _, wall in times),
        "busy": statistics.median(cpu / (threads * wall) for cpu, wall in times),
    }


def table(shape: str, threads: int, found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield the lines of the printed table."""
    threads_words = f"{threads} thread{'s' if threads > 1 else ''}"
    yield f"{shape + ', ' + threads_words:22} {'per core-second':>16} {'x naive':>8} {'busy':>6}"
    reference = found["naive torch"]["per_core_second"]
    for name, row in found.items():
        rate = row["per_core_second"]
        yield f"{name:22} {rate:16,.0f} {rate / reference:8.2f} {row['busy']:6.0%}"
    yield ""


def shape(text: str) -> str:
    n, _, m = text.partition("x")
    if not (n.isdecimal() and m.isdecimal() and int(n) and int(m)):
        raise argparse.ArgumentTypeError(f"{text}: not a shape; give one like 64x64")
    return text


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=shape, help="units on both sides, like 64x64")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", nargs="+", type=int, help="numbers of threads [one, and all cores]")
    parser.add_argument("--replicates", type=int, default=40)
    parser.add_argument("--rungs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.3, help="processor time of one measurement")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a smoke test, no measurement")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    if args.quick:
        args.replicates, args.seconds, args.repeats = 2, 0.002, 1
        args.shapes = args.shapes or ["20x30"]
    args.shapes = args.shapes or ["64x64", "128x128", "784x500"]
    on_gpu = args.device.startswith("cuda")
    args.threads = args.threads or ([1] if on_gpu else sorted({1, cores}))
    where = torch.cuda.get_device_name() if on_gpu else platform.processor() or "cpu"
    print(
        f"{where}, {cores} cores, {args.replicates * args.rungs} chains, {args.repeats} repeats", file=sys.stderr
    )
    results = []
    for name in args.shapes:
        machine = random_rbm(*map(int, name.split("x")))
        for threads in args.threads:
            found = measure(machine, args, threads)
            print("\n".join(table(name, threads, found)), flush=True)
            results.append({"shape": name, "threads": threads, "rows": found})
    if args.json:
        setting = {**vars(args), "json": str(args.json), "where": where, "cores": cores}
        setting |= {"torch": torch.__version__, "numba": numba.__version__, "numpy": np.__version__}
        args.json.write_text(json.dumps({"setting": setting, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
