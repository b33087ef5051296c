"""Samples from other programs: arrays of states, CSV with labels, and dimod's SampleSets, with weights.

A row is a read.  Its weight is the number of its occurrences (`occurrences`, `num_occurrences`), or any weight.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import check_count, check_size, npz_names, npz_shapes, read_npy, read_npz, reading
from dvae_core.io.files import check_unchanged, json_object, to_utf8

from ..machine import real_array
from ..objects import as_labels
from ..starts import binary_states
from .names import plain
from .starts import VALUES, states_of_sides
from .text import decode, read_text

Bits = NDArray[np.uint8]
WEIGHTS = ("occurrences", "numoccurrences", "numoccurrence", "weights", "weight", "counts", "count")
STATES = ("states", "samples", "sample")
# Columns of a table of reads that are neither units nor weights, as dimod's to_pandas_dataframe writes them.
NO_UNITS = ("energy", "chainbreakfraction", "logp", "isfeasible")
ADVICE = "give reads of 0 and 1 or of -1 and +1, one per row"


@dataclass(frozen=True, slots=True)
class GivenSamples:
    """The reads in a file.

    Attributes
    ----------
    states : uint8, shape (n, n_columns)
        0 and 1.
    labels : tuple of str
        Names of the columns; empty if the file has none.
    weights : float64, shape (n,), or None
        Occurrences or weights; None if the file has none.
    source : dict
        `file` and `sha256`.
    """

    states: Bits
    labels: tuple[str, ...] = ()
    weights: NDArray[np.float64] | None = None
    source: dict[str, Any] = field(default_factory=dict)


def read_samples(path: Path) -> GivenSamples:
    """Return the reads in a file.

    Parameters
    ----------
    path : Path
        NPZ with `states` or `samples`, or with two sides such as `v_samples` and `h_samples`, and optionally with
        `labels` and `occurrences` or `weights`; NPY; CSV or other text, with or without a line of labels; or the
        JSON of dimod's `SampleSet.to_serializable()`.

    Raises
    ------
    DataError
        If there is no such file, or it contains no states of 0 and 1 or of -1 and +1.
    """
    try:
        with reading(path, "file of samples"), check_unchanged(path) as digest:
            found = _read(path)
            if found.weights is not None:
                _check_weights(found.weights, len(found.states))
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    return GivenSamples(found.states, found.labels, found.weights, {"file": to_utf8(path), "sha256": digest})


def read_classes(path: Path, n: int) -> NDArray[np.int64]:
    """Return the classes of n reads, from an NPY or NPZ file of one array, or a text with an integer per line.

    Raises
    ------
    DataError
        If there is no such file, or it contains something else.
    """
    try:
        with reading(path, "file of classes"):
            values = _classes(path)
            if values.shape != (n,):
                raise DataError(f"has shape {values.shape} for {n} reads; give an integer per read")
            if not (np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)).all():
                raise DataError("has values that are not integers; give an integer per read")
    except DataError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise DataError(f"--classes {to_utf8(path)}: {text}") from error
    return values.astype(np.int64)


def _classes(path: Path) -> NDArray[Any]:
    start = _start(path)
    if start.startswith(b"\x93NUMPY"):
        return read_npy(path)
    if start.startswith(b"PK"):
        names = npz_names(path)
        if len(names) != 1:
            raise DataError(f"has {len(names)} arrays; save exactly one")
        return read_npz(path, names)[names[0]]
    check_size(path.stat().st_size, str(path))
    return np.array([float(line) for line in read_text(path).split()])


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(64)


def _read(path: Path) -> GivenSamples:
    """Return the reads in a file, whose format its first bytes determine."""
    start = _start(path)
    if start.startswith(b"\x93NUMPY"):
        return GivenSamples(binary_states(read_npy(path)))
    if start.startswith(b"PK"):
        return _of_npz(path)
    check_size(path.stat().st_size, str(path))
    if decode(start).lstrip().startswith("{"):
        return _of_sample_set(read_text(path))
    return _of_text(read_text(path))


def _check_weights(weights: NDArray[np.float64], n: int) -> None:
    """Raise DataError unless there is a weight per read, not negative, and not all are zero."""
    if weights.shape != (n,):
        raise DataError(f"has weights of shape {weights.shape} for {n} reads; give a weight per read")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise DataError("has weights that are negative, not finite or all zero; give how often each read occurred")


def _of_npz(path: Path) -> GivenSamples:
    """Return the reads of an NPZ file."""
    names = npz_names(path)
    weights = [name for name in names if plain(name) in WEIGHTS]
    if len(weights) > 1:
        raise DataError(f"has both {weights[0]} and {weights[1]}; keep one of them")
    w = np.asarray(read_npz(path, weights)[weights[0]], np.float64) if weights else None
    labels: tuple[str, ...] = ()
    if "labels" in names:
        texts = read_npz(path, ["labels"], kinds="Uiu")["labels"]
        labels = tuple(map(str, texts.tolist())) if texts.ndim == 1 else ()
    shapes = npz_shapes(path)
    tables = [name for name in names if name not in weights and len(shapes.get(name, ())) == 2]
    own = [name for name in tables if plain(name) in STATES] or (tables if len(tables) == 1 else [])
    if len(own) == 1:
        states = binary_states(read_npz(path, own)[own[0]])
    else:
        states = states_of_sides(path, names)
    if labels and len(labels) != states.shape[1]:
        raise DataError(f"has {len(labels)} labels for states of {states.shape[1]} units; give a label per unit")
    return GivenSamples(states, labels, w)


def _of_text(text: str) -> GivenSamples:
    """Return the reads of a text: rows of values, with or without a line of labels."""
    lines = [line.partition("#")[0] if line.startswith("#") else line for line in text.splitlines()]
    is_csv = "," in next((line for line in lines if line.strip()), "")
    rows = [row for row in (csv.reader(lines) if is_csv else map(str.split, lines)) if any(map(str.strip, row))]
    if not rows:
        raise DataError(f"is empty; {ADVICE}")
    rows = [[word.strip() for word in row] for row in rows]
    names: list[str] = []
    # A first row "0,1" is a line of labels, not a state: samples of two units are written with it.
    if any(word not in VALUES for word in rows[0]) or rows[0] in (["0", "1"], ["0"]):
        names, rows = rows[0], rows[1:]
    width = len(names or rows[0])
    for number, row in enumerate(rows, 2 if names else 1):
        if len(row) != width:
            raise DataError(f"row {number} has {len(row)} values, but the first row has {width}; {ADVICE}")
    return _of_columns(names or [str(k) for k in range(width)], rows, bool(names))


def _of_columns(names: list[str], rows: list[list[str]], is_named: bool) -> GivenSamples:
    """Return the reads of a table."""
    is_weight = [is_named and plain(name) in WEIGHTS for name in names]
    is_unit = [not (w or (is_named and plain(name) in NO_UNITS)) for name, w in zip(names, is_weight, strict=True)]
    units = [k for k, yes in enumerate(is_unit) if yes]
    values = []
    for number, row in enumerate(rows, 2 if is_named else 1):
        chosen = [row[k] for k in units]
        if (wrong := next((word for word in chosen if word not in VALUES), None)) is not None:
            raise DataError(f"row {number} has {wrong[:20]!r}, which is not a state of a unit; {ADVICE}")
        values.append([VALUES[word] for word in chosen])
    states = binary_states(np.array(values, np.int8).reshape(len(rows), len(units)))
    weights = None
    if any(is_weight):
        column = is_weight.index(True)
        weights = np.array([float(row[column]) for row in rows])
    return GivenSamples(states, tuple(names[k] for k in units) if is_named else (), weights)


def _of_sample_set(text: str) -> GivenSamples:
    """Return the reads of `SampleSet.to_serializable()`, schema 3, plain or packed into 32-bit words."""
    try:
        found = json_object(text)
    except ValueError as error:
        raise DataError(f"damaged JSON ({str(error)[:80]}); {ADVICE}") from error
    if found.get("type") != "SampleSet" or not isinstance(found.get("sample_data"), dict):
        raise DataError(
            "is JSON, but not a SampleSet of dimod; save it with json.dump(sampleset.to_serializable(), f)"
        )
    n, n_units = found.get("num_rows"), found.get("num_variables")
    if not isinstance(n, int) or not isinstance(n_units, int) or min(n, n_units) < 1:
        raise DataError(f"contains no read; {ADVICE}")
    check_count(n * n_units, "its reads")
    if found.get("sample_packed"):
        packed = _numbers(found["sample_data"], (n, math.ceil(n_units / 32)))
        if (packed < 0).any() or (packed >= 2**32).any():
            raise DataError("has invalid packed reads; save it again")
        words = packed.astype("<u4").view(np.uint8)
        states = np.unpackbits(words, axis=1, bitorder="little")[:, :n_units]
    else:
        states = binary_states(_numbers(found["sample_data"], (n, n_units)))
    vectors = found.get("vectors")
    occurred = vectors.get("num_occurrences") if isinstance(vectors, dict) else None
    weights = _numbers(occurred, (n,)) if isinstance(occurred, dict) else None
    return GivenSamples(np.ascontiguousarray(states), as_labels(found.get("variable_labels"), n_units), weights)


def _numbers(part: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return an array that dimod serialised; DataError if it has another shape."""
    if part.get("use_bytes") or not isinstance(part.get("data"), list):
        raise DataError("has its arrays as bytes; save it with to_serializable(use_bytes=False)")
    values = real_array("its data", part["data"])
    if values.shape != shape:
        raise DataError(f"has an array of shape {values.shape} instead of {shape}; save it again")
    return values
