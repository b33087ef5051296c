"""Train the discrete VAE of D-Wave's dwave-pytorch-plugin for a stated CPU time of one thread.

    pip install dwave-pytorch-plugin==0.4.0
    python reproduce/peer/train_peer.py mnist-static --out runs/peer.pt --minutes 5
    python reproduce/peer/train_peer.py mnist-static --out runs/peer-tuned.pt --minutes 5 --recipe tuned

Model, latent-to-discrete map, loss and sampler are the plugin's; the rest follows one of two recipes:

`documented`: the settings of the plugin and of its example of a discrete VAE on MNIST: Adam at 3e-4 with weight
decay 1e-5, 128 images with 8 replicas each, logits clipped to ± 2.8, a weight of the KL term that grows
geometrically from 1e-6 to 1 times that of the bound, the default initial couplings of the machine,
`pseudo_kl_divergence_loss` unchanged, and block Gibbs as in the plugin's README. Two things differ: the networks
are as wide as ours instead of convolutions, and the pixels are binary, so that their cross-entropy replaces the
squared error.

`tuned`: changes suggested by the code: the entropy is summed over units (the loss takes their mean,
which makes its gradient n_units times too small), the KL weight rises linearly over the first tenth, the step size
falls from 3e-3 by a factor of ten, one replica, small initial couplings, no clipping.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_model import PRIOR, Decoder, PeerModel, encoder, save_peer
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dvae_core.data import load
from dvae_core.io.files import write_text

VERSIONS = ("dwave-pytorch-plugin", "torch", "numpy")


@dataclass(frozen=True)
class Recipe:
    """Settings of a training of the plugin's model; rates and weights at a share t of the time."""

    learning_rate: float
    learning_rate_decay: float
    kl_start: float
    kl_warmup: float
    kl_geometric: bool
    logit_limit: float
    summed_entropy: bool
    initial_couplings: float | None
    n_replicas: int
    n_sweeps: int
    batch_size: int = 128
    n_chains: int = 256
    weight_decay: float = 1e-5

    def step_size(self, t: float) -> float:
        """Return Adam's step size."""
        return self.learning_rate * self.learning_rate_decay**t

    def kl_weight(self, t: float) -> float:
        """Return the weight of the KL term, 1 being that of the bound."""
        done = min(1.0, t / self.kl_warmup)
        return self.kl_start ** (1 - done) if self.kl_geometric else self.kl_start + (1 - self.kl_start) * done


RECIPES = {
    "documented": Recipe(3e-4, 1.0, 1e-6, 1.0, True, 2.8, False, None, 8, 10),
    "tuned": Recipe(3e-3, 0.1, 0.05, 0.1, False, float("inf"), True, 0.01, 1, 5),
}


