"""Binary quadratic models of dimod: its binary format, versions 1 and 2, its JSON, and its COO text.

E(x) = offset + Σ_i b_i x_i + Σ_(i,j) J_ij x_i x_j, x in {0,1} (BINARY) or {-1,+1} (SPIN); p ∝ exp(-β E).
Labels of the variables name the units.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import check_size
from dvae_core.types import Float, Index

from ..objects import as_labels
from .options import ReadConfig, Reading, from_bonds
from .sparse import from_compressed
from .text import read_text

MAGIC, VERSIONS, LABELS = b"DIMODBQM", (b"\1\0", b"\2\0"), b"VARS"
UNITS = {"BINARY": "01", "SPIN": "pm1"}
FLOATS, INTEGERS = ("float32", "float64"), ("int16", "int32", "int64", "uint16", "uint32", "uint64")
_HEADER = re.compile(r"[ \t\f]*#.*?vartype[ \t]*[:=][ \t]*([-_.a-zA-Z0-9]+)", re.IGNORECASE)
_LINE = re.compile(r"\s*([0-9]{1,18})\s+([0-9]{1,18})\s+(\S{1,60})\s*")


def read_bqm(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a file that `BinaryQuadraticModel.to_file` wrote."""
    config.reject_unused("dimod", "beta")
    check_size(path.stat().st_size, str(path))
    content = path.read_bytes()
    length = int.from_bytes(content[10:14], "little")
    if not content.startswith(MAGIC) or content[8:10] not in VERSIONS or length > len(content):
        raise DataError("not a dimod file of version 1 or 2; save it with dimod.BinaryQuadraticModel.to_file")
    header = json.loads(content[14 : 14 + length].decode("ascii"))
    if not isinstance(header, dict):
        raise DataError("the header is not a JSON object; save the file again")
    return _model(header, content[14 + length :], config.beta)


def read_serializable(found: dict[str, Any], config: ReadConfig) -> Reading:
    """Return the machine of the JSON object that `BinaryQuadraticModel.to_serializable` returns, schema 3."""
    config.reject_unused("dimod", "beta")
    vartype = str(found.get("variable_type"))
    if vartype not in UNITS:
        raise DataError(f"has variable_type {vartype[:20]!r}; give SPIN or BINARY")
    parts = [found.get(name) for name in ("linear_biases", "quadratic_biases", "quadratic_head", "quadratic_tail")]
    if found.get("use_bytes") or not all(isinstance(part, list) for part in parts):
        raise DataError(
            "has a dimod model as bytes, or of an old schema; save it with to_serializable(use_bytes=False)"
        )
    b, J = (np.array(part or [], np.float64) for part in parts[:2])
    head, tail = (np.array(part or [], np.int64) for part in parts[2:])
    offset = found.get("offset", 0.0)
    if not isinstance(offset, int | float) or not b.ndim == J.ndim == 1 or not J.shape == head.shape == tail.shape:
        raise DataError("has an offset that is not a number, or heads and tails that do not fit; save it again")
    description = {"format": "dimod BQM (JSON)", "units": UNITS[vartype], "dtype": "float64"}
    labels = as_labels(found.get("variable_labels"), len(b))
    return _boltzmann(np.column_stack((head, tail)), J, b, float(offset), config.beta, description, labels)


def _model(header: dict[str, Any], body: bytes, beta: float) -> Reading:
    """Return the machine of a header and the bytes after it: offset, variables, interactions."""
    dtype = _type(header, "dtype", FLOATS)
    itype, ntype = (_type(header, name, INTEGERS) for name in ("itype", "ntype"))
    vartype, shape = str(header.get("vartype")), header.get("shape")
    if vartype not in UNITS or not isinstance(shape, list) or [type(n) for n in shape] != [int, int]:
        raise DataError(
            f"the header has vartype {vartype[:20]!r} and shape {str(shape)[:40]}; save the file again"
        )
    kinds = (dtype, np.dtype([("start", ntype), ("bias", dtype)]), np.dtype([("other", itype), ("bias", dtype)]))
    counts = (1, shape[0], 2 * shape[1])
    sizes = [count * kind.itemsize for count, kind in zip(counts, kinds, strict=True)]
    if min(counts) < 0 or sum(sizes) > len(body):
        raise DataError(
            f"has {len(body)} bytes, but shape {shape} needs {sum(sizes)}; it may be truncated, save it again"
        )
    offset, variables, entries = (
        np.frombuffer(body, kind, count, sum(sizes[:i]))
        for i, (kind, count) in enumerate(zip(kinds, counts, strict=True))
    )
    found = from_compressed(
        "its interactions",
        (shape[0], shape[0]),
        np.append(variables["start"].astype(np.int64), len(entries)),
        entries["other"],
        entries["bias"],
        by_row=True,
    )
    ends = np.column_stack((found.row, found.column))
    below = ends[:, 1] < ends[:, 0]
    bias = entries["bias"].astype(np.float64)
    _check_mirrored(ends, bias, below)
    return _boltzmann(
        *(ends[below], bias[below], variables["bias"].astype(np.float64), float(offset[0]), beta),
        {"format": "dimod BQM", "units": UNITS[vartype], "dtype": dtype.name},
        as_labels(_variables(header, body[sum(sizes) :]), shape[0]),
    )


