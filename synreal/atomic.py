"""Files that are written whole or not at all: aside, synced to the disk, then renamed. Imports no torch.

An error says which file it was: what the system says of a full disk names none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def write(path: Path, raw: bytes) -> None:
    """Write a file; whoever reads it meanwhile, or after a crash, sees the old one or the new one.

    Args:
        path: The file; its folder exists.
        raw: What it shall hold.

    Raises:
        OSError: If it cannot be written; the old file is untouched.
    """
    aside = _aside(path)
    with _naming(path):
        try:
            _write_synced(aside, raw)
            os.replace(aside, path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8, as ``write`` does."""
    write(path, text.encode("utf-8"))


def append_line(path: Path, text: str) -> None:
    """Add a line to a file of text, whole or not at all; ``sync`` brings it to the disk.

    Args:
        path: The file; it is made if it is not there. Its folder exists.
        text: The line without its end.

    Raises:
        OSError: If it cannot be written; what the file held before is untouched.
    """
    with _naming(path):
        descriptor = os.open(path, _FLAGS | os.O_APPEND, 0o666)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, text.encode("utf-8") + b"\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def sync(path: Path) -> None:
    """Bring a file to the disk that was added to, if it is there.

    Raises:
        OSError: If that fails.
    """
    with _naming(path):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; it appears under its name once all of them are on the disk.

    Args:
        path: The folder; one that is there already is replaced. Its parents are made.
        files: What each file holds by its name; they are written in this order.

    Raises:
        OSError: If it cannot be written; nothing is left of it, and one that was there already stays.
    """
    aside, earlier = _aside(path), _aside(path.with_name(path.name + ".old"))
    with _naming(path):
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            for name, raw in files.items():
                _write_synced(aside / name, raw)
            _sync(aside)
            shutil.rmtree(earlier, ignore_errors=True)
            if path.exists():
                os.rename(path, earlier)
            try:
                os.rename(aside, path)
            except OSError:
                if earlier.exists():
                    os.rename(earlier, path)
                raise
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _sync(path.parent)
        shutil.rmtree(earlier, ignore_errors=True)


def is_aside(path: Path) -> bool:
    """Return whether a path is what a writer that died left aside."""
    return path.suffix == ".tmp"


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _write_synced(path: Path, raw: bytes) -> None:
    descriptor = os.open(path, _FLAGS | os.O_TRUNC, 0o666)
    try:
        _write_all(descriptor, raw)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, raw: bytes) -> None:
    left = memoryview(raw)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk: without it a renamed file may be gone after a power cut."""
    if os.name == "nt":  # its folders cannot be opened, and renaming is synced with the file
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
