"""Descriptions of files: models, machines, results, images and arrays."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError, DvaeError
from dvae_core.io.containers import (
    npz_names,
    open_binary,
    read_amat,
    read_idx,
    read_npy,
    read_npz,
    reading,
)
from dvae_core.io.files import json_object, read_text, sha256_file, to_utf8

from ..couplings import Table, entries, is_full
from ..machine import BipartiteMachine, Machine
from . import matlab4, matlab5
from .json_file import is_result
from .options import ReadConfig
from .registry import FORMATS, read_machine, recognise

Facts = dict[str, Any]
# NPZ files that dvae-eval writes, by the `kind` in their metadata.
PICTURES = {
    "samples": "samples and reconstructions of a model",
    "ll-images": "the images of a log-likelihood",
    "states": "samples of a Boltzmann machine",
}


def inspect_file(path: str | os.PathLike[str], config: ReadConfig | None = None) -> Facts:
    """Return a description of a file as JSON values; `is` names its kind in a few words.

    Parameters
    ----------
    path : str or path
        Any file that this project reads or writes, or a run directory, which stands for its `model.pt`.
    config : ReadConfig, optional
        Options for what the file of a machine does not determine.

    Raises
    ------
    DvaeError
        If the file is missing, damaged or of no known format.
    """
    path = Path(path)
    path = path / "model.pt" if path.is_dir() else path
    kind = recognise(path)
    facts: Facts = {"file": to_utf8(path), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    if kind in INSPECTORS:
        return facts | INSPECTORS[kind](path)
    if kind == "json" and _is_result(path):
        return facts | _result(path)
    if kind == "torch" and (found := _own(path)):
        return facts | found
    if found := _own_pictures(path, kind):
        return facts | found
    if kind not in FORMATS:
        read_machine(path)  # raises the error that says what the file is, and what to do
    return facts | _foreign(path, kind, config or ReadConfig())


def _foreign(path: Path, kind: str, config: ReadConfig) -> Facts:
    """Return the description of a file's machine, or of its arrays if it has none."""
    try:
        found = read_machine(path, config)
    except DataError as error:
        arrays = _arrays_of(path, kind)
        if not arrays:
            raise
        if data_set := _data_set(path, arrays):
            return {**data_set, "arrays": arrays}
        return {"is": "arrays", "arrays": arrays, "no machine because": str(error).removeprefix(f"{path}: ")}
    described = {name: value for name, value in found.description.items() if name not in ("file", "sha256")}
    return {"is": f"a Boltzmann machine, {found.description['format']}", **described, **_machine(found.machine)}


def _machine(machine: Machine) -> Facts:
    """Return sizes and ranges of a machine over {0,1}, and the exact method for its log Z, if there is one."""
    from ..exact.plan import exact_route

    if isinstance(machine, BipartiteMachine):
        values = {"W": _values(machine.W), "b_left": machine.b_left, "b_right": machine.b_right}
    else:
        values = {"J": entries(machine.J)[1], "b": machine.b}
    return {
        **machine.description(),
        "over {0,1}": {name: _range(array) for name, array in values.items()},
        "exact log Z": exact_route(machine) or "no, too many units; use parallel tempering",
    }


def _values(table: Table) -> NDArray[np.float64]:
    """Return all entries of a full table, or the non-zero entries of a sparse one and a zero."""
    return table if is_full(table) else np.append(entries(table)[1], 0.0)


def _own(path: Path) -> Facts | None:
    """Return the description of a model or checkpoint of this project; None for other files."""
    from dvae_core.io.torch_files import read_torch
    from dvae_core.training.checkpoint import load_model

    from ..trained import machine_of

    content = read_torch(path)
    format = str(content.get("format")) if isinstance(content, dict) else ""
    if not format.startswith("dvae-"):
        return None
    facts: Facts = {"is": f"a {format} file of this project", "format": format, "version": content.get("version")}
    if format != "dvae-model":
        plain = {name: value for name, value in content.items() if isinstance(value, int | float | str)}
        return {**plain, **facts, "holds": sorted(map(str, content))}
    trained = load_model(path)
    return {
        **facts,
        "config": trained.config.to_dict(),
        "image_shape": list(trained.image_shape),
        "n_parameters": sum(p.numel() for p in trained.model.parameters()),
        "provenance": trained.provenance,
        **_machine(machine_of(trained)),
    }


