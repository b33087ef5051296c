"""Non-finite numbers: detected on the device without synchronising, and traced to their module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NEVER = 2**62


class NonFiniteMonitor:
    """Records on the device the first step with a non-finite value.

    Reading it synchronises a GPU, so read it rarely.
    """

    def __init__(self, device: torch.device) -> None:
        self.first_bad = torch.full((), NEVER, dtype=torch.int64, device=device)

    def record(self, step: int, *values: Tensor) -> Tensor:
        """Record whether the values of a step are finite; return 1 if this or an earlier step was not, else 0."""
        finite = torch.stack([value.isfinite().all() for value in values]).all()
        self.first_bad = torch.where(finite, self.first_bad, self.first_bad.clamp(max=step))
        return (self.first_bad < NEVER).float()

    def first_step(self) -> int | None:
        """Return the first step with a non-finite value, or None; synchronises a GPU."""
        step = int(self.first_bad)
        return None if step == NEVER else step


def is_finite(value: Any) -> bool:
    """Return whether a tensor, or every tensor in a tuple or list, is finite."""
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return all(map(is_finite, value)) if isinstance(value, tuple | list) else True


def locate_non_finite(model: nn.Module, replay: Callable[[], Any]) -> str:
    """Return the first non-finite weight, or else the first module with a non-finite output when `replay` runs.

    Returns
    -------
    str
        "the weight ...", "the output of ...", or "" if there is neither.
    """
    outputs: list[str] = []

    def hook_of(name: str) -> Callable[..., None]:
        # Inner modules finish before the modules that contain them, so the first is the innermost.
        return lambda _module, _inputs, output: None if is_finite(output) else outputs.append(name)

    hooks = [module.register_forward_hook(hook_of(name)) for name, module in model.named_modules() if name]
    try:
        replay()
    finally:
        for hook in hooks:
            hook.remove()
    weights = [f"the weight {name}" for name, value in model.named_parameters() if not is_finite(value)]
    return next(iter((*weights, *(f"the output of {name}" for name in outputs))), "")
