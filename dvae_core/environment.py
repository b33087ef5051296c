"""Computer, time and cost of a result."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

NO_HOST = "DVAE_NO_HOST"  # environment variable; if set, results do not name the computer


def now_utc() -> str:
    """Return the date and time, UTC, to the second, in ISO 8601: `2026-05-01T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Spent(NamedTuple):
    """The cost of a process: host and process id, CPU seconds over all cores, and peak memory in bytes."""

    process: tuple[str, int]
    cpu_seconds: float
    peak_memory: int


def spent_here(since: float = 0.0) -> Spent:
    """Return the cost of this process since its CPU time was `since`, in seconds."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_bytes = peak if sys.platform == "darwin" else 1024 * peak
    return Spent((platform.node(), os.getpid()), time.process_time() - since, n_bytes)


class _Workers:
    """The total cost of worker processes so far, as reported by them."""

    cpu_seconds, peak_memory = 0.0, 0


def count_worker(spent: Spent) -> None:
    """Add the cost of a task of another process; that of this process is measured directly."""
    if spent.process != (platform.node(), os.getpid()):
        _Workers.cpu_seconds += spent.cpu_seconds
        _Workers.peak_memory = max(_Workers.peak_memory, spent.peak_memory)


class Effort:
    """Measures the cost of a result, from the creation of this object on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time() + _Workers.cpu_seconds

    @property
    def wall_seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._wall

    def environment(self) -> dict[str, Any]:
        """Return computer, time and cost of the result as plain JSON values.

        `cpu_seconds` includes all threads and processes, also the workers of a cluster; `peak_memory_mb` is the
        peak of the largest of these processes since its start.
        """
        own = spent_here()
        return {
            "date": now_utc(),
            "host": None if os.environ.get(NO_HOST) else platform.node(),
            "processor": _processor(),
            "gpu": _gpu(),
            "n_threads": _n_threads(),
            "system": platform.platform(),
            "cpu_seconds": round(own.cpu_seconds + _Workers.cpu_seconds - self._cpu, 3),
            "peak_memory_mb": round(max(own.peak_memory, _Workers.peak_memory) / 1e6),
            "commit": commit_of(Path(__file__).parents[1]),
        }


@cache
def _processor() -> str | None:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or None


def _gpu() -> str | None:
    """Return the name of the GPU that this process uses, or None."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return str(torch.cuda.get_device_name())


def _n_threads() -> int:
    """Return the number of threads that this process computes with."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else os.cpu_count() or 1


def commit_of(root: Path) -> str | None:
    """Return the commit checked out at `root`, read from its files; None if `root` is not a git checkout."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree: the file contains the path
            git = root / git.read_text().strip().removeprefix("gitdir: ")
        shared = git / "commondir"
        common = git / shared.read_text().strip() if shared.exists() else git
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        return _commit_of_branch(head.removeprefix("ref: "), git, common)
    except (OSError, UnicodeDecodeError):
        return None


def _commit_of_branch(name: str, git: Path, common: Path) -> str | None:
    """Return the commit of a branch such as `refs/heads/main`."""
    for place in (git, common):
        if (place / name).is_file():
            return (place / name).read_text().strip()
    lines = (common / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
