"""The device, and the number of CPU threads."""

from __future__ import annotations

import torch

from dvae_core.errors import ConfigError

from .options import WIDE


def prepare_device(device: str, threads: int | None, width: int) -> None:
    """Set the number of CPU threads, and check that `device` can be used.

    Parameters
    ----------
    device : str
        Its name in torch, such as `cuda:0`.
    threads : int or None
        None: all cores if `width` is at least `WIDE`, else one.
    width : int
        Number of units in the widest layer.

    Raises
    ------
    ConfigError
        If this computer or this torch does not have the device.
    """
    if threads or width < WIDE:
        torch.set_num_threads(threads or 1)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: {device!r} is not available here; give cpu") from error
