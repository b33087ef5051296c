"""The gain of lateral connections against training time, by data set, width of the networks or number of layers.

    python reproduce/gains.py reproduce/results/datasets
    python reproduce/gains.py reproduce/results/lateral

Prints a Markdown table of the validation bound with an RBM prior minus that with independent units, nats per
image, after equal numbers of epochs: the mean over seeds, and its standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dvae_core.training.metrics import read_metrics
from dvae_core.types import Float

EPOCHS = (5, 10, 20, 40, 80, 200)


def bounds(run: Path) -> Float:
    """Return the validation bound after every epoch of a run, nats per image, shape (n_epochs,)."""
    return np.array([epoch.valid.elbo for epoch in read_metrics(run / "metrics.jsonl")[0]])


def gains(folder: Path) -> Float:
    """Return the gain of each seed after every epoch, shape (n_seeds, n_epochs)."""
    with_rbm = sorted(folder.glob("prior-rbm_seed-*"))
    return np.stack([bounds(run) - bounds(folder / run.name.replace("rbm", "independent")) for run in with_rbm])


def cell(values: Float) -> str:
    """Return mean and standard error of seeds."""
    return f"+{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def main(root: Path) -> None:
    """Print a row for each folder of runs below `root`."""
    print("| runs |" + "".join(f" {n} epochs |" for n in EPOCHS))
    print("| --- |" + " ---: |" * len(EPOCHS))
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        found = gains(folder)
        cells = (cell(found[:, n - 1]) if n <= found.shape[1] else "" for n in EPOCHS)
        print(f"| {folder.name} |" + "".join(f" {text} |" for text in cells))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
