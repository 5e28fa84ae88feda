"""Files are read only where they are files: never a pipe, a device or a socket. Imports no torch."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_LONGEST_NAME: Final = 255  # bytes, of one part of a path; of nearly every file system
_LONGEST_PATH: Final = 4095


_POINTER: Final = b"version https://git-lfs"
LARGE_FILE: Final = "it is a pointer of Git LFS: fetch the files with git lfs pull"


class LargeFile(OSError):
    """A file is what Git writes in place of a large one; ``strerror`` says what to do."""


class NotAFile(OSError):
    """A path leads to a pipe, a device or a socket; ``strerror`` says to which."""


def open_file(path: str | Path) -> IO[bytes]:
    """Open a file to be read; what would block or act when it is opened is not opened.

    Raises:
        OSError: If it cannot be opened; ``NotAFile`` if it is a pipe, a device or a socket.
    """
    _check(os.stat(path), path)
    # What stands there may have changed since: a pipe does not block, and is looked at again.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path) -> bytes:
    """Read a file whole, as ``open_file`` opens it."""
    with open_file(path) as file:
        return file.read()


def read_text(path: str | Path) -> bytes:
    """Read a file of text whole, as ``open_file`` opens it.

    Raises:
        OSError: If it cannot be opened; ``LargeFile`` if Git has not fetched it.
    """
    raw = read_bytes(path)
    if raw.startswith(_POINTER):
        raise LargeFile(errno.EINVAL, LARGE_FILE, str(path))
    return raw


def check_file(path: str | Path) -> None:
    """Raise as ``open_file`` does, for what other libraries open by its name."""
    open_file(path).close()


def read_json(path: str | Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a file of JSON in UTF-8.

    Args:
        path: The file.
        hook: Called with each object, as ``json.loads`` calls its ``object_hook``.

    Raises:
        OSError: As ``open_file``.
        ValueError: If it is not JSON.
    """
    raw = read_text(path)
    try:
        return json.loads(raw, object_hook=hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def name_problem(path: str) -> str | None:
    """Say why a text cannot be the path of a file, to stand behind it; None if it can."""
    if "\0" in path:
        return "holds a NUL character"
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        return "cannot name a file: it is not Unicode text"
    if len(raw) > _LONGEST_PATH or max(map(len, raw.split(b"/"))) > _LONGEST_NAME:
        return f"is longer than the name of a file can be ({_LONGEST_NAME} bytes, {_LONGEST_PATH} with its folders)"
    return None


def is_text(name: str) -> bool:
    """Return whether a name can be written in UTF-8: JSON and names of files can hold halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _check(found: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        what = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
        raise NotAFile(errno.EINVAL, f"it is {what}, expected a file", str(path))
