"""Run a task for every image in several processes, saving finished images so that a killed run can be resumed.

A shard is a set of images that one process handles at a time.  The division into shards does not affect the
numbers, so that a resumed run may divide the images differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dvae_core.io.memory import freed_memory_kept
from dvae_core.rng import numpy_generator
from dvae_core.types import Index

from ..runtime.compute import Plan, Resources, process_memory, torch_threads
from ..runtime.dask_cluster import cluster_size, raise_if_cancelled
from ..runtime.pool import map_unordered
from ..runtime.resume import PartStore
from .importance import ImageWeights, stack_images

Images = NDArray[np.uint8]
# Intended duration of a shard: the most work that a kill loses, and the interval of progress reports.
SHARD_SECONDS = 5.0
# The arrays that are saved for every shard.
WEIGHT_FIELDS = tuple(f.name for f in fields(ImageWeights))


class ImageTask(Protocol):
    """A computation for one image; it is pickled and sent to other processes.

    Attributes
    ----------
    phase : str
        Its name in progress reports.
    n_samples : int
        Weights per image.
    device : torch.device
        Where it computes.  Processes share the cores of a CPU; on a GPU a single process is used.
    """

    phase: ClassVar[str]

    @property
    def n_samples(self) -> int: ...  # noqa: D102

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def keeping(self, n_kept: int) -> ImageTask:
        """Return the task that keeps the first `n_kept` weights per image, if a later estimate can add to them."""
        ...

    def __call__(self, x: Images, index: int, earlier: ImageWeights | None = None) -> ImageWeights:
        """Return the weights of image x, shape (n_pixels,), which has this index in its data set.

        `earlier` has the first weights, which are not drawn again.
        """
        ...

    def seconds(self, x: Images, index: int) -> float:
        """Return the expected seconds per image, measured on a small part of the work."""
        ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """Weights of some images from a finished estimate, by position.

    Attributes
    ----------
    whole : dict of int to ImageWeights
        Images with the requested number of samples.
    begun : dict of int to ImageWeights
        Images with fewer samples, whose weights were kept.
    """

    whole: dict[int, ImageWeights] = field(default_factory=dict)
    begun: dict[int, ImageWeights] = field(default_factory=dict)


@dataclass(slots=True)
class _Done:
    """The weights of some of the images, by position."""

    weights: list[ImageWeights | None]
    n: int = 0

    def add(self, positions: Index, shard: Mapping[str, NDArray[Any]]) -> None:
        for row, position in enumerate(positions.tolist()):
            self.n += self.weights[position] is None
            self.weights[position] = ImageWeights(*(shard[name][row] for name in WEIGHT_FIELDS))

    def pending(self) -> Index:
        return np.array([i for i, found in enumerate(self.weights) if found is None], dtype=np.int64)

    def stacked(self) -> ImageWeights:
        return stack_images([found for found in self.weights if found is not None])


def run_image_task(
    task: ImageTask,
    images: Images,
    index: Index,
    *,
    resources: Resources,
    saved: PartStore | None = None,
    earlier: Earlier | None = None,
    announce: Callable[[Plan], None] | None = None,
    progress: Callable[[int, ImageWeights], None] | None = None,
) -> ImageWeights:
    """Run a task for every image, in the number of processes that the plan chooses.

    Parameters
    ----------
    task : ImageTask
    images : uint8, shape (n_images, n_pixels)
    index : int64, shape (n_images,)
        Indices of the images in their data set.
    resources : Resources
    saved : PartStore, optional
        Positions and `WEIGHT_FIELDS` of finished images, locked by the caller; they are not computed again.
    earlier : Earlier, optional
        Weights of some images from a finished estimate.
    announce : callable, optional
        Called with the plan before the work starts.
    progress : callable, optional
        Called with the number of finished images and the weights of the latest shard.

    Returns
    -------
    ImageWeights
        In the order of the images; identical to the last bit for any number of processes and any interruption.
    """
    earlier = earlier or Earlier()
    done = _Done([earlier.whole.get(i) for i in range(len(images))], len(earlier.whole))
    for arrays in saved.load() if saved else ():
        done.add(arrays.pop("positions"), arrays)
    if done.n and progress:
        progress(done.n, done.stacked())
    # In random order, so that the first images represent all: some test sets are sorted by class.
    order = numpy_generator(0, "order").permutation(done.pending())
    if len(order):
        plan, size = _plan(task, images, index, order, done.n, resources)
        if announce:
            announce(plan)
        shards = np.array_split(order, -(-len(order) // size))
        shared = (task, images, index, resources.threads)
        todo = [(shard, [earlier.begun.get(i) for i in shard.tolist()]) for shard in shards]
        for k, shard in map_unordered(_do_shard, shared, todo, plan.n_workers):
            arrays = {name: getattr(shard, name) for name in WEIGHT_FIELDS}
            done.add(shards[k], arrays)
            if saved:
                saved.save(f"{shards[k][0]:08d}", {"positions": shards[k], **arrays})
            if progress:
                progress(done.n, shard)
    return done.stacked()


def _plan(
    task: ImageTask, images: Images, index: Index, order: Index, n_done: int, resources: Resources
) -> tuple[Plan, int]:
    """Return the plan for the images in `order`, and the number of images per shard."""
    first = int(order[0])
    with torch_threads(resources.threads), freed_memory_kept():
        each = task.seconds(images[first], int(index[first]))
    # Besides the process: the log weights and the temporary arrays of their sums.
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
        what="simulated images" if task.phase == "simulated" else "images",
    )
    return plan, max(1, min(round(SHARD_SECONDS / each), -(-len(order) // n_workers)))


def _do_shard(
    shared: tuple[ImageTask, Images, Index, int], todo: tuple[Index, list[ImageWeights | None]]
) -> ImageWeights:
    """Run a task for the images at some positions, each with its weights from an earlier estimate."""
    task, images, index, threads = shared
    done = []
    with torch_threads(threads), freed_memory_kept():
        for i, earlier in zip(todo[0].tolist(), todo[1], strict=True):
            raise_if_cancelled()
            done.append(task(images[i], int(index[i]), earlier))
    return stack_images(done)
