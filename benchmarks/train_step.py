"""Time of a training step by its parts, against the matrix products alone.

    python benchmarks/train_step.py small
    python benchmarks/train_step.py table2-mnist --repeats 3 --json step.json

The parts are those of the trainer's own step, timed by a stopwatch around the calls that it makes:

    sampling    block Gibbs sweeps of the persistent chains (the negative phase of Eq. 11)
    encoder     a draw of the latents from the posterior
    decoder     the rest of the bound: prior networks, p(x|.), energy and KL terms
    backward    back-propagation
    optimiser   the update of the weights
    other       noise, negative phase's energy, clipping, checks

The floor is the time of the matrix products that this very step made, of the same shapes and layouts, by torch.mm
into memory that is there already, and nothing else.  The step itself may use a faster product, oneDNN's.  Steps
and floors alternate in one process; medians are compared.  Images are random: no part's time depends on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

# Threads that spin while they wait slow down whoever else computes here, and the next part.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import DataSet, Split
from dvae_core.io.memory import freed_memory_kept
from dvae_core.training.presets import PRESETS
from dvae_core.training.trainer import Trainer

PARTS = ("sampling", "encoder", "decoder", "backward", "optimiser", "other")
SIDES = {"digits-small": 8, "demo": 8, "bars-and-stripes-small": 4}


def table_2(n_layers: int, n_continuous: int, prior_hidden: int) -> RunConfig:
    """Return an architecture of Table 2: 64+64 units, 4 groups, 100 sweeps of 20 chains for each of 100 images.

    Prior networks are not shared between layers here, which makes for more weights and the same products.
    """
    model = ModelConfig(
        n_left=64,
        n_right=64,
        n_groups=4,
        n_layers=n_layers,
        n_continuous=n_continuous,
        encoder_hidden=(2000, 2000),
        prior_hidden=(prior_hidden,),
    )
    return RunConfig("random", model, TrainConfig(batch_size=100, n_chains=2000, n_sweeps=100))


ARCHITECTURES = {name: preset.config("random") for name, preset in PRESETS.items()} | {
    "table2-mnist": table_2(18, 64, 1000),
    "table2-mnist-static": table_2(20, 256, 2000),
    "table2-omniglot": table_2(16, 256, 800),
    "table2-caltech101": table_2(12, 80, 100),
}


# --- the step -----------------------------------------------------------------------------------------------


class Stopwatch:
    """Seconds by part, an inner part's time being taken from the outer one's."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self.device, self.seconds, self.stack = device, defaultdict(float), ["other"]
        self.clock = clock
        self.last = self._now()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def _switch(self) -> None:
        now = self._now()
        self.seconds[self.stack[-1]] += now - self.last
        self.last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self.stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self.stack.pop()

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call, and start anew."""
        self._switch()
        seconds = {name: self.seconds[name] for name in PARTS}
        self.seconds.clear()
        return seconds

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def timed_trainer(
    config: RunConfig, side: int, device: str, clock: Callable[[], float]
) -> tuple[Trainer, Stopwatch]:
    """Return a trainer on random images whose step's parts are timed."""
    rng = np.random.default_rng(0)
    shape = (config.train.batch_size, side, side)
    split = Split(rng.integers(2, size=shape, dtype=np.uint8))
    data = DataSet("random", split, split, split, 1, "random pixels")
    trainer = Trainer(Path(tempfile.gettempdir()), config, data, device)
    watch = Stopwatch(trainer.device, clock)
    model, optimiser = trainer.model, trainer.optimiser
    for owner, method, part in (
        (model.prior, "gibbs", "sampling"),
        (model, "sample_posterior", "encoder"),
        (trainer.objective, "bound", "decoder"),
        (optimiser, "step", "optimiser"),
        (torch.autograd, "backward", "backward"),
    ):
        setattr(owner, method, watch.around(part, getattr(owner, method)))
    return trainer, watch


# --- the floor ----------------------------------------------------------------------------------------------

Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
# Places of the factors among a product's arguments; of the last one the second factor comes transposed.
TRANSPOSED = "_linear_pointwise"
PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1), TRANSPOSED: (0, 1)}
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}


