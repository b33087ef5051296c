"""Independent tasks in processes, here or on a Dask cluster; the task of a worker that dies is repeated."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import signal
import threading
import time
import warnings
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

# Deaths of this computer's processes after which the work fails.
N_DEATHS = 3


def map_unordered(
    function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task], n_workers: int = 1
) -> Iterator[tuple[int, Result]]:
    """Run tasks in several processes, or on the workers of an enclosing `dask_cluster.cluster` block.

    Parameters
    ----------
    function : callable
        Called as `function(shared, task)`, one call at a time per process.
    shared : object
        Input that all tasks share; it is sent once to every worker.
    tasks : sequence
    n_workers : int
        Processes on this computer; with one, everything runs in this process.

    Yields
    ------
    tuple of (int, result)
        The number of a task and its result, in the order in which tasks finish.

    Raises
    ------
    WorkerError
        If workers die repeatedly, or the connection to the scheduler is lost; yielded results stay valid.
    ConfigError
        If a worker of the cluster has other versions, or a worker cannot import something that `function` or
        `shared` needs, such as the class of a user's model.
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
    """Yield results, and add the workers' CPU time and memory to this process's account."""
    for i, (result, spent) in results:
        count_worker(spent)
        yield i, result


def _over_processes(
    pickled: Bytes, digest: str, todo: dict[int, Any], n_workers: int
) -> Iterator[tuple[int, Any]]:
    """Yield results from processes of this computer; if one dies, continue in new ones."""
    # joblib replaces a process whose memory grows, and its thread warns.  If warnings are errors, that thread
    # ends, and the remaining tasks wait for ever.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    for n_deaths in range(N_DEATHS):
        if n_deaths:
            logging.getLogger(__name__).warning("a worker process died; its task is repeated")
        # All processes share this array, for any number of tasks.
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
        f"a worker process died {N_DEATHS} times, perhaps because memory ran out; use fewer processes"
    )


def _in_process(i: int, task: Any, pickled: Bytes, digest: str, leader: int) -> tuple[int, tuple[Any, Spent]]:
    """Run a task in one of this computer's processes."""
    if os.getpid() != leader and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal; only the leader handles it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return i, _call(task, pickled, digest)


_one_at_a_time = threading.Lock()
_kept: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {}


def _call(task: Any, pickled: Bytes, digest: str) -> tuple[Any, Spent]:
    """Run a task with the pickled (versions, function, shared), which this process keeps for its next task.

    Returns
    -------
    tuple of (result, Spent)
        The result, and the CPU time and memory that it took.
    """
    # A Dask worker may have several threads, but torch's number of threads is a setting of the process.
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
    """Return the unpickled object; ConfigError if this process lacks a module that it needs."""
    try:
        return _Unpickler(io.BytesIO(pickled.data)).load()
    except ImportError as error:  # for a module itself, not for a class in it
        raise _not_here(f"module {error.name}", str(error.name), error) from error


class _Unpickler(pickle.Unpickler):
    """An unpickler whose error names the missing class or function."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function of a module; ConfigError if this process lacks it."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise _not_here(f"{name} of module {module}", module, error) from error


def _not_here(what: str, module: str, error: Exception) -> ConfigError:
    """Return the ConfigError for work that needs `what`, which this process lacks."""
    reason = " ".join(str(error).split())
    return ConfigError(
        f"{worker_name()} cannot import {what} ({reason}); make {module.partition('.')[0]} importable there "
        "(installed, or on PYTHONPATH), or define it in the script that you run"
    )
