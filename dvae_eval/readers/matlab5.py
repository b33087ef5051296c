"""A strict reader of MATLAB files of version 5 to 7: named matrices of numbers, full or sparse, and texts.

The layout is that of MathWorks, *MAT-File Format*, chapter 1.  Every length is checked against the available
bytes before it is used; `scipy.io.loadmat` does not check, and crashes the process on a file with a flipped bit.
The names of fields of structures and cells include those of their parents, with dots between: `rbm.W`,
`dbn.rbm.1.W`.  Objects are skipped.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvae_core.io import containers

from .arrays import Array
from .names import role
from .options import ReadConfig, Reading
from .sparse import Coordinates, each_once, from_compressed
from .tree import MAX_NAMES, read_tree

HEADER, NAME_BYTES = 128, 4096
MATRIX, COMPRESSED, INT8, INT32, UINT32, UTF8 = 14, 15, 1, 5, 6, 16
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CELL, STRUCT, CHAR, SPARSE, FULL = 1, 2, 4, 5, range(6, 16)
COMPLEX = 0x08
DEEPEST = 8
LONGEST_TEXT = 1000


def _complex(shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a placeholder for complex numbers that takes no memory; they are refused where they are used."""
    return np.broadcast_to(np.complex128(0), shape)


class _Header(NamedTuple):
    """The header of a matrix."""

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str


