"""Files that are written whole or not at all: aside, synced to the disk, then renamed. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def write(path: Path, raw: bytes) -> None:
    """Write a file; whoever reads it meanwhile, or after a crash, sees the old one or the new one.

    Args:
        path: The file; its folder exists.
        raw: What it shall hold.

    Raises:
        OSError: If it cannot be written; the old file is untouched.
    """
    aside = _aside(path)
    try:
        _write_synced(aside, raw)
        aside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8, as ``write`` does."""
    write(path, text.encode("utf-8"))


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; it appears under its name once all of them are on the disk.

    Args:
        path: The folder; one that is there already is replaced. Its parents are made.
        files: What each file holds by its name; they are written in this order.

    Raises:
        OSError: If it cannot be written; nothing is left of it.
    """
    aside = _aside(path)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, raw in files.items():
            _write_synced(aside / name, raw)
        _sync(aside)
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _sync(path.parent)


def is_aside(path: Path) -> bool:
    """Return whether a path is what a writer that died left aside."""
    return path.suffix == ".tmp"


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _write_synced(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk: without it a renamed file may be gone after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
