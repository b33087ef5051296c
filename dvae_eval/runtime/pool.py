"""Independent tasks over processes, here or on a Dask cluster; a worker that dies costs only its task."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeVar

import cloudpickle
import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from dvae_core.environment import Spent, count_worker, spent_here
from dvae_core.errors import ConfigError, WorkerError

from .dask_cluster import (
    current_client,
    over_cluster,
    own_versions,
    raise_if_cancelled,
    refuse_other_versions,
    worker_name,
)

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
Bytes = NDArray[np.uint8]

# Deaths of this machine's processes after which the work is given up.
N_DEATHS = 3


def map_unordered(
    function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task], n_workers: int = 1
) -> Iterator[tuple[int, Result]]:
    """Do tasks in several processes, or on the workers of the `dask_cluster.cluster` that this is called in.

    Parameters
    ----------
    function : callable
        Called as `function(shared, task)`, once at a time in a process.
    shared : object
        What all tasks have in common; it is sent once to every worker.
    tasks : sequence
    n_workers : int
        Processes on this machine; with one, everything runs in this process.

    Yields
    ------
    tuple of (int, result)
        The number of a task and its result, in the order in which they finish.

    Raises
    ------
    WorkerError
        If workers die again and again, or the scheduler is lost; what was yielded stays valid.
    ConfigError
        If a worker of the cluster has other versions, or a worker cannot import what `function` and `shared` are
        made of: the class of somebody's own model, say.
    """
    client = current_client()
    if client is None and min(n_workers, len(tasks)) <= 1:
        return ((i, function(shared, task)) for i, task in enumerate(tasks))
    pickled = np.frombuffer(cloudpickle.dumps((own_versions(), function, shared)), np.uint8)
    digest = hashlib.sha256(pickled.data).hexdigest()
    if client is None:
        return _counted(_over_processes(pickled, digest, dict(enumerate(tasks)), n_workers))
    return _counted(over_cluster(client, _call, tasks, pickled, digest))


def _counted(results: Iterator[tuple[int, tuple[Any, Spent]]]) -> Iterator[tuple[int, Any]]:
    """Yield results, and count what the workers spent on them."""
    for i, (result, spent) in results:
        count_worker(spent)
        yield i, result


def _over_processes(
    pickled: Bytes, digest: str, todo: dict[int, Any], n_workers: int
) -> Iterator[tuple[int, Any]]:
    """Yield results from processes of this machine; if one dies, continue in new ones."""
    for n_deaths in range(N_DEATHS):
        if n_deaths:
            logging.getLogger(__name__).warning("a worker process died; its task is done again")
        # The array is shared with all processes, however many tasks there are.
        calls = [joblib.delayed(_in_process)(i, task, pickled, digest, os.getpid()) for i, task in todo.items()]
        parallel = joblib.Parallel(n_jobs=min(n_workers, len(calls)), return_as="generator_unordered")
        try:
            with closing(parallel(calls)) as results:
                for i, result in results:
                    del todo[i]
                    yield i, result
            return
        except TerminatedWorkerError:
            continue
    raise WorkerError(
        f"a worker process died {N_DEATHS} times, which the system lets happen when memory runs out; "
        "give fewer processes"
    )


def _in_process(i: int, task: Any, pickled: Bytes, digest: str, leader: int) -> tuple[int, tuple[Any, Spent]]:
    """Do a task in one of this machine's processes."""
    if os.getpid() != leader and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal; the leader alone decides what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return i, _call(task, pickled, digest)


_one_at_a_time = threading.Lock()
_kept: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {}


def _call(task: Any, pickled: Bytes, digest: str) -> tuple[Any, Spent]:
    """Do a task with the pickled (versions, function, shared), which this process keeps for its next task.

    What the process has spent on it is returned with the result.
    """
    # A worker of Dask may have several threads, but the number of torch's threads is the process's.
    with _one_at_a_time:
        raise_if_cancelled()
        began = time.process_time()
        if digest not in _kept:
            _kept.clear()
            versions, *kept = _unpickled(pickled)
            refuse_other_versions(versions)
            _kept[digest] = tuple(kept)
        function, shared = _kept[digest]
        return function(shared, task), spent_here(began)


def _unpickled(pickled: Bytes) -> Any:
    """Return what was pickled; ConfigError if a module that it needs is not here."""
    try:
        return _Unpickler(io.BytesIO(pickled.data)).load()
    except ImportError as error:  # of a whole module, which no class is asked of
        raise _not_here(f"module {error.name}", str(error.name), error) from error


class _Unpickler(pickle.Unpickler):
    """Reads pickles, and says which class or function is not here."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function of a module; ConfigError if it is not here."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise _not_here(f"{name} of module {module}", module, error) from error


def _not_here(what: str, module: str, error: Exception) -> ConfigError:
    """Return the refusal of work that needs `what`, which this process lacks."""
    reason = " ".join(str(error).split())
    return ConfigError(
        f"{worker_name()} cannot import {what} ({reason}); make {module.partition('.')[0]} importable there "
        "(installed, or on PYTHONPATH), or define it in the script that is run"
    )
