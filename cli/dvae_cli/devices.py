"""Where to compute, and with how many threads."""

from __future__ import annotations

import torch

from dvae_core.errors import ConfigError

__all__ = ["prepare_device"]


def prepare_device(device: str, threads: int | None) -> None:
    """Set the number of CPU threads, and make sure that `device` can be used; ConfigError if it cannot."""
    if threads:
        torch.set_num_threads(threads)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: {device!r} cannot be used here; give cpu") from error
