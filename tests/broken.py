"""Broken variants that tests of several files must reject."""

import numpy as np

from dvae_eval.sampling import basins


def blind_search(monkeypatch):
    """Let the search for basins start from a single state and go nowhere else."""
    monkeypatch.setattr(basins, "_starts", lambda reduced, *_: np.zeros((1, len(reduced.c))))
    monkeypatch.setattr(basins, "_random_starts", lambda reduced, *_: np.zeros((1, len(reduced.c))))
    monkeypatch.setattr(basins, "_from_turned", lambda reduced, W, modes, *_: modes)
