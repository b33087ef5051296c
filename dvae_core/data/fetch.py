"""The folder of data files, and downloads into it, which are checked before they get their final name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError
from ..io.files import atomic_write

VARIABLE = "DVAE_DATA_DIR"
CHUNK_BYTES = 2**16
LIMIT_BYTES = 2**30  # for a file whose size was not published


@dataclass(frozen=True, slots=True)
class Remote:
    """A public file: its name, its addresses in order of preference, and the digest and size of its content.

    `digest` has the form "sha256:..." or "md5:..."; `n_bytes` is None if no size was published.
    """

    name: str
    urls: tuple[str, ...]
    digest: str
    n_bytes: int | None = None

    @property
    def most_bytes(self) -> int:
        """The largest allowed number of bytes."""
        return LIMIT_BYTES if self.n_bytes is None else self.n_bytes

    def read(self, path: Path) -> bytes:
        """Return the bytes of the file at `path`; DataError if they differ from the published ones."""
        try:
            with path.open("rb") as file:
                content = file.read(self.most_bytes + 1)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        if len(content) > self.most_bytes:
            raise DataError(f"{path}: damaged or altered: more than {self.most_bytes} bytes")
        hasher = self.hasher()
        hasher.update(content)
        self.compare(hasher.hexdigest(), str(path))
        return content

    def compare(self, found: str, where: str) -> None:
        """Raise DataError if the digest `found` is not the published one."""
        expected = self.digest.partition(":")[2]
        if found != expected:
            raise DataError(f"{where}: damaged or altered: {self.algorithm} is {found}, expected {expected}")

    @property
    def algorithm(self) -> str:
        """Name of the digest algorithm."""
        return self.digest.partition(":")[0]

    def hasher(self) -> hashlib._Hash:
        """Return a new, empty digest; MD5 works even where it is disabled for cryptography."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def data_folder() -> Path:
    """Return the folder that data sets are read from and downloaded to: $DVAE_DATA_DIR or the user's cache."""
    named = os.environ.get(VARIABLE)
    if not named:
        import pooch

        return Path(pooch.os_cache("dvae-toolkit"))
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {VARIABLE} must name the folder that holds the data sets")
    return folder


def fetch(remote: Remote, folder: Path, *, quiet: bool = False) -> Path:
    """Download `remote` into `folder` and return its path; its addresses are tried in turn.

    The file gets its name only after its size and digest were checked.  Progress is shown on standard error unless
    `quiet`.

    Raises
    ------
    DataError
        If no address provides the right file, or `folder` cannot be written to.
    """
    path = folder / remote.name
    failures = []
    for url in remote.urls:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file, _progress(remote, quiet) as advance:
                _download(remote, url, file, advance)
            return path
        except (OSError, DataError) as error:
            # An error of the disk; those of requests have no errno.
            if isinstance(error, OSError) and error.errno is not None:
                raise DataError(
                    f"{path}: cannot be written ({error.strerror}); set {VARIABLE} to another folder"
                ) from error
            failures.append(f"{url} ({_reason(error)})")
    raise DataError(
        f"{remote.name}: could not be downloaded from {', nor from '.join(failures)}; get it by other means and "
        f"save it in {folder}, or set {VARIABLE} to the folder that holds it"
    )


def _download(remote: Remote, url: str, file: BinaryIO, advance: Callable[[int], None]) -> None:
    """Write the content of `url` to `file`; DataError if it is not that of `remote`."""
    import pooch

    checked = _Checked(remote, file, advance)
    # Without this header a server may declare a .gz file as encoded, and it would be stored unpacked.
    headers = {"Accept-Encoding": "identity"}
    pooch.HTTPDownloader(chunk_size=CHUNK_BYTES, headers=headers)(url, checked, None)
    checked.finish()


class _Checked:
    """A file object that counts and digests the bytes written to it."""

    def __init__(self, remote: Remote, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self.remote, self.file, self.advance = remote, file, advance
        self.hasher = remote.hasher()
        self.n_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Write `chunk`; DataError when the file exceeds its size, so that a download cannot fill the disk."""
        self.n_bytes += len(chunk)
        if self.n_bytes > self.remote.most_bytes:
            raise DataError(f"more than {self.remote.most_bytes} bytes")
        self.hasher.update(chunk)
        self.file.write(chunk)
        self.advance(len(chunk))

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is complete."""

    def finish(self) -> None:
        """Raise DataError if the bytes written are not the remote file."""
        if self.remote.n_bytes is not None and self.n_bytes != self.remote.n_bytes:
            raise DataError(f"{self.n_bytes} bytes, expected {self.remote.n_bytes}")
        self.remote.compare(self.hasher.hexdigest(), "content")


@contextmanager
def _progress(remote: Remote, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds a number of bytes to the progress on standard error."""
    if quiet:
        yield lambda n_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Downloading {remote.name}", total=remote.n_bytes)
        yield lambda n_bytes: progress.advance(task, n_bytes)


def _reason(error: Exception) -> str:
    """Return a short reason for a failed download; the messages of requests are long and less clear."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    return str(error) if isinstance(error, DataError) else type(error).__name__
