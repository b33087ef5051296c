"""Where to compute, and with how many threads."""

from __future__ import annotations

import torch

from dvae_core.errors import ConfigError

from .options import WIDE


def prepare_device(device: str, threads: int | None, width: int) -> None:
    """Set the number of CPU threads, and make sure that `device` can be used.

    Parameters
    ----------
    device : str
        As torch names it.
    threads : int or None
        None takes all cores if there are layers of at least `WIDE` units, else one.
    width : int
        Width of the largest layer.

    Raises
    ------
    ConfigError
        If the device cannot be used here.
    """
    if threads or width < WIDE:
        torch.set_num_threads(threads or 1)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: {device!r} cannot be used here; give cpu") from error