def _own_pictures(path: Path, kind: str) -> Facts | None:
    """Return the description of an NPZ file that dvae-eval wrote; None for other files."""
    if kind != "npz" or "meta" not in npz_names(path):
        return None
    arrays = dict(read_npz(path, npz_names(path), kinds="buifU"))
    try:
        meta = json_object(arrays.pop("meta").astype(np.uint8).tobytes())
    except ValueError:
        return None
    what = PICTURES.get(str(meta.pop("kind", "")))
    meta.pop("diagnostics", None)  # arrays for figures
    described = {name: _described(array) for name, array in arrays.items()}
    return {"is": f"{what} of this project", **meta, "arrays": described} if what else None


def _is_result(path: Path) -> bool:
    """Return whether a JSON file is a result of this project, or may be a damaged one."""
    try:
        found = json_object(read_text(path))
    except (OSError, ValueError):
        return True
    return is_result(found) or not found


def _result(path: Path) -> Facts:
    """Return the description of a result file."""
    from ..results import load_result

    result = load_result(path)
    numbers = [getattr(result, name, 0.0) for name in ("log_z", "std_err", "log_likelihood", "std_err_log_z")]
    return {
        "is": f"a result of this project ({result.kind})",
        "says": "its number is not finite" if None in numbers else str(result),
        "verdict": result.claim,
        "trustworthy": result.trustworthy,
        "reasons": [*result.reasons, *result.warnings],
        "model": result.model,
        "seed": result.seed,
        "versions": result.versions,
        "command": result.command,
    }


def _npy(path: Path) -> Facts:
    """Return the description of an NPY file."""
    array = read_npy(path)
    return {"is": "one array", **(_data_set(path, {}) or {}), "array": _described(array)}


def _idx(path: Path) -> Facts:
    """Return the description of an IDX file, plain or packed by gzip."""
    with reading(path, "IDX"), open_binary(path) as stream:
        n_axes = stream.read(4)[3]
    array = read_idx(path, n_axes)
    return {"is": "bytes in an IDX file" + (", images" if array.ndim == 3 else ""), "array": _described(array)}


def _amat(path: Path) -> Facts:
    """Return the description of a text of zeros and ones, plain or packed by gzip."""
    with reading(path, "text"), open_binary(path) as stream:
        n_columns = len(stream.readline(1 << 20).split())
    return {"is": "a text of zeros and ones", "array": _described(read_amat(path, n_columns))}


def _packed(path: Path) -> Facts:
    """Return the description of a file of images that is packed by gzip."""
    with reading(path, "gzip"), gzip.open(path) as stream:
        start = stream.read(4)
    return _idx(path) if start[:3] == b"\0\0\x08" else _amat(path)


def _arrays_of(path: Path, kind: str) -> dict[str, Facts]:
    """Return the descriptions of the arrays in an NPZ or MATLAB file."""
    if kind == "npz":
        found: Mapping[str, Any] = read_npz(path, npz_names(path), kinds="buifcSU")
    else:
        readers = {"mat": matlab5.read_variables, "mat4": matlab4.read_variables}
        found = readers[kind](path) if kind in readers else {}
    return {name: _described(array) for name, array in found.items() if isinstance(array, np.ndarray)}


def _described(array: NDArray[Any]) -> Facts:
    """Return the shape, dtype and range of an array."""
    facts: Facts = {"shape": list(array.shape), "dtype": str(array.dtype)}
    return facts | ({"range": _range(array)} if array.dtype.kind in "buif" and array.size else {})


def _range(array: NDArray[Any]) -> list[float] | str:
    """Return the smallest and the largest value, or a text if there are none."""
    if not array.size:
        return "empty"
    least, largest = float(array.min()), float(array.max())
    return [least, largest] if math.isfinite(largest - least) else "contains nan or infinite values"


def _data_set(path: Path, arrays: Mapping[str, Any]) -> Facts | None:
    """Return the description of a file's data set; None if it cannot be used for training."""
    from dvae_core.data import load
    from dvae_core.data.user import splits_of

    if path.suffix.lower() not in (".npz", ".npy") or (arrays and not splits_of(arrays)):
        return None
    try:
        data = load(path)
    except DvaeError:
        return None
    height, width = data.image_shape
    sizes = "/".join(str(len(split)) for split in (data.train, data.valid, data.test))
    what = f"a data set of {sizes} images of {height} x {width}, {data.binarisation} binarisation"
    return {"is": what, "notes": list(data.notes)}


INSPECTORS: dict[str, Callable[[Path], Facts]] = {
    "npy": _npy,
    "idx": _idx,
    "amat": _amat,
    "gzip": _packed,
}
