"""Tasks on the workers of a Dask cluster instead of this computer; see `pool`.

joblib's Dask backend is not used because it sends arguments to one worker only, and a task whose arguments are on
a worker that dies never finishes.
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

# Time for a scheduler to answer, and to have a worker.
CONNECT_SECONDS = 5.0

_client: ContextVar[Any] = ContextVar("_client", default=None)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Let `map_unordered` use the workers of a Dask scheduler within the block; None changes nothing.

    Parameters
    ----------
    address : str or None
        Such as tcp://host:8786.  The scheduler and its workers must have the same versions of this package.

    Raises
    ------
    ConfigError
        If the address has no port, Dask is not installed, the scheduler does not answer or has no workers, or they
        lack this package.
    """
    if address is None:
        yield
        return
    if not re.search(r":\d+$", address):
        # Dask's client would fail halfway through its construction, and print a traceback when it is deleted.
        raise ConfigError(f"--scheduler: {address} has no port; give an address such as tcp://host:8786")
    with _connected(address) as client:
        token = _client.set(client)
        try:
            yield
        finally:
            _client.reset(token)


def current_client() -> Any:
    """Return the Dask client of the enclosing `cluster` block, or None."""
    return _client.get()


def cluster_size() -> int:
    """Return the present number of worker processes of the cluster; 0 outside of a `cluster` block."""
    client = _client.get()
    return len(client.nthreads()) if client else 0


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield a client of the scheduler at `address`, once it has workers; ConfigError if that fails."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler: needs Dask; install it with: pip install dask distributed") from error
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        try:
            with warnings.catch_warnings():
                # The workers themselves refuse other versions.
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
                    f"--scheduler: a computer of {address} lacks this package ({error}); install the same version "
                    "there"
                ) from error
            yield client


def over_cluster(
    client: Any, call: Callable[..., Any], tasks: Sequence[Any], pickled: Bytes, digest: str
) -> Iterator[tuple[int, Any]]:
    """Yield results from the workers of a cluster; Dask moves the tasks of a worker that dies to others."""
    from distributed import KilledWorker, as_completed

    # Submitted as a task, because scattered data would be lost with the last worker that has it.
    shared = client.submit(_as_it_is, pickled, pure=False)
    futures = client.map(call, tasks, pickled=shared, digest=digest, pure=False)
    number = {future: i for i, future in enumerate(futures)}
    del futures
    try:
        for future in as_completed(number, loop=client.loop):
            # Dropping a future frees its result on the worker.
            yield number.pop(future), future.result()
    except KilledWorker as error:
        raise WorkerError("--scheduler: several workers died at the same task; see their logs") from error
    except asyncio.CancelledError as error:
        raise WorkerError("--scheduler: the connection was lost; see the scheduler's log") from error
    finally:
        if client.status == "running":
            client.cancel([*number, shared], force=True)


def _as_it_is(pickled: Bytes) -> Bytes:
    """Return the argument, as a task whose result the cluster keeps."""
    return pickled


def own_versions() -> dict[str, str]:
    """Return the versions of packages that the last bit of a result may depend on."""
    found = package_versions("torch", "numpy", "scipy", "numba", "distributed")
    found["python"] = found["python"].rpartition(".")[0]
    # CPU and CUDA builds of a release differ after the plus sign only.
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
    """Return the name of the process that runs this thread's task, for error messages."""
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
