"""Unfinished work in files beside the result: it survives a kill, and the next run continues from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz
from dvae_core.io.files import write_npz
from dvae_core.training.run_directory import locked

Index = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]


def packed(value: Any) -> NDArray[np.uint8]:
    """Return a JSON value as an array."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpacked(array: NDArray[Any]) -> Any:
    """Return the JSON value of an array."""
    return json.loads(array.tobytes().decode())


class ResumeFile:
    """A file of named arrays that belongs to one task: another task's is ignored, and overwritten.

    Parameters
    ----------
    path : Path
    task : dict
        All that the numbers depend on, plain JSON values: settings, digests, versions.
    finished : Path, optional
        Where a finished task of the same kind was kept; read only, and only where `path` has nothing.
    fits : callable
        Whether the task can continue from these arrays.
    """

    def __init__(
        self,
        path: Path,
        task: dict[str, Any],
        finished: Path | None = None,
        fits: Callable[[Arrays], bool] = lambda arrays: True,
    ) -> None:
        self.path, self.finished, self.fits = path, finished, fits
        digest = hashlib.sha256(json.dumps(task, sort_keys=True).encode()).digest()
        self.fingerprint = np.frombuffer(digest, dtype=np.uint8)

    def save(self, arrays: Arrays) -> None:
        """Write the arrays, whole or not at all."""
        write_npz(self.path, {"fingerprint": self.fingerprint, **arrays})

    def load(self) -> Arrays | None:
        """Return the arrays, or None if there are none of this task that can be read."""
        found = self._read(self.path)
        return self._read(self.finished) if found is None and self.finished else found

    def _read(self, path: Path) -> Arrays | None:
        """Return the arrays of a file, or None."""
        try:
            arrays = dict(read_npz(path, npz_names(path))) if path.exists() else {}
        except DataError:
            # What it held was computed from the start before, and can be again.
            return None
        fingerprint = arrays.pop("fingerprint", None)
        same = fingerprint is not None and np.array_equal(fingerprint, self.fingerprint)
        return arrays if same and self.fits(arrays) else None

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class ResumePart:
    """The arrays of a `ResumeFile` whose names begin with a prefix; others are saved beside them.

    Parameters
    ----------
    file : ResumeFile
    prefix : str
    others : dict
        Arrays by their whole names.
    """

    def __init__(self, file: ResumeFile, prefix: str, others: Arrays) -> None:
        self.file, self.prefix, self.others = file, prefix, others

    def save(self, arrays: Arrays) -> None:
        """Write the arrays, whole or not at all."""
        self.file.save({**self.others, **{self.prefix + name: array for name, array in arrays.items()}})

    def load(self) -> Arrays | None:
        """Return the arrays, or None if there are none."""
        arrays, n = self.file.load() or {}, len(self.prefix)
        return {name[n:]: array for name, array in arrays.items() if name.startswith(self.prefix)} or None


class PartStore:
    """Finished parts of one task, each a file of arrays whose first axis is that of the part's positions.

    Parameters
    ----------
    directory : Path
        Of nothing but these files.
    names : tuple of str
        The arrays of a part.
    """

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        self.directory, self.names = directory, names

    def load(self) -> Iterator[tuple[Index, Arrays]]:
        """Yield positions and arrays of every part that is there and whole."""
        for path in sorted(self.directory.glob("*.npz")):
            with suppress(DataError):
                arrays = dict(read_npz(path, ("positions", *self.names)))
                yield arrays.pop("positions"), arrays

    def save(self, positions: Index, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a part, whole or not at all."""
        write_npz(self.directory / f"{positions[0]:08d}.npz", {"positions": positions, **arrays})


class ResumeDirectory:
    """The stores of an estimate's tasks, each held by one process at a time.

    Parameters
    ----------
    directory : Path
        Of nothing but stores; made when the first one is needed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.used: list[Path] = []

    @property
    def state(self) -> Path:
        """What a finished estimate leaves for a later one, until the caller keeps or removes it."""
        return self.directory / "state.npz"

    def keep(self, path: Path) -> None:
        """Let the state be the file `path`, and remove the rest, once the result is safe."""
        if self.state.exists():
            os.replace(self.state, path)
        self.remove()

    @contextmanager
    def held(self, key: str, names: tuple[str, ...]) -> Iterator[PartStore]:
        """Yield the store with this key, a digest of all that its parts depend on.

        Raises
        ------
        ConfigError
            If another process holds it.
        """
        place = self.directory / key[:16]
        refusal = "{}: another process is at work on the same estimate; wait for it, or give another --output"
        with locked(place, refusal):
            self.used.append(place)
            yield PartStore(place, names)

    def remove(self) -> None:
        """Remove the stores that were used, once the result is safe; those of other settings stay."""
        self.state.unlink(missing_ok=True)
        for place in self.used:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            self.directory.rmdir()
