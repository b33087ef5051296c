"""Files of unfinished work beside the result, from which the next run continues after a kill."""

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
    """A file of named arrays that belongs to one task; the file of another task is ignored, and overwritten.

    Parameters
    ----------
    path : Path
    task : dict
        Everything that the numbers depend on, as plain JSON values: settings, digests, versions.
    finished : Path, optional
        File of a finished task of the same kind; it is only read, and only if `path` has nothing.
    fits : callable
        Returns whether the task can continue from given arrays.
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
        """Write the arrays atomically."""
        write_npz(self.path, {"fingerprint": self.fingerprint, **arrays})

    def load(self) -> Arrays | None:
        """Return the arrays of this task, or None if there are none, or they cannot be read."""
        found = self._read(self.path)
        return self._read(self.finished) if found is None and self.finished else found

    def _read(self, path: Path) -> Arrays | None:
        """Return the arrays of this task in a file, or None."""
        try:
            arrays = dict(read_npz(path, npz_names(path))) if path.exists() else {}
        except DataError:
            # A damaged file costs time only: its contents can be computed again.
            return None
        fingerprint = arrays.pop("fingerprint", None)
        same = fingerprint is not None and np.array_equal(fingerprint, self.fingerprint)
        return arrays if same and self.fits(arrays) else None

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class ResumePart:
    """The arrays of a `ResumeFile` whose names start with a prefix; the others are saved unchanged.

    Parameters
    ----------
    file : ResumeFile
    prefix : str
    others : dict
        The other arrays, by their full names.
    """

    def __init__(self, file: ResumeFile, prefix: str, others: Arrays) -> None:
        self.file, self.prefix, self.others = file, prefix, others

    def save(self, arrays: Arrays) -> None:
        """Write the arrays atomically."""
        self.file.save({**self.others, **{self.prefix + name: array for name, array in arrays.items()}})

    def load(self) -> Arrays | None:
        """Return the arrays, or None if there are none."""
        arrays, n = self.file.load() or {}, len(self.prefix)
        return {name[n:]: array for name, array in arrays.items() if name.startswith(self.prefix)} or None


class PartStore:
    """Finished parts of a task, each a file of arrays whose first axis runs over the positions of the part.

    Parameters
    ----------
    directory : Path
        Directory for these files only.
    names : tuple of str
        Names of the arrays of a part.
    """

    def __init__(self, directory: Path, names: tuple[str, ...]) -> None:
        self.directory, self.names = directory, names

    def load(self) -> Iterator[tuple[Index, Arrays]]:
        """Yield the positions and arrays of every part that can be read."""
        for path in sorted(self.directory.glob("*.npz")):
            with suppress(DataError):
                arrays = dict(read_npz(path, ("positions", *self.names)))
                yield arrays.pop("positions"), arrays

    def save(self, positions: Index, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a part atomically."""
        write_npz(self.directory / f"{positions[0]:08d}.npz", {"positions": positions, **arrays})


class ResumeDirectory:
    """The stores of an estimate's tasks, each locked by one process at a time.

    Parameters
    ----------
    directory : Path
        Directory for these stores only; created with the first one.
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
    def held(self, key: str, names: tuple[str, ...]) -> Iterator[PartStore]:
        """Yield the store with this key, a digest of everything that its parts depend on.

        Raises
        ------
        ConfigError
            If another process has locked it.
        """
        place = self.directory / key[:16]
        refusal = "{}: another process is computing the same estimate; wait for it, or give another --output"
        with locked(place, refusal):
            self.used.append(place)
            yield PartStore(place, names)

    def remove(self) -> None:
        """Remove the stores that were used, but not those of other settings; call it once the result is safe."""
        self.state.unlink(missing_ok=True)
        for place in self.used:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            self.directory.rmdir()
