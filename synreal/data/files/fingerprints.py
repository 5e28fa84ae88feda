"""What tells files from others of the same names: a sample of their bytes, or all of them. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synreal.data.files.paths import is_image
from synreal.data.files.threads import in_threads
from synreal.errors import DataError
from synreal.reading import open_file

if TYPE_CHECKING:
    from synreal.data.sets import ImageSet

WHOLE: Final = 64 * 1024
"""Image files of this many bytes at most are read whole: opening one costs more than that."""

STRIPES: Final = 16
STRIPE: Final = 4096  # bytes, a page of memory

_CHUNK: Final = 64  # files that a thread takes at a time
_THREADS: Final = 16  # they wait for the disk
_SETTLED: Final = 2_000_000_000  # nanoseconds after which another change of a file shows in its time
_MOST_KNOWN: Final = 64
_BLOCK: Final = 1 << 20

_KNOWN: dict[bytes, bytes] = {}  # what was read of some files, by their names, sizes, times and inodes


def fingerprint_files(root: Path, files: Iterable[str], labels: Iterable[bytes] = ()) -> str:
    """Return a SHA-256 over names, sizes and contents of files, in the order given, and over labels.

    Of an image file above ``WHOLE`` bytes, ``STRIPES`` stripes are read, spread evenly from its first byte to its
    last; every other file is read whole. In compressed images, a change of one pixel moves or changes what follows it,
    and a PNG ends with a checksum of all its pixels. Of raw pixels, a change higher than a fifteenth of the image meets
    a stripe; only hashes of everything, ``data.strict``, find a lower one.

    A file that cannot be opened counts as that: whoever decodes it decides what comes of it.

    Args:
        root: What the names are relative to.
        files: Relative names.
        labels: Anything more that decides what the set holds.

    Raises:
        DataError: If a file is missing.
        Interrupted: If the process was asked to stop.
    """
    digest = hashlib.sha256(_contents(root, list(files)))
    for part in labels:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _contents(root: Path, files: Sequence[str]) -> bytes:
    """Hash files, or find what was read of them before in this process."""
    start = os.path.join(root, "")
    chunks = [files[first : first + _CHUNK] for first in range(0, len(files), _CHUNK)]
    now, state, latest = time.time_ns(), hashlib.sha256(start.encode("utf-8", "surrogateescape")), 0
    for part, changed in in_threads(partial(_states, start), chunks, _THREADS):
        state.update(part)
        latest = max(latest, changed)
    key = state.digest()
    if key not in _KNOWN:
        digest = hashlib.sha256()
        for part in in_threads(partial(_samples, start), chunks, _THREADS):
            digest.update(part)
        if now - latest < _SETTLED:
            return digest.digest()
        while len(_KNOWN) >= _MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[key] = digest.digest()
    return _KNOWN[key]


def _states(start: str, names: Sequence[str]) -> tuple[bytes, int]:
    """Return what changes with each of some files, and when the last of them changed."""
    lines, latest = [], 0
    for name in names:
        try:
            found = os.stat(start + name)
        except OSError as error:
            if os.path.islink(start + name):  # one that leads nowhere is a file that cannot be opened
                lines.append(f"{name}\0-\n")
                continue
            raise DataError(f"{start}{name}: {error.strerror}.") from None
        latest = max(latest, found.st_mtime_ns, found.st_ctime_ns)
        lines.append(f"{name}\0{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev} {found.st_ino}\n")
    return "".join(lines).encode("utf-8", "surrogateescape"), latest


def _samples(start: str, names: Sequence[str]) -> bytes:
    return b"".join(_sample(start, name) for name in names)


def _sample(start: str, name: str) -> bytes:
    """Hash name, size and a sample of a file."""
    try:
        with open_file(start + name) as file:
            size = os.fstat(file.fileno()).st_size
            # Names on disk may not be UTF-8.
            digest = hashlib.sha256(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
            if size <= WHOLE or not is_image(name):
                digest.update(file.read())
            else:
                for number in range(STRIPES):
                    file.seek((size - STRIPE) * number // (STRIPES - 1))
                    digest.update(file.read(STRIPE))
    except OSError:
        return hashlib.sha256(f"{name}\0cannot be read\n".encode("utf-8", "surrogateescape")).digest()
    return digest.digest()


def hash_list(images: ImageSet[Any]) -> bytes | None:
    """Return the SHA-256 of each file that items of a set are read from, as ``sha256sum --check`` takes them.

    Args:
        images: The set. Its fingerprint holds what was read once, such as boxes, so that their files are no part of it.

    Returns:
        One line a file, with its name relative to the set's folder, in the order of the items; None if there is none.

    Raises:
        DataError: If a file cannot be read.
        Interrupted: If the process was asked to stop.
    """
    found = (os.fspath(file) for index in range(len(images)) for file in images.files_of(index))
    files = list(dict.fromkeys(found))
    lines = [
        _line(file if images.root is None else os.path.relpath(file, images.root), digest)
        for file, digest in zip(files, in_threads(_hash, files), strict=True)
    ]
    return b"".join(lines) or None


def _hash(file: str) -> str:
    digest = hashlib.sha256()
    try:
        with open_file(file) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}.") from None
    return digest.hexdigest()


def _line(name: str, digest: str) -> bytes:
    plain = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    # sha256sum marks a line with such characters by a backslash at its start.
    return f"{'' if plain == name else chr(92)}{digest}  {plain}\n".encode("utf-8", "surrogateescape")
