"""Whether HDF5 can read texts of a file: its library runs for ever on some damaged collections of them.

Texts of variable length lie in global heap collections (*HDF5 File Format Specification*, III.E): `GCOL`, the
version 1, three bytes, the collection's length, and objects of number, count, four bytes, length and content.  The
object 0 is what is left of the collection; where it has the length 0 the library (1.14) never gets past it.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO

SIGNATURE, HEADER, OBJECT = b"GCOL\1", 16, 16


def are_sound(file: BinaryIO) -> bool:
    """Say whether everything in a file that the library would take for a global heap collection is one.

    It refuses another version, and a collection longer than the file, by itself.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(SIGNATURE)
        while place >= 0:
            if not _is_collection(content, place):
                return False
            place = content.find(SIGNATURE, place + len(SIGNATURE))
    return True


def _is_collection(content: mmap.mmap, start: int) -> bool:
    """Say whether the objects of a collection that begins at a place fill it, or the library refuses it."""
    if start + HEADER > len(content):
        return True
    (length,) = struct.unpack_from("<Q", content, start + 8)
    if length > len(content) - start:
        return True
    place = HEADER
    while place + OBJECT <= length:
        number, _, _, size = struct.unpack_from("<2HIQ", content, start + place)
        if number == 0:
            return bool(size == length - place)
        place += OBJECT + size + -size % 8
    return bool(place <= length)
