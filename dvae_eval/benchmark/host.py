"""A process of its own for every run of an estimator: `python -m dvae_eval.benchmark.host`, and what talks to it.

The host reads a task a line from standard input, forks, and writes what became of the run as a line of JSON.  It
has loaded what this package's methods need, so that a run starts at once; a run that crashes, hangs or takes all
memory ends alone.  When standard input is closed, since whoever asked is gone, the
host ends and so does the run.
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

# A run is ended at so many times its budget of CPU seconds, and of wall seconds, to which a busy machine adds.
KILL_CPU, KILL_WALL, GRACE_WALL = 4.0, 20.0, 60.0
# One thread: budgets are CPU seconds, and equal for all.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")}
MAX_NOTE = 200  # letters


class Task(TypedDict):
    """One run: which method, on which machine or model, with which seed, its budget in CPU and wall seconds."""

    kind: str
    method: str
    machine: str
    seed: int
    budget: float
    wall: float


class Host:
    """The other end: starts a host process, and asks it for one run after the other."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __spec__.name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for whoever asks
        )
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError), self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def check(self, method: str, kind: str = "logz") -> str:
        """Return why there is no such method; nothing if there is."""
        found = self.run(Task(kind=kind, method=method, machine="", seed=0, budget=60.0, wall=600.0))
        return str(found.get("note", "")).removeprefix("ConfigError: ")

    def run(self, task: Task) -> dict[str, Any]:
        """Return what became of a run: `log_z` or `log_p_x`, `std_err`, `trusted`, `cpu_seconds`, or a `note`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            return {"note": "the process that runs estimators ended", "cpu_seconds": 0.0}
        found: dict[str, Any] = json.loads(line)
        return found


def main() -> None:
    """Serve tasks until standard input is closed."""
    while task := _next_line():
        sys.stdout.write(json.dumps(_forked(json.loads(task))) + "\n")
        sys.stdout.flush()


def _next_line() -> str:
    """Return the next line of standard input, unbuffered: what is left must show in `select`."""
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
    """Do a task in a fork of this process, and return what it said or how it ended."""
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
    with contextlib.suppress(OSError):  # the run does the same, and one of the two comes first
        os.setpgid(child, child)
    with os.fdopen(receiver, "rb") as pipe:
        ready, _, _ = select.select([receiver, 0], [], [], task["wall"])
        if receiver not in ready:
            os.killpg(child, signal.SIGKILL)
        if 0 in ready:  # closed: whoever asked is gone
            sys.exit()
        said = pipe.read() if ready else b""
    _, status, usage = os.wait4(child, 0)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)  # what the run started and left behind
    found: dict[str, Any] = json.loads(said) if said else {"note": _how_it_ended(status, task, bool(ready))}
    unit = 1 if sys.platform == "darwin" else 1024
    found.setdefault("cpu_seconds", usage.ru_utime + usage.ru_stime)
    return {**found, "cpu_seconds": round(found["cpu_seconds"], 4), "peak_memory": usage.ru_maxrss * unit}


def _how_it_ended(status: int, task: Task, in_time: bool) -> str:
    """Return why a run said nothing."""
    if not in_time:
        return f"ended after {task['wall']:g} s of wall time"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return f"ended at {KILL_CPU:g} times its budget of CPU seconds"
        return f"crashed: {signal.Signals(number).name}"
    return f"ended the process with status {os.waitstatus_to_exitcode(status)}"


# --- in the fork ----------------------------------------------------------------------------------------------


def _run(task: Task, case: Case | None, sender: int) -> NoReturn:
    """Run the estimator, write its answer, and end this process without anything of the host's."""
    from ..runtime.clock import Clock

    Clock.usual = staticmethod(time.process_time)
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what an estimator prints is nobody's answer
        os.dup2(nothing, stream)
    try:
        found = _estimated(task, case)
    except BaseException as error:  # whatever it is: the estimator failed
        found = {"note": " ".join(f"{type(error).__name__}: {error}".split())[:MAX_NOTE]}
    try:
        with os.fdopen(sender, "w") as pipe:
            json.dump(found, pipe)
    finally:
        os._exit(0)


def _estimated(task: Task, case: Case | None) -> dict[str, Any]:
    """Return an estimator's answer and its CPU seconds; what it imports and compiles first is not counted."""
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
    """Return the CPU seconds of this process and of the children that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


if __name__ == "__main__":
    main()
