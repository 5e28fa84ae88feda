"""Finding the files of a data set, and never one outside its folder. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from synreal.errors import DataError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
"""File endings that a scan of a folder takes for images, in lower case."""

_LITTER = {"thumbs.db", "desktop.ini", ".ds_store", "__macosx"}


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is what Windows, macOS or an editor leaves behind."""
    return name.startswith(".") or name.lower() in _LITTER


def is_image(name: str) -> bool:
    """Tell whether a file name is one of an image that is read."""
    return not is_litter(name) and name.lower().endswith(SUFFIXES)


def inside(root: Path, relative: str, where: str) -> Path:
    r"""Join a path that a file gave to the folder that it must not leave.

    Args:
        root: The folder.
        relative: What was read, with ``/`` or ``\`` between folders.
        where: Which file and line or key gave it, for the message.

    Raises:
        DataError: If the path is absolute, holds a NUL, or leads out of the folder, also through a symbolic link.
    """
    if "\0" in relative:
        raise DataError(f"{where}: the path {relative!r} holds a NUL character.")
    # Exports from Windows write backslashes; no data set has file names with them.
    plain = relative.replace("\\", "/")
    path = root / plain
    base = os.path.realpath(root)
    if not plain or os.path.commonpath([base, os.path.realpath(path)]) != base:
        raise DataError(
            f"{where}: the path {relative!r} leads out of {root}. Paths are relative to that folder and stay in it; "
            "give a root that holds all files."
        )
    return path


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Read a list file: UTF-8, with or without a byte order mark, any line ends; blank lines do not count.

    Returns:
        Line numbers, from 1, and lines without white space around them.

    Raises:
        DataError: If the file is missing, not UTF-8, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}. Save it as UTF-8."
        ) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path} lists nothing.")
    return lines


def without_duplicates(rows: Sequence[tuple[int, str]], path: Path) -> list[tuple[int, str]]:
    """Drop lines that stand twice in a list file, with a warning that counts them."""
    first: dict[str, int] = {}
    for number, line in rows:
        first.setdefault(line, number)
    if len(first) < len(rows):
        again = next((number, line) for number, line in rows if first[line] != number)
        warnings.warn(
            f"{path} lists {len(rows) - len(first)} lines twice, e.g. line {again[0]}: {again[1]!r}. "
            "They are read once.",
            stacklevel=2,
        )
    return [(number, line) for line, number in first.items()]


def scan_images(folder: Path) -> list[str]:
    """List the images below a folder.

    Returns:
        Paths relative to the folder, with ``/`` between folders, sorted; without what systems leave behind.
    """
    found: list[str] = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        base = Path(parent).relative_to(folder).as_posix()
        found += [name if base == "." else f"{base}/{name}" for name in files if is_image(name)]
    return sorted(found)


def subfolders(folder: Path) -> list[str]:
    """List the folders directly in a folder, sorted; without what systems leave behind."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_litter(entry.name))


def find_tree(root: Path, wanted: Sequence[str], what: str, archives: Mapping[str, str] | None = None) -> Path:
    """Find the folder that holds the parts of a data set: the root itself or, after a careless unzip, one below.

    Args:
        root: Where the user says the data are.
        wanted: Paths that must exist in it.
        what: Name of the data set, for messages.
        archives: Which archive brings which path, for messages.

    Returns:
        The folder.

    Raises:
        DataError: If there is no such folder; says what was found, what was expected, and which archive brings it.
    """
    if not root.is_dir():
        raise DataError(f"{what}: {root} {'is a file' if root.exists() else 'does not exist'}, expected a folder.")
    candidates = [root, *(root / name for name in subfolders(root))]
    for folder in candidates:
        if all((folder / part).exists() for part in wanted):
            return folder
    nearest = max(candidates, key=lambda folder: sum((folder / part).exists() for part in wanted))
    missing = [part for part in wanted if not (nearest / part).exists()]
    here = ", ".join(sorted(entry.name for entry in os.scandir(nearest) if not is_litter(entry.name))[:12])
    fetch = "".join(f" {part} comes with {archives[part]}." for part in missing if archives and part in archives)
    raise DataError(
        f"{what}: {nearest} lacks {', '.join(missing)} (expected {', '.join(wanted)}; "
        f"found {here or 'nothing'}).{fetch}"
    )


def fingerprint_files(root: Path, files: Iterable[str], labels: Iterable[bytes] = ()) -> str:
    """Return the SHA-256 over names and sizes of files, in the order given, and over labels.

    Contents of images are not read: that takes minutes where this takes a second, and ``synreal data check`` does it.

    Args:
        root: What the names are relative to.
        files: Relative names.
        labels: Anything more that decides what the set holds.

    Raises:
        DataError: If a file is missing.
    """
    digest = hashlib.sha256()
    for name in files:
        try:
            size = (root / name).stat().st_size
        except OSError as error:
            raise DataError(f"{root / name}: {error.strerror}.") from None
        digest.update(f"{name}\0{size}\n".encode())
    for part in labels:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def hold_out(names: Sequence[str], number: int) -> Iterator[bool]:
    """Choose the images of a source that are tested on instead of trained on.

    The choice goes by a hash of each name: it does not depend on the order or on a seed, and another image more or
    less moves few others.

    Args:
        names: One name an image.
        number: How many are held out.

    Yields:
        For each name whether it is held out.
    """
    ranks = [hashlib.sha256(name.encode()).digest() for name in names]
    limit = sorted(ranks)[min(number, len(ranks)) - 1] if number > 0 and ranks else b""
    for rank in ranks:
        yield rank <= limit
