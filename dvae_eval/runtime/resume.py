"""Work that is saved while it is done: the next run continues it after a kill, or from a finished estimate.

All of it has one format: named arrays, with a digest of the task that they belong to.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz
from dvae_core.io.files import write_npz
from dvae_core.training.run_directory import locked

Arrays = dict[str, NDArray[Any]]
# Added by `Store.load` to the arrays of a finished task; never written.
FINISHED = "is_finished"


def digest_of(task: Any) -> str:
    """Return the SHA-256 of a task: everything that its numbers depend on, as JSON values and arrays."""
    return hashlib.sha256(json.dumps(task, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> str:
    """Return a value that JSON lacks as text: arrays by their digest."""
    if not isinstance(value, np.ndarray):
        return str(value)
    return f"{value.shape} {value.dtype} {hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()}"


def with_part(parts: list[dict[str, Any]], part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the ends of the parts of a continued estimate, with one more unless it repeats the last."""
    is_repeat = bool(parts) and {**parts[-1], "date": ""} == {**part, "date": ""}
    return parts if is_repeat else [*parts, part]


def read(path: Path | None) -> Arrays:
    """Return the arrays in a file; none if it is missing or damaged, since they can be computed again."""
    with suppress(DataError):
        return dict(read_npz(path, npz_names(path))) if path and path.exists() else {}
    return {}


def above(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return arrays under their names with a prefix."""
    return {prefix + name: array for name, array in arrays.items()}


def below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays whose names start with a prefix, under their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def signed(task: Any, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the arrays of a task with its fingerprint."""
    return {"fingerprint": np.frombuffer(bytes.fromhex(digest_of(task)), np.uint8), **arrays}


def verified(task: Any, arrays: Mapping[str, NDArray[Any]]) -> Arrays | None:
    """Return arrays without their fingerprint; None if it is not the task's."""
    # Earlier states of likelihoods name it `key`.
    mine = {name: array for name, array in arrays.items() if name not in ("fingerprint", "key")}
    found, expected = arrays.get("fingerprint", arrays.get("key")), signed(task, {})["fingerprint"]
    return mine if found is not None and np.array_equal(found, expected) else None


@dataclass(frozen=True, slots=True)
class Store:
    """A file of the arrays of one task; the file of another task is ignored, and overwritten.

    Attributes
    ----------
    path : Path
    task : JSON value
        Everything that the numbers depend on: settings, digests, versions.
    finished : Path, optional
        File of a finished task of the same kind; it is only read, and only if `path` has nothing.
    fits : callable
        Returns whether the task can continue from given arrays.
    prefix : str
        The store is limited to the arrays whose names start with it.
    others : dict
        Arrays outside of `prefix` to save with them, by their full names.
    """

    path: Path
    task: Any
    finished: Path | None = None
    fits: Callable[[Arrays], bool] = lambda arrays: True
    prefix: str = ""
    others: Arrays = field(default_factory=dict)

    def save(self, arrays: Arrays) -> None:
        """Write the arrays atomically."""
        write_npz(self.path, signed(self.task, {**self.others, **above(self.prefix, arrays)}))

    def load(self) -> Arrays | None:
        """Return the arrays of this task, and `FINISHED` if they are those of `finished`; None without any."""
        places: list[tuple[Path | None, Arrays]] = [(self.path, {}), (self.finished, {FINISHED: np.array(True)})]
        for path, mark in places:
            arrays = verified(self.task, read(path))
            if arrays is not None and self.fits(arrays):
                found = below(self.prefix, arrays)
                return found | mark if found else None
        return None


@dataclass(frozen=True, slots=True)
class PartStore:
    """Finished parts of a task, each in a file."""

    directory: Path
    task: Any

    def save(self, name: str, arrays: Arrays) -> None:
        """Write a part atomically."""
        Store(self.directory / f"{name}.npz", self.task).save(arrays)

    def load(self) -> Iterator[Arrays]:
        """Yield the arrays of every part that can be read."""
        for path in sorted(self.directory.glob("*.npz")):
            if (arrays := Store(path, self.task).load()) is not None:
                yield arrays


class ResumeDirectory:
    """The shards of an estimate's tasks, each task locked by one process at a time.

    Parameters
    ----------
    directory : Path
        Directory for these shards only; created with the first ones.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.used: list[Path] = []

    @property
    def state(self) -> Path:
        """File from which a later estimate can continue a finished one; the caller keeps or removes it."""
        return self.directory / "state.npz"

    def keep(self, path: Path) -> None:
        """Move the state to the file `path`, and remove the rest; call it once the result is safe."""
        if self.state.exists():
            os.replace(self.state, path)
        self.remove()

    @contextmanager
    def held(self, task: Any) -> Iterator[PartStore]:
        """Yield the shards of a task.

        Raises
        ------
        ConfigError
            If another process has locked them.
        """
        digest = digest_of(task)
        place = self.directory / digest[:16]
        refusal = "{}: another process is computing the same estimate; wait for it, or give another --output"
        with locked(place, refusal):
            self.used.append(place)
            yield PartStore(place, digest)

    def remove(self) -> None:
        """Remove the shards that were used, but not those of other settings; call it once the result is safe."""
        self.state.unlink(missing_ok=True)
        for place in self.used:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            self.directory.rmdir()
