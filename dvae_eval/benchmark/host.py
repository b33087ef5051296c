"""A separate process for every run of an estimator: `python -m dvae_eval.benchmark.host`, and its client.

The host reads one task per line from standard input, forks, and writes the outcome of the run as a line of JSON.
It has already loaded what this package's methods need, so that a run starts at once.  A run that crashes, hangs
or takes all memory ends alone.  When standard input is closed, because the client ended, the host and its run
end, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from functools import lru_cache
from typing import Any, NoReturn, Self, TypedDict

from .kinds import KINDS, Case

# A run is killed after these multiples of its budget in CPU time and in wall time, plus a grace period in wall
# seconds, since wall time is longer on a busy computer.
KILL_CPU, KILL_WALL, GRACE_WALL = 4.0, 20.0, 60.0
# One thread, so that budgets in CPU seconds are comparable.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")}
MAX_NOTE = 200  # characters


class Task(TypedDict):
    """One run: its method, machine or model, seed, budget in CPU seconds, and limit in wall seconds."""

    kind: str
    method: str
    machine: str
    seed: int
    budget: float
    wall: float


class Host:
    """The client: starts a host process, and sends it one task after the other."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __spec__.name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is handled by the client
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError), self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()

    @property
    def is_alive(self) -> bool:
        """Whether the host process is running."""
        return self.process.poll() is None

    def check(self, method: str, kind: str = "logz") -> str:
        """Return why a method cannot be used; empty if it can."""
        found = self.run(Task(kind=kind, method=method, machine="", seed=0, budget=60.0, wall=600.0))
        return str(found.get("note", "")).removeprefix("ConfigError: ")

    def run(self, task: Task) -> dict[str, Any]:
        """Return the outcome of a run: `log_z` or `log_p_x`, `std_err`, `trusted`, `cpu_seconds`, or a `note`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            return {"note": "the benchmark's host process ended; run the benchmark again", "cpu_seconds": 0.0}
        found: dict[str, Any] = json.loads(line)
        return found


def main() -> None:
    """Serve tasks until standard input is closed."""
    while task := _next_line():
        sys.stdout.write(json.dumps(_forked(json.loads(task))) + "\n")
        sys.stdout.flush()


def _next_line() -> str:
    """Return the next line of standard input, unbuffered, so that `select` sees the rest."""
    line = bytearray()
    while byte := os.read(0, 1):
        line += byte
        if byte == b"\n":
            return line.decode()
    return ""


@lru_cache(maxsize=2)
def _case(kind: str, name: str) -> Case:
    return KINDS[kind].make(name)


def _forked(task: Task) -> dict[str, Any]:
    """Run a task in a fork of this process, and return its answer, or a note on how it ended."""
    kind = KINDS[task["kind"]]
    if task["method"] in kind.methods:
        kind.warm_up(task["method"])
    case = _case(task["kind"], task["machine"]) if task["machine"] else None
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        _run(task, case, sender)
    os.close(sender)
    with contextlib.suppress(OSError):  # the run calls this as well, and either may be first
        os.setpgid(child, child)
    with os.fdopen(receiver, "rb") as pipe:
        ready, _, _ = select.select([receiver, 0], [], [], task["wall"])
        if receiver not in ready:
            os.killpg(child, signal.SIGKILL)
        if 0 in ready:  # standard input is closed: the client ended
            sys.exit()
        said = pipe.read() if ready else b""
    _, status, usage = os.wait4(child, 0)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)  # processes that the run started and left behind
    found: dict[str, Any] = json.loads(said) if said else {"note": _how_it_ended(status, task, bool(ready))}
    unit = 1 if sys.platform == "darwin" else 1024
    found.setdefault("cpu_seconds", usage.ru_utime + usage.ru_stime)
    return {**found, "cpu_seconds": round(found["cpu_seconds"], 4), "peak_memory": usage.ru_maxrss * unit}


def _how_it_ended(status: int, task: Task, in_time: bool) -> str:
    """Return why a run has no answer."""
    if not in_time:
        return f"killed after {task['wall']:g} s of wall time"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return f"killed at {KILL_CPU:g} times its budget of CPU seconds"
        return f"crashed: {signal.Signals(number).name}"
    return f"ended the process with status {os.waitstatus_to_exitcode(status)}"


# --- in the fork ----------------------------------------------------------------------------------------------


def _run(task: Task, case: Case | None, sender: int) -> NoReturn:
    """Run the estimator, write its answer, and end this process without the host's cleanup."""
    from ..runtime.clock import Clock

    Clock.usual = staticmethod(time.process_time)
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # discard what the estimator prints
        os.dup2(nothing, stream)
    try:
        found = _estimated(task, case)
    except BaseException as error:  # of any kind: the estimator failed
        found = {"note": " ".join(f"{type(error).__name__}: {error}".split())[:MAX_NOTE]}
    try:
        with os.fdopen(sender, "w") as pipe:
            json.dump(found, pipe)
    finally:
        os._exit(0)


def _estimated(task: Task, case: Case | None) -> dict[str, Any]:
    """Return an estimator's answer and its CPU seconds, without those for its import and first compilation."""
    kind = KINDS[task["kind"]]
    estimator = kind.find(task["method"])
    if case is None:
        return {}
    if why_not := kind.why_not(task["method"], case):
        return {"skipped": True, "note": why_not}
    started = _cpu_seconds()
    limit = int(started + KILL_CPU * task["budget"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = estimator(case, task["seed"], task["budget"])
    return {
        kind.quantity: answer.value,
        **({"gap": answer.gap} if kind.quantity == "log_p_x" else {}),
        "std_err": answer.std_err,
        "trusted": answer.trusted,
        "cpu_seconds": _cpu_seconds() - started,
    }


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    return time.process_time() + sum(os.times()[2:4])


if __name__ == "__main__":
    main()
