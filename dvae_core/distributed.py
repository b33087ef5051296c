"""Data-parallel training of one model by several processes.

Each process holds the whole model and advances all persistent chains, but processes only its share of each
minibatch.  The loss is a sum over its images, divided by the number of images in *all* processes, so that the
gradients of the processes add up, even for shares of different sizes.  Without a process group (see
`torch.distributed`) there is a single process, and `all_reduce(x)` returns x.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def launched() -> bool:
    """Return whether this process is one of those that `torchrun` started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def init_process_group(device: str) -> str:
    """Join the process group of `torchrun`, and return the device of this process."""
    if torch.device(device).type != "cuda":
        dist.init_process_group("gloo")
        return device
    local = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(local)
    dist.init_process_group("nccl", device_id=torch.device(local))
    return local


def destroy_process_group() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; process 0 writes files and messages."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait until all processes have called this function."""
    if size() > 1:
        dist.barrier()


@contextmanager
def first_process_first() -> Iterator[None]:
    """Run a block first in process 0, then in the others, which see the files that it wrote."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def shard_of(n: int) -> slice:
    """Return this process's share of the indices 0..n-1: contiguous, of nearly equal size, possibly empty."""
    return slice(n * rank() // size(), n * (rank() + 1) // size())


class _AllReduce(torch.autograd.Function):
    """The sum over all processes.  All losses depend on it, so its gradient is summed over processes, too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        result = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _AllReduce.forward(ctx, gradients[0])


def all_reduce(value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes, the same bits in each; differentiable."""
    if size() == 1:
        return value
    result: Tensor = _AllReduce.apply(value)  # type: ignore[no-untyped-call]
    return result


def any_process(flag: bool) -> bool:
    """Return whether `flag` is set in any process.  It synchronises the device; do not call it within a step."""
    if size() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(all_reduce(torch.tensor(float(flag), device=device)) > 0)


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its sum over all processes, in a single message."""
    if size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for g, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        g.copy_(summed.view_as(g))
