"""Whole numbers from MATLAB's files of version 5. SciPy's reader ends the process where a file is damaged.

A file is a header and elements; an element is a tag, its type and its length, and data up to the next multiple of 8
bytes. A variable is an element of elements, and may be compressed as a whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from synreal.reading import read_bytes

_HEADER: Final = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC: Final = range(6, 16)  # classes of arrays: double, single, and integers of 8 to 64 bits
_MOST_BYTES: Final = 1 << 24  # of one variable


def read_numbers(path: Path, name: str) -> NDArray[np.generic]:
    """Read a variable that is an array of numbers.

    Args:
        path: The file.
        name: The variable.

    Returns:
        Its values one after the other, of the type that they are stored in.

    Raises:
        OSError: If the file cannot be read.
        KeyError: If it has no such variable.
        ValueError: If it is damaged, of another version, or the variable is no array of numbers.
    """
    raw = read_bytes(path)
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128])
    if order is None or struct.unpack(f"{order}H", raw[124:126])[0] >> 8 != 1:
        raise ValueError("it has not the header of version 5")
    for kind, data in _elements(raw[_HEADER:], order):
        if kind == _COMPRESSED:
            ((kind, data),) = _elements(_unpacked(data), order)
        if kind == _MATRIX and (found := _array(data, order, name)) is not None:
            return found
    raise KeyError(name)


def _array(raw: bytes, order: str, name: str) -> NDArray[np.generic] | None:
    """Read the real part of a variable; None if it is another one."""
    parts = list(_elements(raw, order))
    if len(parts) < 3 or parts[2][1].decode("latin-1") != name:
        return None
    flags = np.frombuffer(parts[0][1][:4], f"{order}u4")
    if len(flags) != 1 or int(flags[0]) & 255 not in _NUMERIC or len(parts) < 4 or parts[3][0] not in _TYPES:
        raise ValueError(f"{name} is no array of numbers")
    return np.frombuffer(parts[3][1], f"{order}{_TYPES[parts[3][0]]}")


def _elements(raw: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Give type and data of each element."""
    at = 0
    while at + 8 <= len(raw):
        kind, length = struct.unpack_from(f"{order}II", raw, at)
        start = at + 8
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + length
        if end > (len(raw) if start == at + 8 else at + 8):
            raise ValueError("it is cut off, or damaged")
        yield kind, raw[start:end]
        at = end if kind == _COMPRESSED else -(-end // 8) * 8


def _unpacked(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"a variable cannot be unpacked: {error}") from None
    if not stream.eof:
        raise ValueError("a variable is cut off, or too large")
    return found
