"""Where, when and at what cost a result was made."""

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

NO_HOST = "DVAE_NO_HOST"  # a variable of the environment: results then do not name the machine


def now_utc() -> str:
    """Return the date and time, UTC, to the second, as ISO 8601 has them: `2026-05-01T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Spent(NamedTuple):
    """What a process has spent: who it is, its CPU seconds on all cores, and its peak memory in bytes."""

    process: tuple[str, int]
    cpu_seconds: float
    peak_memory: int


def spent_here(since: float = 0.0) -> Spent:
    """Return what this process has spent since its CPU time was `since`, in seconds."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_bytes = peak if sys.platform == "darwin" else 1024 * peak
    return Spent((platform.node(), os.getpid()), time.process_time() - since, n_bytes)


class _Workers:
    """What worker processes have spent so far, as they tell it themselves."""

    cpu_seconds, peak_memory = 0.0, 0


def count_worker(spent: Spent) -> None:
    """Count what a task of another process has spent; this process's own is counted anyway."""
    if spent.process != (platform.node(), os.getpid()):
        _Workers.cpu_seconds += spent.cpu_seconds
        _Workers.peak_memory = max(_Workers.peak_memory, spent.peak_memory)


class Effort:
    """The work for a result, which begins when this is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time() + _Workers.cpu_seconds

    @property
    def wall_seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._wall

    def environment(self) -> dict[str, Any]:
        """Return where, when and at what cost it was done: plain JSON values.

        `cpu_seconds` are those of all threads and processes, the workers of a cluster included; `peak_memory_mb`
        is that of the largest of these processes since it began.
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
    """Return the name of the GPU that this process uses, if it uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return str(torch.cuda.get_device_name())


def _n_threads() -> int:
    """Return the threads that this process computes with."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else os.cpu_count() or 1


def commit_of(root: Path) -> str | None:
    """Return the commit that is checked out at `root`, read from its files; None if it is no checkout of git."""
    try:
        git = root / ".git"
        if git.is_file():  # of a worktree, elsewhere
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