def is_mat(start: bytes) -> bool:
    """Return whether a file that begins with these bytes has a header of version 5 to 7."""
    return len(start) >= HEADER and start[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def read(path: Path, config: ReadConfig) -> Reading:
    """Return the machine of a MATLAB file."""
    with containers.hint("save W, b_left and b_right, or J and b, with -v7"):
        variables = read_variables(path)
    return read_tree(variables, config, "MATLAB 5")


class _Everything:
    """A container of all names."""

    def __contains__(self, _name: object) -> bool:
        return True


def read_variables(path: Path, wanted: Container[str] = _Everything()) -> dict[str, Array | str]:
    """Return the wanted variables, by default all, that are matrices of numbers or texts.

    Raises
    ------
    DataError
        If the file is missing or damaged, has a name twice, or unpacks to more than `containers.LIMIT_BYTES`.
    """
    with containers.reading(path, "MATLAB"):
        return _read(_content(path), wanted, containers.LIMIT_BYTES)


def _content(path: Path) -> bytes:
    """Return the bytes of a file, after a check of its size."""
    containers.check_size(path.stat().st_size, str(path))
    return path.read_bytes()


def _read(content: bytes, wanted: Container[str], limit: int) -> dict[str, Array | str]:
    """Return the wanted variables, which may unpack to at most `limit` bytes in total."""
    found: dict[str, Array | str] = {}
    for variable in _variables(content):
        header = variable.header()
        if header.name not in wanted or header.kind not in (CELL, STRUCT, CHAR, SPARSE, *FULL):
            continue
        elements = variable.elements(limit)
        limit -= len(elements.body)
        for name, value in elements.values(header.name):
            if name in found:
                raise ValueError(f'array "{name}" is there twice')
            if len(found) >= MAX_NAMES:
                raise ValueError(f"more than {MAX_NAMES} arrays")
            found[name] = value
    return found


def _variables(content: bytes) -> Iterator[_Variable]:
    """Yield the matrices of a file, in order."""
    if not is_mat(content):
        raise ValueError("the header is not that of a MATLAB file of version 5 to 7")
    order = "<" if content[126:128] == b"IM" else ">"
    place = HEADER
    while place < len(content):
        kind, length = struct.unpack_from(f"{order}2I", content, place)
        body = content[place + 8 : place + 8 + length]
        if len(body) != length:
            raise ValueError(f"a variable claims {length} bytes, but {len(body)} are left")
        place += 8 + length + (0 if kind == COMPRESSED else -length % 8)
        if kind in (MATRIX, COMPRESSED) and body:
            yield _Variable(body, kind == COMPRESSED, order)


class _Variable(NamedTuple):
    """A matrix as stored in the file."""

    body: bytes
    is_compressed: bool
    order: str

    def header(self) -> _Header:
        """Return the header, without unpacking more than that."""
        return self._opened(NAME_BYTES).header()

    def elements(self, limit: int) -> _Elements:
        """Return the elements of the matrix; ValueError if they take more than `limit` bytes."""
        elements = self._opened(limit)
        if len(elements.body) < elements.claimed:
            raise ValueError(
                f"a variable claims {elements.claimed} bytes; it is truncated, or exceeds the limit of {limit}"
            )
        return elements

    def _opened(self, most: int) -> _Elements:
        """Return the elements in the first `most` bytes."""
        if not self.is_compressed:
            return _Elements(self.body, self.order, len(self.body))
        unpacker = zlib.decompressobj()
        kind, length = struct.unpack(f"{self.order}2I", unpacker.decompress(self.body, 8))
        if kind != MATRIX:
            raise ValueError(f"a compressed variable has type {kind}, which is not a matrix")
        return _Elements(unpacker.decompress(unpacker.unconsumed_tail, min(length, most) or 1), self.order, length)


class _Elements:
    """The elements of a matrix, read in sequence."""

    def __init__(self, body: bytes, order: str, claimed: int) -> None:
        self.body, self.order, self.claimed, self.place = body, order, claimed, 0

    def next(self) -> tuple[int, bytes]:
        """Return the type and the bytes of the next element."""
        kind, length = struct.unpack_from(f"{self.order}2I", self.body, self.place)
        start = self.place + 8
        if kind >> 16:  # a short element packs its length, its type and up to four bytes
            kind, length, start = kind & 0xFFFF, kind >> 16, self.place + 4
            self.place += 8
        else:
            self.place = start + length + -length % 8
        content = self.body[start : start + length]
        if len(content) != length or (start == self.place - 4 and length > 4):
            raise ValueError(f"an element claims {length} bytes, but {len(content)} are left")
        return kind, content

    def header(self) -> _Header:
        """Return the header."""
        (flags_kind, flags), (shape_kind, shape), (name_kind, name) = self.next(), self.next(), self.next()
        if flags_kind != UINT32 or len(flags) != 8 or shape_kind != INT32 or name_kind not in (INT8, UTF8):
            raise ValueError("a variable does not begin with its flags, shape and name")
        (bits,) = struct.unpack_from(f"{self.order}I", flags)
        axes = tuple(np.frombuffer(shape, f"{self.order}i4").tolist())
        if len(axes) < 2 or min(axes) < 0:
            raise ValueError(f"a variable has the shape {axes[:8]}")
        return _Header(bits & 0xFF, bool(bits >> 8 & COMPLEX), axes, name.decode("utf-8"))

    def values(self, name: str, depth: int = 0) -> Iterator[tuple[str, Array | str]]:
        """Yield a matrix under its name, or the contents of a structure or cell under longer names."""
        header = self.header()
        if header.kind == SPARSE:
            yield name, self.sparse(header)
        elif header.kind == CHAR:
            if role(name.rpartition(".")[2]) == "kind":  # other texts do not determine the machine
                yield name, self.text()
        elif header.kind in FULL:
            yield name, self.full(header)
        elif header.kind in (CELL, STRUCT) and depth < DEEPEST:
            for inner in self._names(header):
                kind, body = self.next()
                if kind != MATRIX:
                    raise ValueError(f"an element of {name[:60]!r} is not a matrix")
                if body:
                    yield from _Elements(body, self.order, len(body)).values(f"{name}.{inner}", depth + 1)

    def text(self) -> str:
        """Return a text, which is stored as numbers or as UTF-8."""
        kind, content = self.next()
        if kind == UTF8:
            return content[:LONGEST_TEXT].decode("utf-8", "replace")
        if kind not in STORED:
            raise ValueError(f"an element of type {kind} is not a text")
        width = int(STORED[kind][1])
        letters = np.frombuffer(content[: len(content) // width * width], self.order + STORED[kind])
        return "".join(chr(int(letter)) for letter in letters[:LONGEST_TEXT] if 0 < letter < 0xD800)

    def _names(self, header: _Header) -> Iterator[str]:
        """Yield the names of the elements of a structure or cell; several elements are numbered from 1."""
        n = math.prod(header.shape)
        fields = [""]
        if header.kind == STRUCT:
            _, width = self.next()
            _, names = self.next()
            (length,) = struct.unpack(f"{self.order}i", width)
            if length < 1 or len(names) % length:
                raise ValueError(f"its fields have names of length {length}")
            parts = (names[i : i + length] for i in range(0, len(names), length))
            fields = [part.partition(b"\0")[0].decode("utf-8") for part in parts]
        if n * max(len(fields), 1) > len(self.body):
            raise ValueError(f"{n} elements in {len(self.body)} bytes")
        for number in range(1, n + 1):
            index = [str(number)] if n > 1 or header.kind == CELL else []
            yield from (".".join([*index, *([field] if field else [])]) for field in fields)

    def full(self, header: _Header) -> NDArray[Any]:
        """Return the numbers of a full matrix, which is stored column by column, in their stored dtype.

        MATLAB stores integers in as few bytes as possible, whatever the type of the matrix.
        """
        values = self._numbers()
        if values.size != math.prod(header.shape):
            raise ValueError(f'array "{header.name}" has {values.size} numbers, but its shape is {header.shape}')
        if header.is_complex:
            return _complex(header.shape)
        return np.ascontiguousarray(values.reshape(header.shape, order="F"))

    def sparse(self, header: _Header) -> Coordinates:
        """Return the entries of a sparse matrix, which is stored column by column."""
        row, start, value = self._numbers(), self._numbers(), self._numbers()
        if len(header.shape) != 2:
            raise ValueError(f'array "{header.name}" is not a valid sparse matrix')
        shape = header.shape[0], header.shape[1]
        n_entries = int(start[-1]) if start.size else 0  # MATLAB may allocate more entries than it uses
        found = from_compressed(header.name, shape, start, row[:n_entries], value[:n_entries])
        value = _complex(found.value.shape) if header.is_complex else found.value
        return each_once(header.name, found._replace(value=value))

    def _numbers(self) -> NDArray[Any]:
        """Return the numbers of the next element, in native byte order."""
        kind, content = self.next()
        if kind not in STORED or len(content) % int(STORED[kind][1]):
            raise ValueError(f"an element of type {kind} and {len(content)} bytes has no numbers")
        values = np.frombuffer(content, self.order + STORED[kind])
        return values.astype(values.dtype.newbyteorder("="))
