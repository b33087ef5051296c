"""Write an untrained model of a preset, to time its evaluation: the time does not depend on the weights.

python benchmarks/untrained.py paper-mnist table2.pt
dvae-eval ll table2.pt --limit 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from dvae_core.model.dvae import DVAE
from dvae_core.rng import torch_generator
from dvae_core.training.checkpoint import save_model
from dvae_core.training.presets import PRESETS

SIDE, MEAN = 28, 0.13


def main() -> None:
    """Initialise the model as training does, for images of 28 by 28, and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("target", type=Path, help="a file that ends in .pt")
    arguments = parser.parse_args()
    config = PRESETS[arguments.preset].config()
    model = DVAE(config.model, SIDE * SIDE)
    model.initialise(torch_generator(0, "weights"), torch.full((SIDE * SIDE,), MEAN))
    save_model(arguments.target, model.state_dict(), config, (SIDE, SIDE), {})


if __name__ == "__main__":
    main()