def _variables(header: dict[str, Any], rest: bytes) -> Any:
    """Return the labels: from the header in version 1, from a separate section in version 2."""
    variables = header.get("variables")
    if isinstance(variables, bool) and variables and rest.startswith(LABELS):
        length = int.from_bytes(rest[4:8], "little")
        try:
            return json.loads(rest[8 : 8 + length].decode("ascii"))
        except ValueError:
            return None
    return variables


def _boltzmann(
    ends: Index,
    J: Float,
    b: Float,
    offset: float,
    beta: float,
    description: dict[str, Any],
    labels: tuple[str, ...] = (),
) -> Reading:
    """Return the machine of p ∝ exp(-β E)."""
    return from_bonds(ends, -beta * J, -beta * b, -beta * offset, {**description, "beta": beta}, labels)


def _type(header: dict[str, Any], name: str, known: tuple[str, ...]) -> np.dtype[Any]:
    """Return the little-endian dtype under a name of the header; DataError if it is not a known one."""
    found = header.get(name)
    if not isinstance(found, str) or found not in known:
        raise DataError(f"the header has {name} {str(found)[:20]!r}; save the file again")
    dtype: np.dtype[Any] = np.dtype(found).newbyteorder("<")
    return dtype


def _check_mirrored(ends: Index, bias: Float, below: NDArray[np.bool_]) -> None:
    """Raise DataError unless every interaction is stored twice, with the same bias from both ends."""
    down, up = ends[below], ends[~below][:, ::-1]
    first, second = np.lexsort(down.T), np.lexsort(up.T)
    same = np.array_equal(down[first], up[second])
    if not (same and np.array_equal(bias[below][first], bias[~below][second])):
        raise DataError("an interaction differs between its two ends; save the file again")


def is_coo(text: str) -> bool:
    """Return whether the beginning of a file looks like COO: a vartype, or lines of two integers and a number."""
    for line in text.removeprefix("\ufeff").splitlines()[:100]:
        if _HEADER.match(line) or _LINE.fullmatch(line):
            return True
        if line.strip() and not line.lstrip().startswith("#"):
            return False
    return False


def read_coo(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of lines `i j bias`, where i = j is the bias of a variable.

    As in dimod, the variables are those in the lines; the format has no offset, and no variables without any bias.
    Their type is given in a comment, `# vartype=SPIN`, or by `--units`.
    """
    config.reject_unused("dimod's COO text", "beta", "units")
    declared: str | None = None
    ends: list[tuple[int, int]] = []
    biases: list[float] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if found := _HEADER.match(line):
            vartype = found[1].upper().rpartition(".")[2]
            if vartype not in UNITS or declared not in (None, UNITS[vartype]):
                raise DataError(f"line {number}: vartype {found[1][:20]!r}; give SPIN or BINARY, once")
            declared = UNITS[vartype]
        elif line.strip() and not line.lstrip().startswith("#"):
            parts = _LINE.fullmatch(line)
            if parts is None:
                raise DataError(f"line {number}: {line[:40]!r} is not 'i j bias'; correct the line")
            ends.append((int(parts[1]), int(parts[2])))
            biases.append(_number(parts[3], number))
    if not ends:
        raise DataError("has no line 'i j bias'; give one per bias and interaction")
    return _from_lines(np.array(ends, np.int64), np.array(biases), _units(declared, config), config.beta)


def _units(declared: str | None, config: ReadConfig) -> str:
    """Return the units that a file declares, or else those of the option; DataError if they are unknown."""
    if declared and config.units not in ("auto", declared):
        raise DataError(f"--units: {config.units}, but the file has {declared}; leave the option out")
    if not declared and config.units == "auto":
        raise DataError("does not declare its vartype; give --units 01 or pm1")
    return declared or config.units


def _from_lines(ends: Index, bias: Float, units: str, beta: float) -> Reading:
    """Return the machine of lines; biases for the same pair are added, as in dimod."""
    labels, index = np.unique(ends, return_inverse=True)
    ends = index.reshape(ends.shape)
    is_bond = ends[:, 0] != ends[:, 1]
    linear: Float = np.bincount(ends[~is_bond, 0], bias[~is_bond], len(labels)).astype(np.float64)
    description = {"format": "dimod COO", "units": units, "dtype": "float64"}
    names = as_labels(labels.tolist(), len(labels))
    return _boltzmann(ends[is_bond], bias[is_bond], linear, 0.0, beta, description, names)


def _number(text: str, line: int) -> float:
    """Return a number; DataError naming the line if it is not one."""
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"line {line}: {text!r} is not a number; correct the line") from error