class PeerTrainer:
    """The plugin's discrete VAE, its prior over a complete bipartite graph, and its optimiser."""

    def __init__(self, n_pixels: int, n_left: int, n_right: int, hidden: list[int], recipe: Recipe) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the plugin's imports
            from dwave.plugins.torch.models import DiscreteVariationalAutoencoder, GraphRestrictedBoltzmannMachine
            from dwave.plugins.torch.models.losses.kl_divergence import pseudo_kl_divergence_loss
            from dwave.plugins.torch.samplers import BlockSampler

        self.recipe, self.n_units, self.pseudo_kl = recipe, n_left + n_right, pseudo_kl_divergence_loss
        edges = list(product(range(n_left), range(n_left, self.n_units)))
        couplings = None
        if recipe.initial_couplings is not None:
            drawn = recipe.initial_couplings * torch.randn(len(edges))
            couplings = dict(zip(edges, drawn.tolist(), strict=True))
        self.grbm = GraphRestrictedBoltzmannMachine(range(self.n_units), edges, quadratic=couplings)
        self.dvae = DiscreteVariationalAutoencoder(
            encoder([n_pixels, *hidden, self.n_units], recipe.logit_limit),
            Decoder([self.n_units, *reversed(hidden), n_pixels]),
        )
        self.sampler = BlockSampler(
            self.grbm, lambda node: node < n_left, recipe.n_chains, schedule=[1.0] * recipe.n_sweeps, seed=0
        )
        parameters = [*self.dvae.parameters(), *self.grbm.parameters()]
        self.optimiser = torch.optim.Adam(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)

    def step(self, x: Tensor, t: float) -> tuple[float, float]:
        """Take a step on images x, float, shape (n_images, n_pixels), at the share t of the time.

        Returns the cross-entropy of an image in nats, and the pseudo-KL.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.step_size(t)
        logits, spins, decoded = self.dvae(x, self.recipe.n_replicas)
        targets = x.unsqueeze(1).expand_as(decoded)
        losses = binary_cross_entropy_with_logits(decoded, targets, reduction="sum")
        reconstruction = losses / (len(x) * self.recipe.n_replicas)
        kl = self.pseudo_kl(spins, logits, self.sampler.sample(), self.grbm).squeeze()
        if self.recipe.summed_entropy:
            kl = kl - (self.n_units - 1) * binary_cross_entropy_with_logits(logits, logits.sigmoid())
        self.optimiser.zero_grad()
        (reconstruction + self.recipe.kl_weight(t) * kl).backward()
        self.optimiser.step()
        return float(reconstruction.detach()), float(kl.detach())

    def model(self) -> PeerModel:
        """Return the present model, for `save_peer`."""
        prior = self.grbm.state_dict()
        return PeerModel(self.dvae.encoder, self.dvae.decoder, {name: prior[name] for name in PRIOR})


def minibatches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Yield minibatches without end, in a new order every epoch; an incomplete last minibatch is left out."""
    size = min(size, len(images))
    while True:
        order = torch.randperm(len(images)).numpy()
        for start in range(0, len(images) - size + 1, size):
            yield torch.from_numpy(images[order[start : start + size]]).float()


def train(trainer: PeerTrainer, images: np.ndarray, seconds: float, started: float) -> dict[str, Any]:
    """Train until the process has used `seconds` of CPU time since `started`; return a record of the training."""
    reconstruction = kl = 0.0
    for n_steps, x in enumerate(minibatches(images, trainer.recipe.batch_size)):
        share = (time.process_time() - started) / seconds
        if share >= 1:
            break
        now, now_kl = trainer.step(x, share)
        reconstruction += (now - reconstruction) * (0.02 if n_steps else 1)
        kl += (now_kl - kl) * (0.02 if n_steps else 1)
        if n_steps % 500 == 0:
            print(
                f"{share:4.0%} step {n_steps}: reconstruction {reconstruction:.1f}, pseudo-KL {kl:.1f}", flush=True
            )
    return {
        "n_steps": n_steps,
        "epochs": round(n_steps * trainer.recipe.batch_size / len(images), 2),
        "cpu_seconds": round(time.process_time() - started, 2),
        "reconstruction": round(reconstruction, 2),
        "pseudo_kl": round(kl, 2),
    }


def main() -> None:
    """Train; write the tensors, and a JSON file with the settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="data set, as for dvae-train")
    parser.add_argument("--out", type=Path, required=True, help="state dict to write")
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of the process")
    parser.add_argument("--recipe", choices=RECIPES, default="documented")
    parser.add_argument("--left", type=int, default=32)
    parser.add_argument("--right", type=int, default=32)
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="JSON file for the settings and the course of the training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    images = load(args.data).fixed("train")
    recipe = RECIPES[args.recipe]
    trainer = PeerTrainer(images.shape[1], args.left, args.right, args.hidden, recipe)
    # Imports and data are not counted for the peer.
    found = train(trainer, images, 60 * args.minutes, time.process_time())
    save_peer(args.out, trainer.model())
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "report")}
    report = {
        **settings,
        "settings": {k: str(v) if v == float("inf") else v for k, v in asdict(recipe).items()},
        "n_parameters": sum(p.numel() for p in trainer.optimiser.param_groups[0]["params"]),
        **found,
        "versions": {name: version(name) for name in VERSIONS},
    }
    print(json.dumps(report))
    if args.report:
        write_text(args.report, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
