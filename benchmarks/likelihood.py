"""Measure pairs of image and sample per second of the importance weights, and compare three alternatives.

    python benchmarks/likelihood.py mnist-static-small
    python benchmarks/likelihood.py paper-mnist --images 2 --samples 2000 --json pairs.json

    weights           the computation of dvae-eval ll for an image: draw its weights and sum them
    straightforward   the image repeated for every sample, through the model as it was trained
    products          the matrix products of `weights` for every sample, alone
    decoder           the matrix products of the decoder among them

All four use the same model and the same number of threads. The products have the same shapes and are written into
allocated memory by torch.mm; `weights` may use a faster product, oneDNN's. All four alternate in one process, and
their medians are compared. Weights and images are random: no part's time depends on them. On a CPU, seconds are
processor time of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Threads that spin while they wait slow down other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae_core.io.memory import freed_memory_kept
from dvae_core.model.dvae import DVAE
from dvae_core.rng import torch_generator
from dvae_core.training.presets import PRESETS
from dvae_eval.likelihood.folded import FoldedDVAE
from dvae_eval.likelihood.importance import ImportanceTask

SIDES = {"digits-small": 8, "demo": 8, "bars-and-stripes-small": 4}
# Samples of `straightforward` at a time: all samples of an image, within the memory.
AT_ONCE = 10_000

Layout = tuple[tuple[int, ...], tuple[int, ...]]
# Places of the factors among a product's arguments; of the last one the second factor comes transposed.
TRANSPOSED = "_linear_pointwise"
PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), TRANSPOSED: (0, 1)}


class ProductRecorder(TorchDispatchMode):
    """Counts the matrix products in its context, by shapes and strides of both factors."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[Layout, Layout]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[name])
            factors = (left, right.T if name == TRANSPOSED else right)
            left, right = ((tuple(factor.shape), factor.stride()) for factor in factors)
            self.counts[left, right] += 1
        return func(*args, **(kwargs or {}))


def products_alone(counts: Counter[tuple[Layout, Layout]], device: torch.device) -> Callable[[], None]:
    """Return a function that computes the recorded products, and nothing else."""
    jobs = []
    for (left, right), n in counts.items():
        a, b = (torch.empty_strided(*layout, device=device).fill_(0.5) for layout in (left, right))
        jobs.append((a, b, a @ b, n))

    def multiply() -> None:
        for a, b, out, n in jobs:
            for _ in range(n):
                torch.mm(a, b, out=out)

    return multiply


def straightforward(model: DVAE, x: np.ndarray, n_samples: int, seed: int) -> float:
    """Return the estimate of log p(x) + log Z by the obvious code."""
    device = model.groups.device
    generator = torch_generator(seed, "noise", device=device)
    log_w = []
    for start in range(0, n_samples, AT_ONCE):
        n = min(AT_ONCE, n_samples - start)
        repeated = torch.from_numpy(x).to(device).float().repeat(n, 1)
        rho = torch.rand(n, model.n_noise[0], generator=generator, device=device)
        eps = torch.randn(n, model.n_noise[1], generator=generator, device=device)
        log_w.append(model.weight_parts(repeated, rho, eps).sum(0).double())
    return float(torch.logsumexp(torch.cat(log_w), 0) - math.log(n_samples))


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a call; on a CPU processor time, which other processes do not lengthen."""
    if device.type == "cpu":
        started = time.process_time()
        function()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


@torch.no_grad()
def measure(model: DVAE, images: np.ndarray, n_samples: int, n_repeats: int) -> dict[str, Any]:
    """Return pairs per second of all four, and their ratios."""
    device = model.groups.device
    folded = FoldedDVAE(model)
    # The products of one tile are those of every tile.
    tile = min(folded.tile, n_samples)
    image = folded.image(torch.from_numpy(images[0]))
    noise = (torch.rand(tile, model.n_noise[0], device=device), torch.randn(tile, model.n_noise[1], device=device))
    with ProductRecorder() as everything:
        image.weight_parts(*noise)
    draws = image.sample(*noise)
    with ProductRecorder() as decoder:
        image.log_p_x(folded.context(draws.latents, folded.n_layers))
    products, of_decoder = (products_alone(recorder.counts, device) for recorder in (everything, decoder))
    n_tiles = -(-n_samples // tile)
    ways: dict[str, tuple[Callable[[np.ndarray], Any], float]] = {
        "weights": (lambda x: ImportanceTask(folded, n_samples, 0)(x, 0), n_samples),
        "straightforward": (lambda x: straightforward(model, x, n_samples, 0), n_samples),
        "products": (lambda x: [products() for _ in range(n_tiles)], n_tiles * tile),
        "decoder": (lambda x: [of_decoder() for _ in range(n_tiles)], n_tiles * tile),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, n_repeats):
        x = images[repeat % len(images)]
        for name, (way, pairs) in ways.items():
            taken = seconds(lambda way=way, x=x: way(x), device)
            if repeat >= 0:  # the first call warms up
                rates[name].append(pairs / taken)
    return {
        "pairs_per_s": {name: statistics.median(values) for name, values in rates.items()},
        "range": {name: [min(values), max(values)] for name, values in rates.items()},
        "over_straightforward": median_ratio(rates["weights"], rates["straightforward"]),
        "share_of_products": median_ratio(rates["weights"], rates["products"]),
        "share_of_decoder": median_ratio(rates["weights"], rates["decoder"]),
        # Multiplications and additions per pair of image and sample.
        "products_per_pair": flops(everything.counts) / tile,
        "decoder_products_per_pair": flops(decoder.counts) / tile,
    }


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios of consecutive measurements."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def flops(counts: Counter[tuple[Layout, Layout]]) -> int:
    """Return the multiplications and additions of products."""
    return sum(2 * n * left[0][0] * left[0][1] * right[0][1] for (left, right), n in counts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", type=int, help="pixels on a side of an image")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    side = args.side or SIDES.get(args.preset, 28)
    model = DVAE(PRESETS[args.preset].model, side * side)
    model.initialise(torch_generator(0, "weights"), torch.full((side * side,), 0.2))
    model.to(args.device).eval().requires_grad_(False)
    images = np.random.default_rng(0).integers(2, size=(args.repeats, side * side), dtype=np.uint8)
    with freed_memory_kept():  # as in an estimate
        found = measure(model, images, args.samples, args.repeats)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.processor() or "cpu"
    print(f"{args.preset} on {where}, {args.threads} threads, {args.samples} samples", file=sys.stderr)
    print(f"{'':16} {'pairs/s':>10} {'µs/pair':>9}")
    for name, rate in found["pairs_per_s"].items():
        print(f"{name:16} {rate:10.0f} {1e6 / rate:9.2f}")
    print(
        f"weights: {found['over_straightforward']:.2f} x straightforward, "
        f"{found['share_of_products']:.0%} of the products' limit"
    )
    if args.json:
        setting = {**vars(args), "json": str(args.json), "where": where, "torch": torch.__version__}
        args.json.write_text(json.dumps({"setting": setting, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
