"""Clamped units: their values, read from a small file, and the machine of the other units.

The file is text with a line `unit value`, `unit = value` or `unit,value` per unit; a JSON object that maps units
to values; or an NPZ file with the arrays `units` and `values`.  A unit is named by its label if the model's file
has labels, else by its number from 0 in that file's order (visible units before hidden ones).  Values are those
of the model's file, 0 and 1 or -1 and +1.
"""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz, reading
from dvae_core.io.files import json_object, sha256_file, to_utf8

from .options import Reading
from .text import decode, read_text

VALUES = {"01": {0: 0, 1: 1}, "pm1": {-1: 0, 1: 1}}
ADVICE = "give a line 'unit value' per clamped unit"
_LINE = re.compile(r"\s*(\S.*?)(?:\s*[=:,;]\s*|\s+)(\S+)\s*")
_HEADER = ("unit", "name", "label", "variable")


def with_clamped(found: Reading, path: Path) -> Reading:
    """Return a reading with the units in the file at `path` clamped, so that log Z sums over the others only.

    Raises
    ------
    DataError
        If the file is of no known kind, or names an unknown or clamped unit, or a value that units do not have.
    """
    try:
        held = _units(found, read_clamps(path))
        digest = sha256_file(path)
    except DataError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise DataError(f"--clamp {to_utf8(path)}: {text}") from error
    number = {unit: k for k, unit in enumerate(found.free.tolist())}
    machine, constant = found.machine.clamped({number[unit]: value for unit, value in held.items()})
    described = {"file": to_utf8(path), "sha256": digest, "units": len(held)}
    return replace(
        found,
        machine=machine,
        constant=found.constant + constant,
        description={**found.description, "clamped": described},
        held={**found.held, **held},
    )


def _units(found: Reading, values: dict[str, float]) -> dict[int, int]:
    """Return the clamped values, 0 or 1, by the number of the unit."""
    allowed = VALUES[found.description["units"]]
    names = found.labels or [str(unit) for unit in range(found.n_units)]
    number = {name: unit for unit, name in enumerate(names)}
    held: dict[int, int] = {}
    for name, value in values.items():
        if name not in number:
            what = "a label of the model" if found.labels else f"a number of 0 ... {found.n_units - 1}"
            raise DataError(f"names a unit {name[:40]!r}, which is not {what}; correct it")
        if number[name] in found.held:
            raise DataError(f"names the unit {name[:40]!r}, which is observed already; leave it out")
        if value not in allowed:
            raise DataError(
                f"has {name[:40]!r} = {value:g}; give {' or '.join(map(str, allowed))}, the values of its units"
            )
        held[number[name]] = allowed[int(value)]
    return held


def read_clamps(path: Path) -> dict[str, float]:
    """Return the values in a file by the name of the unit; DataError if it is of no kind above."""
    with reading(path, "clamp file"):
        pairs = _pairs(path)
    values: dict[str, float] = {}
    for name, value in pairs:
        if name in values and values[name] != value:
            raise DataError(f"has {name[:40]!r} twice, with different values; keep one")
        values[name] = value
    if not values:
        raise DataError(f"names no unit; {ADVICE}")
    return values


def _pairs(path: Path) -> list[tuple[str, float]]:
    """Return names and values by the kind of file."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"PK"):
        return _of_npz(path)
    if decode(start).lstrip().startswith("{"):
        return _of_json(path)
    return _of_csv(path) if path.suffix.lower() == ".csv" else _of_lines(path)


def _of_npz(path: Path) -> list[tuple[str, float]]:
    """Return names and values of an NPZ file."""
    if not {"units", "values"} <= set(npz_names(path)):
        raise DataError("has no arrays units and values; save both")
    found = read_npz(path, ("units", "values"), kinds="buifU")
    units, values = found["units"], found["values"]
    if units.ndim != 1 or units.shape != values.shape or units.dtype.kind in "fb" or values.dtype.kind == "U":
        raise DataError("needs units (numbers or labels) and values, both of shape (n,); save them again")
    if units.dtype.kind == "U" and units.itemsize and (units.view(np.uint32) > sys.maxunicode).any():
        raise DataError("contains an invalid text; save the file again")
    return list(zip(map(str, units.tolist()), map(float, values.tolist()), strict=True))


def _of_json(path: Path) -> list[tuple[str, float]]:
    """Return names and values of a JSON object."""
    try:
        found = json_object(read_text(path))
    except ValueError as error:
        raise DataError(f"damaged JSON ({str(error)[:80]}); {ADVICE}") from error
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
            raise DataError(f"has {name[:40]!r} = {str(value)[:40]}; give a number")
    return list(found.items())


def _of_csv(path: Path) -> list[tuple[str, float]]:
    """Return names and values of two columns, with or without a header."""
    pairs = []
    for number, row in enumerate(csv.reader(read_text(path).splitlines()), 1):
        if not row or (number == 1 and row[0].strip().lower() in _HEADER):
            continue
        if len(row) != 2:
            raise DataError(f"line {number} has {len(row)} columns; give two, unit and value")
        pairs.append((row[0].strip(), _number(row[1], number)))
    return pairs


def _of_lines(path: Path) -> list[tuple[str, float]]:
    """Return names and values of lines; a line that starts with # is a comment."""
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (parts := _LINE.fullmatch(line)) is None:
            raise DataError(f"line {number}: {line[:40]!r} is not 'unit value'; {ADVICE}")
        pairs.append((parts[1], _number(parts[2], number)))
    return pairs


def _number(text: str, line: int) -> float:
    """Return the value on a line."""
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"line {line}: {text[:40]!r} is not a value of a unit; {ADVICE}") from error
