"""Available memory, errors before more is requested than there is, and memory that a process keeps."""

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

# Memory of control groups, versions 2 and 1: directory, files with limit and use, and the name of the cache part.
CGROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

# Parameters of glibc's mallopt and their values: blocks below 32 MB, its largest value, are taken from the heap,
# and up to 1 GB of free heap stays with the process.
MALLOPT = {-3: 1 << 25, -1: 1 << 30}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep memory that is freed within the block for later allocations, and return it to the system at the end.

    By default glibc returns large blocks to the system, which must clear every page when the next training step
    allocates it again: a tenth of the time of a step.  The settings apply to the whole process and remain after
    the block.  With another C library this does nothing.
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
    """Return the bytes of memory that this process can allocate without swapping.

    The minimum of free physical memory, what the limits of control groups leave (in containers and under
    schedulers), and this process's address limit; total physical memory if the free part is unknown.

    Parameters
    ----------
    root : Path
        Directory that contains `proc` and `sys`.
    """
    return min((_free_memory(root), *_left_by_groups(root), *_left_by_limit()))


def _free_memory(root: Path) -> int:
    """Return the bytes that the computer can provide without swapping."""
    try:
        fields = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text("ascii").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield the bytes left within the limit of each control group of this process."""
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
    """Yield the bytes left within the limit of one control group, if its files can be read."""
    try:
        most, used = ((directory / name).read_text().strip() for name in (limit, use))
        if most == "max":
            return
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        yield max(0, int(most) - int(used) + int(stat.get(cache, 0)))
    except (OSError, ValueError):
        return


def _left_by_limit() -> Iterator[int]:
    """Yield the bytes left within this process's address limit (ulimit -v), if it has one."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        used = 0
    yield max(0, most - used)


def require_memory(n_bytes: float, option: str, what: str, hint: str) -> None:
    """Raise ConfigError if more memory is needed than is available.

    Parameters
    ----------
    n_bytes : float
        Bytes needed beyond those that this process already uses.
    option, what, hint : str
        For the message: the setting to change, what needs the memory, and what to do.

    Raises
    ------
    ConfigError
        If `n_bytes` exceeds `available_memory()`.
    """
    if n_bytes > (free := available_memory()):
        raise ConfigError(
            f"{option}: {what} takes about {byte_size(n_bytes)}, and {byte_size(free)} is free; {hint}"
        )
