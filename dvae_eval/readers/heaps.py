"""A check of the string storage of HDF5 files, because the HDF5 library never returns from some damaged ones.

Strings of variable length are stored in global heap collections (*HDF5 File Format Specification*, III.E):
`GCOL`, the version 1, three bytes, the collection's length, and objects with number, count, four bytes, length
and content.  Object 0 is the free space of the collection; if its length is 0, the library (1.14) loops forever.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO

SIGNATURE, HEADER, OBJECT = b"GCOL\1", 16, 16


def are_sound(file: BinaryIO) -> bool:
    """Return whether everything in a file that looks like a global heap collection is a valid one.

    The library itself refuses other versions, and collections longer than the file.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(SIGNATURE)
        while place >= 0:
            if not _is_collection(content, place):
                return False
            place = content.find(SIGNATURE, place + len(SIGNATURE))
    return True


def _is_collection(content: mmap.mmap, start: int) -> bool:
    """Return whether the objects of the collection at `start` fill it exactly, or the library refuses it."""
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
