"""Random numbers that depend only on a seed, a purpose and a key.

Each task (a step, an epoch, an image, a replicate) derives its own generator from the user's seed and a key, so
that results do not depend on the number of workers, and a resumed run needs no saved generator state.
"""

from __future__ import annotations

import numpy as np
import torch

# The index of the purpose is the first number of the key, so that two purposes never share a stream.
PURPOSES = (
    "weights",
    "order",
    "pixels",
    "noise",
    "chains",
    "log_z",
    "validation",
    "samples",
    "tempering",
    "images",
    "gradients",
    "annealing",
    "simulated",
    "proposals",
)


def _sequence(seed: int, purpose: str, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of a purpose; ValueError if it is not in `PURPOSES`."""
    return np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *key))


def numpy_generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return a counter-based NumPy generator for `purpose` and the integers of `key`."""
    return np.random.Generator(np.random.Philox(_sequence(seed, purpose, *key)))


def swift_generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return a NumPy generator for `purpose` and `key` that is fast for long streams of numbers.

    Measured against the counter-based generator, uniform numbers take half the time, normal ones two thirds.
    """
    return np.random.Generator(np.random.SFC64(_sequence(seed, purpose, *key)))


def torch_generator(seed: int, purpose: str, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator on `device` for `purpose` and the integers of `key`."""
    state = _sequence(seed, purpose, *key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
