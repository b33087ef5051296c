"""The processes, memory and threads of an estimate, and its expected cost; nothing here changes a result."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import joblib
import torch

from dvae_core.errors import ConfigError
from dvae_core.io.memory import available_memory
from dvae_core.text import byte_size, duration

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
# For shorter work, in seconds, processes may take longer to start than they save.
WORTH_WORKERS = 60.0


@dataclass(frozen=True, slots=True)
class Resources:
    """The processes, memory and threads that an estimate may use.

    Attributes
    ----------
    n_workers : int
        Processes; 0 uses one per core, as far as the memory allows, if the work is long enough.
    memory : int
        Bytes for all processes together; 0 means half of the free memory.
    threads : int
        Threads per process.  Images are independent, so that one is best with enough workers.
    """

    n_workers: int = 0
    memory: int = 0
    threads: int = 1

    def workers_for(self, seconds: float, n_tasks: int, bytes_each: int) -> int:
        """Return the number of processes to use.

        Parameters
        ----------
        seconds : float
            Expected time of all tasks in a single process.
        n_tasks : int
        bytes_each : int
            Memory per process.

        Raises
        ------
        ConfigError
            If the memory does not suffice for one process.
        """
        budget = self.memory or available_memory() // 2
        if bytes_each > budget:
            raise ConfigError(
                f"--memory: {byte_size(budget)} is less than the {byte_size(bytes_each)} that one process takes; "
                "allow more"
            )
        wanted = self.n_workers or (joblib.cpu_count() if seconds > WORTH_WORKERS else 1)
        # The leading process takes its own share besides its workers.
        affordable = budget // bytes_each - 1
        return max(1, min(wanted, n_tasks, affordable))


@dataclass(frozen=True, slots=True)
class Plan:
    """The expected cost of an estimate, from a short measurement.

    Attributes
    ----------
    n_images, n_done, n_samples : int
        All images, those that an earlier run finished, and samples per image.
    n_workers : int
        Processes.
    seconds, memory : float, int
        Remaining time, and bytes of all processes together.
    what : str
        The kind of images, in words.
    """

    n_images: int
    n_done: int
    n_samples: int
    n_workers: int
    seconds: float
    memory: int
    what: str = "images"

    def __str__(self) -> str:
        """Return the plan in one line."""
        resumed = f", {self.n_done} of them finished before" if self.n_done else ""
        workers = f"{self.n_workers} processes" if self.n_workers > 1 else "one process"
        return (
            f"{self.n_images} {self.what} x {self.n_samples} samples{resumed}: about {duration(self.seconds)} "
            f"and {byte_size(self.memory)} with {workers}"
        )


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_memory(text: str) -> int:
    """Return the number of bytes of a size such as 500MB or 4G; ConfigError if the text is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if not found or not float(found[1]):
        raise ConfigError(f"--memory: {text!r} is not a size; give one such as 500MB or 4GB")
    return int(float(found[1]) * UNITS[found[2]])


def process_memory() -> int:
    """Return the peak memory of this process, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch use n threads within the block; their number may change the last digit of a result."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