class ProductRecorder(TorchDispatchMode):
    """Counts the matrix products that run within it, by part and by shape, strides and type of both factors."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch
        self.counts: Counter[tuple[str, Layout, Layout]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[name])
            factors = (left, right.T if name == TRANSPOSED else right)
            layouts = [(tuple(factor.shape), factor.stride(), factor.dtype) for factor in factors]
            self.counts[(self.watch.stack[-1], *layouts)] += 1
        return func(*args, **(kwargs or {}))


def floor(counts: Counter[tuple[str, Layout, Layout]], watch: Stopwatch) -> dict[str, float]:
    """Return the seconds that the recorded products take, by part."""
    memory: dict[Layout, torch.Tensor] = {}
    seconds = dict.fromkeys(PARTS, 0.0)
    for (part, *layouts), n in counts.items():
        for layout in layouts:
            if layout not in memory:
                shape, strides, dtype = layout
                memory[layout] = torch.empty_strided(shape, strides, dtype=dtype, device=watch.device).fill_(0.5)
        left, right = (memory[layout] for layout in layouts)
        product, out = torch.bmm if left.dim() == 3 else torch.mm, left @ right
        watch.take()
        for _ in range(n):
            product(left, right, out=out)
        seconds[part] += watch.take()["other"]
    return seconds


# --- measuring ----------------------------------------------------------------------------------------------


def measure(
    config: RunConfig, side: int, device: str, n_repeats: int, n_warmup: int, clock: str = "wall"
) -> dict[str, Any]:
    """Return median milliseconds of the parts and of their floors, and what they were measured on."""
    trainer, watch = timed_trainer(config, side, device, CLOCKS[clock])
    x = torch.from_numpy(trainer.data.fixed("train")).to(trainer.device).float()
    for _ in range(n_warmup):
        trainer._one_step(x, len(x))
    with ProductRecorder(watch) as recorder:
        trainer._one_step(x, len(x))
    steps, floors = [], []
    for _ in range(n_repeats):
        floors.append(floor(recorder.counts, watch))
        watch.take()
        trainer._one_step(x, len(x))
        steps.append(watch.take())
    parts = {name: summary([s[name] for s in steps], [f[name] for f in floors]) for name in PARTS}
    total = summary([sum(s.values()) for s in steps], [sum(f.values()) for f in floors])
    return {
        "parts": parts,
        "step": total,
        "sampling_share": parts["sampling"]["ms"] / total["ms"],
        "n_products": sum(recorder.counts.values()),
        "n_parameters": sum(p.numel() for p in trainer.model.parameters()),
    }


def summary(steps: list[float], floors: list[float]) -> dict[str, Any]:
    """Return medians in milliseconds, the smallest and largest step, and the median ratio of step to floor."""
    ratios = [step / floor for step, floor in zip(steps, floors, strict=True) if floor]
    return {
        "ms": 1e3 * statistics.median(steps),
        "range_ms": [1e3 * min(steps), 1e3 * max(steps)],
        "floor_ms": 1e3 * statistics.median(floors),
        "ratio": statistics.median(ratios) if ratios else None,
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield lines for people."""
    yield f"{'part':10} {'ms':>9} {'share':>6} {'products ms':>12} {'ratio':>6}"
    total = found["step"]["ms"]
    for name, row in [*found["parts"].items(), ("step", found["step"])]:
        # A part that multiplies next to no matrices has no floor worth the name.
        ratio = f"{row['ratio']:6.2f}" if row["floor_ms"] > 0.01 * row["ms"] else ""
        yield f"{name:10} {row['ms']:9.2f} {row['ms'] / total:6.1%} {row['floor_ms']:12.2f} {ratio}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument(
        "--amp", action="store_true", help="multiply matrices in bfloat16, as dvae-train --amp does"
    )
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="seconds on the wall, or of all CPUs together"
    )
    parser.add_argument("--side", type=int, help="pixels on a side of an image")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = ARCHITECTURES[args.architecture]
    config = replace(config, train=replace(config.train, amp=args.amp))
    side = args.side or SIDES.get(args.architecture, 28)
    with freed_memory_kept():  # as in training
        found = measure(config, side, args.device, args.repeats, args.warmup, args.clock)
    where = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.processor() or "cpu"
    print(f"{args.architecture} on {where}, {args.threads} threads, {args.repeats} repeats", file=sys.stderr)
    print("\n".join(table(found)))
    if args.json:
        setting = {**vars(args), "json": str(args.json), "where": where, "torch": torch.__version__}
        args.json.write_text(
            json.dumps({"setting": setting, "config": config.to_dict(), **found}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
