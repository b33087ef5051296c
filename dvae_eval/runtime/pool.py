"""Independent tasks over processes, here or on the workers of a Dask cluster; a worker that dies costs its task.

joblib's own Dask backend does not deliver this: it hands arguments to one worker each, and a task whose arguments
lie on a worker that dies is never finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import pickle
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import cloudpickle
import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from dvae_core.errors import ConfigError, WorkerError
from dvae_core.versions import package_versions

__all__ = ["check_wanted", "cluster", "cluster_size", "spread", "wanted", "worker_threads"]

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")
Bytes = NDArray[np.uint8]

# How long a scheduler may take to answer, and to have a worker.
CONNECT_SECONDS = 5.0
# How often one of this machine's processes may die before that is taken for a rule.
N_DEATHS = 3

_client: ContextVar[Any] = ContextVar("_client", default=None)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Let `spread` use the workers of a Dask scheduler within the block; None changes nothing.

    Parameters
    ----------
    address : str or None
        Such as tcp://host:8786.  Scheduler and workers have this package in the same versions.

    Raises
    ------
    ConfigError
        If the address has no port, Dask is not installed, the scheduler does not answer or has no workers, or this
        package is not there.
    """
    if address is None:
        yield
        return
    if not re.search(r":\d+$", address):
        # Dask's client fails half made then, and complains with a traceback when it is thrown away.
        raise ConfigError(f"--scheduler: {address} names no port; give an address such as tcp://host:8786")
    with _connected(address) as client:
        token = _client.set(client)
        try:
            yield
        finally:
            _client.reset(token)


def cluster_size() -> int:
    """Return how many worker processes the cluster has at this moment; 0 outside of `cluster`."""
    client = _client.get()
    return len(client.nthreads()) if client else 0


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield a client of the scheduler at `address` that has workers."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler: needs Dask; pip install 'dvae-toolkit[dask]'") from error
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        try:
            with warnings.catch_warnings():
                # Versions that differ are refused by the worker that has them.
                warnings.filterwarnings("ignore", message=".*Mismatched versions found.*")
                client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(
                f"--scheduler: {address} does not answer as a Dask scheduler; start one with dask scheduler"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise ConfigError(
                    f"--scheduler: {address} has no workers; start some with dask worker {address}"
                ) from error
            try:
                for run in (client.run_on_scheduler, client.run):
                    run(exec, f"import {__name__}")
            except ImportError as error:
                raise ConfigError(
                    f"--scheduler: a machine of {address} lacks this package ({error}); install the same there"
                ) from error
            yield client


def spread(
    function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task], n_workers: int = 1
) -> Iterator[tuple[int, Result]]:
    """Do tasks in several processes, or on the workers of the `cluster` that this is called in.

    Parameters
    ----------
    function : callable
        Called as `function(shared, task)`, once at a time in a process.
    shared : object
        What all tasks have in common; it travels once to every worker.
    tasks : sequence
    n_workers : int
        Processes on this machine; with one, all is done in this process.

    Yields
    ------
    tuple of (int, result)
        Which task, and what came of it, as they are finished.

    Raises
    ------
    WorkerError
        If workers die again and again, or the scheduler is lost; what was yielded stays valid.
    ConfigError
        If a worker of the cluster has other versions.
    """
    client = _client.get()
    if client is None and min(n_workers, len(tasks)) <= 1:
        return ((i, function(shared, task)) for i, task in enumerate(tasks))
    pickled = np.frombuffer(cloudpickle.dumps((_versions(), function, shared)), np.uint8)
    if client is None:
        return _over_processes(pickled, dict(enumerate(tasks)), n_workers)
    return _over_cluster(client, pickled, tasks)


def _over_processes(pickled: Bytes, todo: dict[int, Any], n_workers: int) -> Iterator[tuple[int, Any]]:
    """Yield results from processes of this machine; if one dies, go on with fresh ones."""
    digest = hashlib.sha256(pickled.data).hexdigest()
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


def _in_process(i: int, task: Any, pickled: Bytes, digest: str, leader: int) -> tuple[int, Any]:
    """Do a task in one of this machine's processes."""
    if os.getpid() != leader and threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal; the leader alone decides what comes of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return i, _call(task, pickled, digest)


def _over_cluster(client: Any, pickled: Bytes, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Yield results from a cluster's workers; Dask gives the tasks of one that dies to another."""
    from distributed import KilledWorker, as_completed

    digest = hashlib.sha256(pickled.data).hexdigest()
    # The outcome of a task: data that was scattered would be lost with the last worker that holds it.
    shared = client.submit(_as_it_is, pickled, pure=False)
    futures = client.map(_call, tasks, pickled=shared, digest=digest, pure=False)
    number = {future: i for i, future in enumerate(futures)}
    del futures
    try:
        for future in as_completed(number, loop=client.loop):
            # A future that is dropped frees its result on the worker.
            yield number.pop(future), future.result()
    except KilledWorker as error:
        raise WorkerError("--scheduler: worker after worker died at the same task; see their logs") from error
    except asyncio.CancelledError as error:
        raise WorkerError("--scheduler: the connection was lost; see the scheduler's log") from error
    finally:
        if client.status == "running":
            client.cancel([*number, shared], force=True)


def _as_it_is(pickled: Bytes) -> Bytes:
    """Return what was given: a task that makes it known to the cluster."""
    return pickled


_one_at_a_time = threading.Lock()
_kept: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {}


def _call(task: Any, pickled: Bytes, digest: str) -> Any:
    """Do a task with the pickled (versions, function, shared), which this process keeps for the next one."""
    # A worker of Dask may have several threads, but the number of torch's threads is the process's.
    with _one_at_a_time:
        check_wanted()
        if digest not in _kept:
            _kept.clear()
            versions, *kept = pickle.loads(pickled.data)
            _refuse_other(versions)
            _kept[digest] = tuple(kept)
        function, shared = _kept[digest]
        return function(shared, task)


def _versions() -> dict[str, str]:
    """Return the versions that the last bit of a result may depend on."""
    found = package_versions("torch", "numpy", "scipy", "numba", "distributed")
    found["python"] = found["python"].rpartition(".")[0]
    # Builds of one release for CPU and CUDA differ in what follows the plus sign.
    return {name: version.partition("+")[0] for name, version in found.items()}


def _refuse_other(versions: dict[str, str]) -> None:
    """Raise ConfigError if this process has other versions than the one that asks."""
    for name, here in _versions().items():
        if versions.get(name) != here:
            raise ConfigError(
                f"--scheduler: worker {_worker().address} has {name} {here}, not {versions.get(name)}; "
                "install the same versions"
            )


def _worker() -> Any:
    """Return the Dask worker whose task this thread is at, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def worker_threads() -> int:
    """Return the threads that the Dask worker was given whose task this thread is at; 1 if there is none."""
    worker = _worker()
    return worker.state.nthreads if worker else 1


def wanted() -> bool:
    """Return False if the task that this thread is at was given up on: Ctrl-C, or the end of who asked for it."""
    worker = _worker()
    if worker is None:
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state != "cancelled"


def check_wanted(*_: object) -> None:
    """End a task that was given up on; long tasks call this now and then."""
    if not wanted():
        raise WorkerError("nobody waits for this task any more")
