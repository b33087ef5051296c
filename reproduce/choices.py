"""Compare the runs of reproduce/choices.sh at equal training time.

    python reproduce/choices.py time RUNS > costs.json      CPU seconds per epoch, steps of all runs in turn
    python reproduce/choices.py table RUNS                  a Markdown table, from metrics, ll.json and costs.json
    python reproduce/choices.py figure RUNS OUT.png         the gains in log-likelihood with their errors

RUNS is the directory with `base-4`, `base-8`, ... and one directory per choice; `table` finds costs.json in it.
The base was trained for several numbers of epochs.  Between them, its bound and log-likelihood at the training
time of a choice are interpolated linearly in the logarithm of the time.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dvae_core.data import load
from dvae_core.io.memory import freed_memory_kept
from dvae_core.training.run_directory import read_config
from dvae_core.training.trainer import Trainer
from dvae_core.types import Float
from dvae_reports.figures.panels import DPI
from dvae_reports.figures.registry import figure_bytes
from dvae_reports.figures.style import PALETTE, styled
from dvae_reports.names import WIDTHS

BASE = "base-"
ROUNDS, STEPS = 7, 10


def runs_in(root: Path) -> dict[str, Path]:
    """Return the first run of every choice."""
    return {path.parent.name: path for path in sorted(root.glob("*/seed-0"))}


# --- training time --------------------------------------------------------------------------------------------


def seconds_per_epoch(root: Path) -> dict[str, float]:
    """Return the CPU seconds of an epoch on one thread, by choice: medians over rounds of all choices in turn."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as empty, freed_memory_kept():
        trainers = {name: _trainer(run, Path(empty)) for name, run in runs_in(root).items()}
        found: dict[str, list[float]] = {name: [] for name in trainers}
        for turn in range(ROUNDS + 1):
            for name, trainer in trainers.items():
                seconds = _seconds(trainer)
                found[name] += [seconds] if turn else []  # the first round includes one-time costs
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _trainer(run: Path, place: Path) -> Trainer:
    config = read_config(run)
    return Trainer(place, config, load(config.dataset), torch.device("cpu"))


def _seconds(trainer: Trainer) -> float:
    """Return the CPU seconds of an epoch, from a few steps."""
    batches = list(islice(trainer._minibatches(), STEPS))
    started = time.process_time()
    for x, n_images in batches:
        trainer._one_step(x, n_images)
    return (time.process_time() - started) / STEPS * trainer.n_steps


# --- the table ------------------------------------------------------------------------------------------------


def measured(run: Path) -> tuple[int, float, dict[int, float]]:
    """Return the number of epochs, the last validation bound, and the log-likelihood by image, nats."""
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    each = json.loads((run / "ll.json").read_text(encoding="utf-8"))["per_image"]
    return len(epochs), epochs[-1]["valid"]["elbo"], dict(zip(each["index"], each["log_likelihood"], strict=True))


def rows(root: Path) -> list[tuple[str, int, float, float, float, float, float]]:
    """Return name, epochs, CPU minutes, bound, its gain, gain in log-likelihood and its error, by gain."""
    costs = json.loads((root / "costs.json").read_text(encoding="utf-8"))
    found = {name: measured(run) for name, run in runs_in(root).items()}
    minutes = {name: costs[name] * n_epochs / 60 for name, (n_epochs, _, _) in found.items()}
    bases = sorted((name for name in found if name.startswith(BASE)), key=minutes.__getitem__)
    images = sorted(found[bases[0]][2])

    def per_image(name: str) -> Float:
        return np.array([found[name][2][i] for i in images])

    times = np.log([minutes[name] for name in bases])
    base_bounds, base_images = [found[name][1] for name in bases], np.stack([per_image(name) for name in bases])
    lines = []
    for name, (n_epochs, bound, _) in found.items():
        weights = _weights(times, np.log(minutes[name]))
        gains = per_image(name) - weights @ base_images
        std_err = gains.std(ddof=1) / len(gains) ** 0.5
        lines.append((name, n_epochs, minutes[name], bound, bound - weights @ base_bounds, gains.mean(), std_err))
    return sorted(lines, key=lambda line: -line[5])


def _weights(times: Float, at: float) -> Float:
    """Return the weights of a linear interpolation at a time, or of an extrapolation from the last two points."""
    i = int(np.clip(np.searchsorted(times, at) - 1, 0, len(times) - 2))
    share = (at - times[i]) / (times[i + 1] - times[i])
    weights = np.zeros(len(times))
    weights[i], weights[i + 1] = 1 - share, share
    return weights


def print_table(root: Path) -> None:
    """Print the table."""
    print("| choice | epochs | CPU minutes | bound | gain in bound | gain in log-likelihood | ± images |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, n_epochs, minutes, bound, gain, ll_gain, std_err in rows(root):
        gains = ("", "", "") if name.startswith(BASE) else (f"{gain:+.2f}", f"{ll_gain:+.2f}", f"{std_err:.2f}")
        cells = (name, str(n_epochs), f"{minutes:.1f}", f"{bound:.2f}", *gains)
        print("| " + " | ".join(text if text == name else text.replace("-", "−") for text in cells) + " |")


@styled
def draw(root: Path, output: Path) -> None:
    """Draw the gains in log-likelihood, one line per choice, with two standard errors over images."""
    gains = [(name, gain, std_err) for name, *_, gain, std_err in rows(root) if not name.startswith(BASE)][::-1]
    names, values, errors = zip(*gains, strict=True)
    figure = Figure(figsize=(WIDTHS["column"], 0.19 * len(names) + 0.6), layout="constrained", dpi=DPI)
    ax = figure.subplots()
    ax.errorbar(
        values, range(len(names)), xerr=2 * np.array(errors), fmt="o", markersize=3.5, color=PALETTE["blue"]
    )
    ax.axvline(0, color=PALETTE["muted"], linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("gain (nats per image)")
    ax.grid(axis="x")
    output.write_bytes(figure_bytes(figure, output.suffix[1:]))


def main(what: str, root: str, *output: str) -> None:
    """Measure the training times, print the table, or draw the figure."""
    if what == "time":
        print(json.dumps(seconds_per_epoch(Path(root)), indent=1))
    elif what == "figure":
        draw(Path(root), Path(*output))
    else:
        print_table(Path(root))


if __name__ == "__main__":
    main(*sys.argv[1:])
