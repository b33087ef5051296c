"""Writers of Boltzmann machines that preserve log Z: NPZ, safetensors, MATLAB and UAI."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dvae_core import __version__
from dvae_core.errors import ConfigError, DataError
from dvae_core.io.files import npz_bytes, write_bytes
from dvae_core.types import Float

from ..couplings import as_array, entries
from ..machine import BipartiteMachine, Machine
from .extras import needs

Arrays = dict[str, Float]
# A UAI file contains exp(parameter), which must be neither infinite nor zero.
LARGEST_EXPONENT = 600.0
MOST_FACTORS = 1000


def write_machine(path: Path, machine: Machine, constant: float = 0.0) -> None:
    """Write a machine to `path` atomically, in the format of its suffix.

    Parameters
    ----------
    path : Path
        Ends with one of `SUFFIXES`.
    machine : BipartiteMachine or GeneralMachine
        Written as the arrays `W`, `b_left` and `b_right`, or `J` and `b`, over {0,1}; in a UAI file the left units
        come first.
    constant : float
        Added to the file's log Z, nats: as an array `constant`, or as a factor.

    Raises
    ------
    ConfigError
        If the suffix is unknown, or an optional library is missing.
    DataError
        If a parameter is too large for a UAI file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: unknown format; give a name that ends with {', '.join(SUFFIXES)}")
    write_bytes(path, SUFFIXES[path.suffix.lower()](machine, constant, path))


def _arrays(machine: Machine, constant: float) -> Arrays:
    """Return the arrays of a machine, with `constant` unless it is 0."""
    if isinstance(machine, BipartiteMachine):
        arrays: Arrays = {"W": as_array(machine.W), "b_left": machine.b_left, "b_right": machine.b_right}
    else:
        arrays = {"J": as_array(machine.J), "b": machine.b}
    return arrays | ({"constant": np.array([constant])} if constant else {})


def _npz(machine: Machine, constant: float, _path: Path) -> bytes:
    """Return the bytes of an NPZ file."""
    return npz_bytes(_arrays(machine, constant))


def _safetensors(machine: Machine, constant: float, path: Path) -> bytes:
    """Return the bytes of a safetensors file."""
    with needs("safetensors", path):
        from safetensors.numpy import save
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(machine, constant).items()}
    return save(arrays)


def _mat(machine: Machine, constant: float, _path: Path) -> bytes:
    """Return the bytes of a MATLAB file of version 5."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, _arrays(machine, constant), oned_as="column")
    content = buffer.getvalue()
    # Replace the header, where SciPy writes the time, so that equal machines make equal files.
    return f"MATLAB 5.0 MAT-file, dvae-toolkit {__version__}".encode().ljust(116) + content[116:]


def _uai(machine: Machine, constant: float, _path: Path) -> bytes:
    """Return the bytes of a UAI file."""
    factors = list(_factors(machine, constant))
    lines = ["MARKOV", str(machine.n_units), " ".join(["2"] * machine.n_units), str(len(factors))]
    lines += [" ".join(map(str, (len(scope), *scope))) for scope, _ in factors]
    lines += [f"{len(values)} {' '.join(map(repr, values))}" for _, values in factors]
    return ("\n".join(lines) + "\n").encode()


def _factors(machine: Machine, constant: float) -> Iterator[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Yield the scopes and values of factors whose product is exp(z'Jz + b'z + constant)."""
    if isinstance(machine, BipartiteMachine):
        b = np.concatenate((machine.b_left, machine.b_right))
        ends, J = entries(machine.W)
        ends = ends + np.array([0, machine.n_left])
    else:
        b, (ends, J) = machine.b, entries(machine.J)
    for value in _exponentials(constant):
        yield (0,), (value, value)
    for unit, bias in enumerate(b.tolist()):
        for value in _exponentials(bias):
            yield (unit,), (1.0, value)
    for (i, j), coupling in zip(ends.tolist(), J.tolist(), strict=True):
        for value in _exponentials(coupling):
            yield (i, j), (1.0, 1.0, 1.0, value)


def _exponentials(parameter: float) -> list[float]:
    """Return finite positive numbers whose product is exp(parameter); DataError if there would be too many."""
    n = math.ceil(abs(parameter) / LARGEST_EXPONENT)
    if n > MOST_FACTORS:
        raise DataError(f"a parameter of {parameter:.3g} nats cannot be written as factors; choose another format")
    return [math.exp(parameter / n) for _ in range(n)]


SUFFIXES: dict[str, Callable[[Machine, float, Path], bytes]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".mat": _mat,
    ".uai": _uai,
}
