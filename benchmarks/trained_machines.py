"""Train small RBMs whose log Z is known exactly, by persistent contrastive divergence.

python benchmarks/trained_machines.py machines/ --machines digits01-784x20 clusters-80x10
dvae-eval logz machines/digits01-784x20.npz --method pt-bar --reference modes

Such machines have several basins of unequal weight. On the path from β = 0 mass moves between them abruptly, which
makes tempering slow. MNIST is read or downloaded as by `dvae-train`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dvae_core.data import load

LEAST, MOST = 0.01, 0.99  # limits of the means that the visible biases start from


class Recipe(NamedTuple):
    """Settings of a training: images, hidden units, updates, learning rate and images per batch."""

    data: Callable[[], torch.Tensor]
    n_hidden: int
    n_updates: int
    rate: float
    batch: int = 100


def mnist(digits: tuple[int, ...] = tuple(range(10))) -> torch.Tensor:
    """Return MNIST's training images of some digits, binarised by drawing, shape (n, 784)."""
    found = load("mnist", quiet=True)
    rows = np.isin(found.train.labels, digits)
    x = found.binary("train", np.random.default_rng(0))[rows]
    return torch.from_numpy(x).float()


def clusters(n_visible: int, weights: tuple[float, ...], noise: float = 0.07, n: int = 4000) -> torch.Tensor:
    """Return random patterns, each bit of each image flipped with probability `noise`, shape (n, n_visible)."""
    rng = np.random.default_rng(1)
    patterns = rng.random((len(weights), n_visible)) < 0.5
    which = rng.choice(len(weights), n, p=np.array(weights) / sum(weights))
    return torch.from_numpy(patterns[which] ^ (rng.random((n, n_visible)) < noise)).float()


def populations(n_visible: int, n: int = 4000) -> torch.Tensor:
    """Return genotype-like rows of three populations whose allele frequencies lie on a plane."""
    rng = np.random.default_rng(2)
    sites = rng.normal(size=(3, n_visible)) * np.array([[1.2], [1.2], [0.8]])
    centres = np.array([[0.0, 2.0], [-1.7, -1.0], [1.7, -1.0]])
    place = centres[rng.integers(3, size=n)] + 0.3 * rng.normal(size=(n, 2))
    p = 1 / (1 + np.exp(-(place @ sites[:2] + sites[2])))
    return torch.from_numpy(rng.random((n, n_visible)) < p).float()


def images(name: str) -> torch.Tensor:
    """Return the training images of a data set, binarised by drawing, shape (n, n_pixels)."""
    return torch.from_numpy(load(name, quiet=True).binary("train", np.random.default_rng(0))).float()


# Other data, sizes and learning rates than those of the machines on which the estimators were developed.
HELD_OUT = {
    "omniglot-784x18": Recipe(lambda: images("omniglot"), 18, 15_000, 0.02),
    "caltech101-784x18": Recipe(lambda: images("caltech101"), 18, 15_000, 0.02),
    "digits38-784x20": Recipe(lambda: mnist((3, 8)), 20, 15_000, 0.02),
    "digit1-784x16": Recipe(lambda: mnist((1,)), 16, 10_000, 0.02),
    "digits-64x20": Recipe(lambda: images("digits"), 20, 40_000, 0.03),
    "clusters-500x18": Recipe(lambda: clusters(500, (8, 4, 2, 1, 1), 0.05), 18, 12_000, 0.02),
    "populations-400x15": Recipe(lambda: populations(400), 15, 20_000, 0.02),
    "mnist-784x12": Recipe(mnist, 12, 30_000, 0.05),
}
RECIPES = {
    "digits-64x8": Recipe(lambda: images("digits"), 8, 3_000, 0.02),
    "digits-64x64": Recipe(lambda: images("digits"), 64, 5_000, 0.02),
    "clusters-80x10": Recipe(lambda: clusters(80, (1, 1, 1, 1, 1), 0.02), 10, 20_000, 0.02),
    "clusters-300x20": Recipe(lambda: clusters(300, (4, 3, 2, 1)), 20, 10_000, 0.02),
    "clusters-800x16": Recipe(lambda: clusters(800, (1, 1, 1)), 16, 6_000, 0.01),
    "clusters-120x11": Recipe(lambda: clusters(120, (1,) * 8, 0.03), 11, 40_000, 0.02),
    "populations-800x20-late": Recipe(lambda: populations(800), 20, 30_000, 0.02),
    "populations-800x20": Recipe(lambda: populations(800), 20, 12_000, 0.01),
    "digits01-784x20": Recipe(lambda: mnist((0, 1)), 20, 20_000, 0.01),
    "mnist-784x20-first": Recipe(mnist, 20, 300, 0.02),
    "mnist-784x20-early": Recipe(mnist, 20, 3_000, 0.02),
    "mnist-784x20": Recipe(mnist, 20, 20_000, 0.02),
    "mnist-784x20-late": Recipe(mnist, 20, 60_000, 0.02),
    "digits01-784x100": Recipe(lambda: mnist((0, 1)), 100, 9_000, 0.02),
    "populations-800x100": Recipe(lambda: populations(800), 100, 3_600, 0.02),
    "mnist-784x100": Recipe(mnist, 100, 13_000, 0.02),
    "mnist-784x500": Recipe(mnist, 500, 11_000, 0.02),
    **{f"held-out-{name}": recipe for name, recipe in HELD_OUT.items()},
}


def trained(recipe: Recipe, seed: int = 0) -> dict[str, np.ndarray]:
    """Return W, b_left and b_right after PCD-1 at a constant rate, with one chain per image of a batch."""
    generator = torch.Generator().manual_seed(seed)
    x = recipe.data()
    mean = x.mean(0).clamp(LEAST, MOST)
    W, b = 0.01 * torch.randn(x.shape[1], recipe.n_hidden, generator=generator), mean.logit()
    c = torch.zeros(recipe.n_hidden)
    v = torch.bernoulli(mean.expand(recipe.batch, -1), generator=generator)
    for _ in range(recipe.n_updates):
        batch = x[torch.randint(len(x), (recipe.batch,), generator=generator)]
        h = torch.bernoulli(torch.sigmoid(v @ W + c), generator=generator)
        v = torch.bernoulli(torch.sigmoid(h @ W.T + b), generator=generator)
        up, down = torch.sigmoid(batch @ W + c), torch.sigmoid(v @ W + c)
        W += recipe.rate * (batch.T @ up - v.T @ down) / recipe.batch
        b += recipe.rate * (batch.mean(0) - v.mean(0))
        c += recipe.rate * (up.mean(0) - down.mean(0))
    return {"W": W.numpy(), "b_left": b.numpy(), "b_right": c.numpy()}


def main() -> None:
    """Train the machines that were asked for and are not in the folder yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--updates", type=int, help="updates per machine, for a smoke test")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in args.machines:
        if not (path := args.folder / f"{name}.npz").exists():
            recipe = RECIPES[name]._replace(**({"n_updates": args.updates} if args.updates else {}))
            np.savez_compressed(path, **trained(recipe))
            print(path, flush=True)


if __name__ == "__main__":
    main()
