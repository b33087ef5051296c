"""Images one by one, spread over processes: what is done is kept, merged exactly, and survives a kill.

A shard is a set of images that one process takes at a time.  Which images go together changes no number, so the
shards of a resumed run need not be those of the run that was killed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import read_npz
from dvae_core.io.files import write_npz
from dvae_core.rng import numpy_generator
from dvae_core.training.run_directory import locked

from ..runtime.compute import Plan, Resources, process_memory, torch_threads
from ..runtime.dask_cluster import check_wanted, cluster_size
from ..runtime.pool import spread
from .importance import ImageWeights, stack_images

__all__ = ["ShardStore", "Shards", "Task", "digest_of", "weigh_images"]

Index = NDArray[np.int64]
Images = NDArray[np.uint8]
# How long a shard should take: what a kill may cost, and how often progress is told.
SHARD_SECONDS = 5.0
FIELDS = tuple(f.name for f in fields(ImageWeights))


class Task(Protocol):
    """What is done with every image; it goes to other processes pickled.

    Attributes
    ----------
    phase : str
        What progress calls it.
    n_samples : int
        Weights of every image.
    device : torch.device
        Where it computes; processes share a CPU's cores, but would only get in each other's way on a GPU.
    """

    phase: ClassVar[str]

    @property
    def n_samples(self) -> int: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def __call__(self, x: Images, index: int) -> ImageWeights:
        """Return the weights of image x, shape (n_pixels,), the one with this index in its data set."""
        ...

    def seconds(self, x: Images, index: int) -> float:
        """Return how long an image takes, by doing a small part of it."""
        ...


class ShardStore:
    """The finished shards of one task, files in a directory of their own.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self) -> Iterator[tuple[Index, ImageWeights]]:
        """Yield positions and weights of every shard that is there and whole."""
        for path in sorted(self.directory.glob("*.npz")):
            with suppress(DataError):
                arrays = read_npz(path, ("positions", *FIELDS))
                yield arrays["positions"], ImageWeights(*(arrays[name] for name in FIELDS))

    def save(self, positions: Index, weights: ImageWeights) -> None:
        """Write a shard, whole or not at all."""
        arrays = {name: getattr(weights, name) for name in FIELDS}
        write_npz(self.directory / f"{positions[0]:08d}.npz", {"positions": positions, **arrays})


class Shards:
    """The stores of an estimate's tasks, each held by one process at a time.

    Parameters
    ----------
    directory : Path
        Of nothing but stores; made when the first one is needed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.used: list[Path] = []

    @contextmanager
    def held(self, key: str) -> Iterator[ShardStore]:
        """Yield the store with this key, a digest of all that its shards depend on.

        Raises
        ------
        ConfigError
            If another process holds it.
        """
        place = self.directory / key[:16]
        refusal = "{}: another process is at work on the same estimate; wait for it, or give another --output"
        with locked(place, refusal):
            self.used.append(place)
            yield ShardStore(place)

    def remove(self) -> None:
        """Remove the stores that were used, once the result is safe; those of other settings stay."""
        for place in self.used:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            self.directory.rmdir()


def digest_of(settings: dict[str, Any], images: Images, index: Index) -> str:
    """Return the SHA-256 of settings, images and their indices."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for array in (images, index):
        digest.update(f" {array.shape} {array.dtype} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(slots=True)
class _Done:
    """The weights of some of the images, by position."""

    weights: list[ImageWeights | None]
    n: int = 0

    def add(self, positions: Index, shard: ImageWeights) -> None:
        for row, position in enumerate(positions.tolist()):
            self.n += self.weights[position] is None
            self.weights[position] = ImageWeights(*(getattr(shard, name)[row] for name in FIELDS))

    def pending(self) -> Index:
        return np.array([i for i, found in enumerate(self.weights) if found is None], dtype=np.int64)

    def stacked(self) -> ImageWeights:
        return stack_images([found for found in self.weights if found is not None])


def weigh_images(
    task: Task,
    images: Images,
    index: Index,
    *,
    resources: Resources,
    store: ShardStore | None = None,
    announce: Callable[[Plan], None] | None = None,
    progress: Callable[[int, ImageWeights], None] | None = None,
) -> ImageWeights:
    """Do a task for every image, in as many processes as the plan says.

    Parameters
    ----------
    task : Task
    images : uint8, shape (n_images, n_pixels)
    index : int64, shape (n_images,)
        Which of the data set's images they are.
    resources : Resources
    store : ShardStore, optional
        Held by the caller.  Shards that are there are not done again.
    announce : callable, optional
        Called with the plan before the work starts.
    progress : callable, optional
        Called with the number of images that are done and the weights of the latest shard.

    Returns
    -------
    ImageWeights
        In the order of the images; the same bits however they were spread and wherever a run was interrupted.
    """
    done = _Done([None] * len(images))
    for positions, shard in store.load() if store else ():
        done.add(positions, shard)
    if done.n and progress:
        progress(done.n, done.stacked())
    # In random order: the images of some test sets are sorted by class, and the first are to stand for all.
    order = numpy_generator(0, "order").permutation(done.pending())
    if len(order):
        plan, size = _plan(task, images, index, order, done.n, resources)
        if announce:
            announce(plan)
        shards = np.array_split(order, -(-len(order) // size))
        shared = (task, images, index, resources.threads)
        for k, shard in spread(_weigh, shared, shards, plan.n_workers):
            done.add(shards[k], shard)
            if store:
                store.save(shards[k], shard)
            if progress:
                progress(done.n, shard)
    return done.stacked()


def _plan(
    task: Task, images: Images, index: Index, order: Index, n_done: int, resources: Resources
) -> tuple[Plan, int]:
    """Return the plan for the images in `order`, and how many of them make a shard."""
    first = int(order[0])
    with torch_threads(resources.threads):
        each = task.seconds(images[first], int(index[first]))
    # Beside the networks: log weights, and what summing them up takes.
    memory = process_memory() + 8 * 8 * task.n_samples
    n_tasks = len(order) if task.device.type == "cpu" else 1
    n_workers = cluster_size() or resources.workers_for(each * len(order), n_tasks, memory)
    n_processes = n_workers + (n_workers > 1)
    plan = Plan(
        n_images=len(images),
        n_done=n_done,
        n_samples=task.n_samples,
        n_workers=n_workers,
        seconds=each * len(order) / n_workers,
        memory=n_processes * memory,
        what="images of the model itself" if task.phase == "simulated" else "images",
    )
    return plan, max(1, min(round(SHARD_SECONDS / each), -(-len(order) // n_workers)))


def _weigh(shared: tuple[Task, Images, Index, int], positions: Index) -> ImageWeights:
    """Do a task for the images at some positions."""
    task, images, index, threads = shared
    done = []
    with torch_threads(threads):
        for i in positions.tolist():
            check_wanted()
            done.append(task(images[i], int(index[i])))
    return stack_images(done)
