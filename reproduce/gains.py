"""The gain of lateral connections against training time, by data set, width of the networks or number of layers.

    python reproduce/gains.py reproduce/results/datasets
    python reproduce/gains.py reproduce/results/lateral

Prints a Markdown table of the validation bound with an RBM prior minus that with independent units, nats per
image, after equal numbers of epochs: the mean over seeds, and its standard error.  Then follows the gain in test
log-likelihood after training; its error includes that of the images, paired image by image.  In the last column
the estimated gap of each bound is added to the bound.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dvae_core.training.metrics import read_metrics
from dvae_core.types import Float

EPOCHS = (5, 10, 20, 40, 80, 200)


def bounds(run: Path) -> Float:
    """Return the validation bound after every epoch of a run, nats per image, shape (n_epochs,)."""
    return np.array([epoch.valid.elbo for epoch in read_metrics(run / "metrics.jsonl")[0]])


def likelihoods(run: Path) -> Float:
    """Return the log-likelihood of every test image that was evaluated, nats, shape (n_images,)."""
    return np.array(json.loads((run / "ll.json").read_text(encoding="utf-8"))["per_image"]["log_likelihood"])


def gap(run: Path) -> Float:
    """Return the estimated gap between a run's bound and its log-likelihood, nats per image, shape (1,)."""
    return np.array([json.loads((run / "ll.json").read_text(encoding="utf-8"))["gap"]])


def gains(folder: Path, of: Callable[[Path], Float]) -> Float:
    """Return the gain of each seed in what `of` returns for a run, shape (n_seeds, n)."""
    with_rbm = sorted(folder.glob("prior-rbm_seed-*"))
    return np.stack([of(run) - of(folder / run.name.replace("rbm", "independent")) for run in with_rbm])


def std_err(values: Float) -> Float:
    """Return the standard error of the mean over the first axis."""
    return np.asarray(values.std(0, ddof=1) / len(values) ** 0.5)


def cell(mean: float, error: float) -> str:
    """Return a gain with its standard error."""
    return f"{mean:+.2f} ± {error:.2f}".replace("-", "−")


def cells(folder: Path) -> list[str]:
    """Return the gains in the bound after every number of epochs, and in log-likelihood."""
    bound, test = gains(folder, bounds), gains(folder, likelihoods)
    means, errors, n_epochs = bound.mean(0), std_err(bound), bound.shape[1]
    found = [cell(means[n - 1], errors[n - 1]) if n <= n_epochs else "" for n in EPOCHS]
    error = math.hypot(std_err(test.mean(0)), std_err(test.mean(1)))
    return [*found, cell(test.mean(), error), f"{test.mean() + gains(folder, gap).mean():+.2f}".replace("-", "−")]


def main(root: Path) -> None:
    """Print a row for each folder of runs below `root`; columns of epochs that no run has are left out."""
    rows = {path.name: cells(path) for path in sorted(root.iterdir()) if path.is_dir()}
    titles = [*(f"{n} epochs" for n in EPOCHS), "log-likelihood", "with gaps"]
    columns = {title: column for title, *column in zip(titles, *rows.values(), strict=True) if any(column)}
    print("| runs | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name, *texts in zip(rows, *columns.values(), strict=True):
        print(f"| {name} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
