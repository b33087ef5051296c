"""Time a training step by its parts, and compare it with its matrix products alone.

    python benchmarks/train_step.py mnist-small
    python benchmarks/train_step.py table2-mnist --repeats 3 --json step.json
    python benchmarks/train_step.py paper-mnist --device cuda --amp --cuda-graph

The parts are those of the trainer's own step, timed by a stopwatch around the calls that it makes:

    sampling    block Gibbs sweeps of the persistent chains (the negative phase of Eq. 11)
    encoder     a draw of the latents from the posterior
    decoder     the rest of the bound: prior networks, p(x|.), energy and KL terms
    backward    back-propagation
    optimiser   the update of the weights
    other       noise, the energy of the negative phase, clipping, checks

With --compile, encoder and decoder are one part, `bound`. With --cuda-graph, the whole step is captured once and
replayed: its parts cannot be timed. Learning rate and weights of the KL terms are those of the capture, so that
this shows what a step could cost; dvae-train itself has no such mode.

The floor is the time of the matrix products of the same step without --compile, of the same shapes and layouts,
by torch.mm into allocated memory, and nothing else. The step itself may use a faster product, oneDNN's. Steps and
floors alternate in one process; their medians are compared. Images are random: no part's time depends on them.
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
from unittest import mock

# Threads that spin while they wait slow down other processes, and the next part.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae_core.config import ModelConfig, RunConfig, TrainConfig
from dvae_core.data import DataSet, Split
from dvae_core.io.memory import freed_memory_kept
from dvae_core.training import trainer as trainer_module
from dvae_core.training.objective import Objective
from dvae_core.training.presets import PRESETS
from dvae_core.training.trainer import Trainer

PARTS = ("sampling", "encoder", "decoder", "backward", "optimiser", "other")
BOUND = "bound"  # encoder and decoder, where they are compiled together
SIDES = {"digits-small": 8, "demo": 8, "bars-and-stripes-small": 4}


def table_2(n_layers: int, n_continuous: int, prior_hidden: int) -> RunConfig:
    """Return an architecture of Table 2: 64+64 units, 4 groups, 100 sweeps of 20 chains for each of 100 images.

    Prior networks are not shared between layers here: more weights, and the same products.
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
    """Measures seconds by part; an inner part's time is not counted in the outer one.

    Attributes
    ----------
    is_on : bool
        Whether parts are timed. Timing waits for the device, which the capture of a CUDA graph forbids.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self.device, self.seconds, self.stack, self.is_on = device, defaultdict(float), ["other"], True
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
        if not self.is_on:
            yield
            return
        self._switch()
        self.stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self.stack.pop()

    def take(self) -> dict[str, float]:
        """Return the seconds of each part since the last call, and reset them."""
        self._switch()
        seconds = {name: self.seconds[name] for name in (*PARTS, BOUND)}
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


def compile_bound(trainer: Trainer, watch: Stopwatch) -> None:
    """Let torch compile the bound, as `dvae-train --compile` does, and time it as one part."""
    del trainer.model.sample_posterior  # the stopwatch's: it cannot be compiled
    trainer.objective = Objective(trainer.model, trainer.settings.n_importance, compile=True)
    trainer.objective.bound = watch.around(BOUND, trainer.objective.bound)


def captured(trainer: Trainer, x: torch.Tensor, watch: Stopwatch) -> Callable[[], None]:
    """Capture a whole step as a CUDA graph, and return the function that replays it.

    A generator that is registered with the graph draws other numbers in every replay. The trainer's own ones are
    seeded again in every step, which cannot be captured.
    """
    watch.is_on = False
    generator, graph = torch.Generator(trainer.device), torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    for group in trainer.optimiser.param_groups:
        group["capturable"] = True
    with mock.patch.object(trainer_module, "torch_generator", return_value=generator):
        # A few steps on a stream of their own first, as the documentation of torch.cuda.graph asks for.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                trainer._one_step(x, len(x))
        torch.cuda.current_stream().wait_stream(stream)
        states = trainer.chains.z
        with torch.cuda.graph(graph):
            trainer._one_step(x, len(x))
            states.copy_(trainer.chains.z)
        trainer.chains.z = states
    watch.is_on = True
    return graph.replay


# --- the floor ----------------------------------------------------------------------------------------------

Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
# Places of the factors among a product's arguments; of the last one the second factor comes transposed.
TRANSPOSED = "_linear_pointwise"
PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1), TRANSPOSED: (0, 1)}
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}


class ProductRecorder(TorchDispatchMode):
    """Counts the matrix products in its context, by part and by shape, strides and type of both factors."""

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
    config: RunConfig,
    side: int,
    device: str,
    n_repeats: int,
    n_warmup: int,
    *,
    cuda_graph: bool = False,
    clock: str = "wall",
) -> dict[str, Any]:
    """Return median milliseconds of the parts and of their floors, and properties of the model.

    Parameters
    ----------
    config : RunConfig
        Settings of the run; `config.train.compile` is respected.
    side : int
        Pixels on a side of an image.
    device : str
        As torch names it.
    n_repeats, n_warmup : int
        Steps that are timed, and steps before them.
    cuda_graph : bool
        Replay the step as a CUDA graph.
    clock : str
        One of `CLOCKS`.
    """
    eager = replace(config, train=replace(config.train, compile=False))
    trainer, watch = timed_trainer(eager, side, device, CLOCKS[clock])
    x = torch.from_numpy(trainer.data.fixed("train")).to(trainer.device).float()
    trainer._one_step(x, len(x))
    with ProductRecorder(watch) as recorder:
        trainer._one_step(x, len(x))
    if config.train.compile:
        compile_bound(trainer, watch)
    watch.take()
    step = captured(trainer, x, watch) if cuda_graph else lambda: trainer._one_step(x, len(x))
    step()
    preparation = sum(watch.take().values())
    for _ in range(n_warmup):
        step()
    steps, floors = [], []
    for _ in range(n_repeats):
        floors.append(floor(recorder.counts, watch))
        watch.take()
        step()
        steps.append(watch.take())
    parts = {name: summary(*of_part(name, steps, floors)) for name in part_names(config, cuda_graph)}
    total = summary([sum(s.values()) for s in steps], [sum(f.values()) for f in floors])
    return {
        "parts": parts,
        "step": total,
        "first_step_s": preparation,
        **({} if cuda_graph else {"sampling_share": parts["sampling"]["ms"] / total["ms"]}),
        "n_products": sum(recorder.counts.values()),
        "n_parameters": sum(p.numel() for p in trainer.model.parameters()),
    }


def part_names(config: RunConfig, cuda_graph: bool) -> tuple[str, ...]:
    """Return the names of the parts that can be timed."""
    if cuda_graph:
        return ()
    return ("sampling", BOUND, *PARTS[3:]) if config.train.compile else PARTS


def of_part(
    name: str, steps: list[dict[str, float]], floors: list[dict[str, float]]
) -> tuple[list[float], list[float]]:
    """Return the seconds of a part in each step, and those of its floor."""
    members = ("encoder", "decoder") if name == BOUND else (name,)
    return [s[name] for s in steps], [sum(f[member] for member in members) for f in floors]


def summary(steps: list[float], floors: list[float]) -> dict[str, Any]:
    """Return the medians of step and floor, the range of the steps, all in milliseconds, and the median ratio."""
    ratios = [step / floor for step, floor in zip(steps, floors, strict=True) if floor]
    return {
        "ms": 1e3 * statistics.median(steps),
        "range_ms": [1e3 * min(steps), 1e3 * max(steps)],
        "floor_ms": 1e3 * statistics.median(floors),
        "ratio": statistics.median(ratios) if ratios else None,
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the printed table."""
    yield f"{'part':10} {'ms':>9} {'share':>6} {'products ms':>12} {'ratio':>6}"
    total = found["step"]["ms"]
    for name, row in [*found["parts"].items(), ("step", found["step"])]:
        # The ratio means nothing for a part with hardly any matrix products.
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
    parser.add_argument("--compile", action="store_true", help="compile the bound, as dvae-train --compile does")
    parser.add_argument("--cuda-graph", action="store_true", help="replay the whole step as a CUDA graph")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="wall seconds, or CPU seconds of all threads"
    )
    parser.add_argument("--side", type=int, help="pixels on a side of an image")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    args = parser.parse_args()
    if args.cuda_graph and (args.compile or not args.device.startswith("cuda")):
        parser.error("--cuda-graph: needs --device cuda, and cannot be combined with --compile")
    torch.set_num_threads(args.threads)
    config = ARCHITECTURES[args.architecture]
    config = replace(config, train=replace(config.train, amp=args.amp, compile=args.compile))
    side = args.side or SIDES.get(args.architecture, 28)
    with freed_memory_kept():  # as in training
        found = measure(
            config, side, args.device, args.repeats, args.warmup, cuda_graph=args.cuda_graph, clock=args.clock
        )
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
