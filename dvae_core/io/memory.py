"""How much memory is available, a refusal before more is asked for, and memory kept between steps."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..text import byte_size

# Files of a control group's memory: limit, use, and what of the use is cache; of version 2 and 1.
CGROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

# Parameters of glibc's mallopt, and values: blocks below 32 MB (the most that it takes) come from the heap, of
# which up to 1 GB that is free stays with the process.
MALLOPT = {-3: 1 << 25, -1: 1 << 30}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let malloc keep what is freed within the block for its next allocations, and return it at the end.

    By default glibc returns every large block to the system, which clears it, page by page, when the next step
    of a training asks for as much: a tenth of the time of a step.  The settings hold for the whole process and
    outlast the block.  With another C library nothing happens.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    for parameter, value in MALLOPT.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        libc.malloc_trim(0)


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process can have without swapping.

    The minimum of free physical memory, what the limits of control groups leave (containers, and schedulers that
    hand out memory), and this process's limit of addresses; all physical memory where the free part is unknown.

    Parameters
    ----------
    root : Path
        Where `proc` and `sys` are.
    """
    return min((_free_memory(root), *_left_by_groups(root), *_left_by_limit()))


def _free_memory(root: Path) -> int:
    """Return the bytes that the machine can give without swapping."""
    try:
        fields = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text("ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what is left within the limit of every control group that this process is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for kind in {"memory", ""} & set(controllers.split(",")):
            home, *names = CGROUPS[kind]
            path = Path(place.strip("/"))
            for directory in (path, *path.parents):
                yield from _left_in(root / home / directory, *names)


def _left_in(directory: Path, limit: str, use: str, cache: str) -> Iterator[int]:
    """Yield what is left within the limit of one control group, if it has one that can be read."""
    try:
        most, used = ((directory / name).read_text().strip() for name in (limit, use))
        if most == "max":
            return
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        yield max(0, int(most) - int(used) + int(stat.get(cache, 0)))
    except (OSError, ValueError):
        return


def _left_by_limit() -> Iterator[int]:
    """Yield what is left within this process's limit of addresses (ulimit -v), if there is one."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        used = 0
    yield max(0, most - used)


def require_memory(n_bytes: float, option: str, what: str, hint: str) -> None:
    """Refuse what would take more memory than there is.

    Parameters
    ----------
    n_bytes : float
        What it is going to take beyond what this process has already.
    option, what, hint : str
        The setting to change, what takes the memory, and what to do.

    Raises
    ------
    ConfigError
        If that is more than `available_memory()`.
    """
    if n_bytes > (free := available_memory()):
        raise ConfigError(
            f"{option}: {what} takes about {byte_size(n_bytes)}, and {byte_size(free)} is free; {hint}"
        )
