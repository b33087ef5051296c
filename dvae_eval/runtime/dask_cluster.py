"""The workers of a Dask cluster, where tasks may be done instead of on this machine; see `pool`.

joblib's own Dask backend does not deliver this: it hands arguments to one worker each, and a task whose arguments
lie on a worker that dies is never finished.
"""

from __future__ import annotations

import asyncio
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import ConfigError, WorkerError
from dvae_core.versions import package_versions

Bytes = NDArray[np.uint8]

# How long a scheduler may take to answer, and to have a worker.
CONNECT_SECONDS = 5.0

_client: ContextVar[Any] = ContextVar("_client", default=None)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Let `map_unordered` use the workers of a Dask scheduler within the block; None changes nothing.

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


def current_client() -> Any:
    """Return the Dask client of the `cluster` that this is called in, or None."""
    return _client.get()


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
        raise ConfigError("--scheduler: needs Dask; pip install dask distributed") from error
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
                    run(exec, f"import {__package__}.pool")
            except ImportError as error:
                raise ConfigError(
                    f"--scheduler: a machine of {address} lacks this package ({error}); install the same there"
                ) from error
            yield client


def over_cluster(
    client: Any, call: Callable[..., Any], tasks: Sequence[Any], pickled: Bytes, digest: str
) -> Iterator[tuple[int, Any]]:
    """Yield results from a cluster's workers; Dask gives the tasks of one that dies to another."""
    from distributed import KilledWorker, as_completed

    # The outcome of a task: data that was scattered would be lost with the last worker that holds it.
    shared = client.submit(_as_it_is, pickled, pure=False)
    futures = client.map(call, tasks, pickled=shared, digest=digest, pure=False)
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
    """Return the argument: a task whose result the cluster keeps."""
    return pickled


def own_versions() -> dict[str, str]:
    """Return the versions that the last bit of a result may depend on."""
    found = package_versions("torch", "numpy", "scipy", "numba", "distributed")
    found["python"] = found["python"].rpartition(".")[0]
    # Builds of one release for CPU and CUDA differ in what follows the plus sign.
    return {name: version.partition("+")[0] for name, version in found.items()}


def refuse_other_versions(versions: dict[str, str]) -> None:
    """Raise ConfigError if this process has other versions than the requesting one."""
    for name, here in own_versions().items():
        if versions.get(name) != here:
            raise ConfigError(
                f"{worker_name()} has {name} {here}, not {versions.get(name)}; install the same versions"
            )


def _worker() -> Any:
    """Return the Dask worker whose task this thread runs, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def worker_name() -> str:
    """Return what an error message calls the process that does this thread's task."""
    worker = _worker()
    return f"--scheduler: worker {worker.address}" if worker else "a worker process"


def worker_threads() -> int:
    """Return the number of threads of the Dask worker whose task this thread runs; 1 if there is none."""
    worker = _worker()
    return worker.state.nthreads if worker else 1


def is_cancelled() -> bool:
    """Return whether this thread's task was cancelled: Ctrl-C, or the requesting process ended."""
    worker = _worker()
    if worker is None:
        return False
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def raise_if_cancelled(*_: object) -> None:
    """Raise WorkerError if this thread's task was cancelled; long tasks call this regularly."""
    if is_cancelled():
        raise WorkerError("task cancelled")
