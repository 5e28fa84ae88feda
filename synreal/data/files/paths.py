"""Finding the files of a data set, and never one outside its folder. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from synreal.errors import DataError
from synreal.parsing import shortened
from synreal.reading import name_problem, read_text

SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".gif"),
)
"""File endings that a scan of a folder takes for images, in lower case."""

_NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga")  # photographs and renders in formats that are refused

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
        DataError: If the path is empty or absolute, cannot name a file, or leads out of the folder, also through a
            symbolic link.
    """
    return Inside(root)(relative, where)


class Inside:
    r"""``inside`` for many paths below one folder: each folder is followed to where it really lies only once.

    Args:
        root: The folder that no path may leave. It may itself be a symbolic link.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def __call__(self, relative: str, where: str) -> Path:
        """Join one path; arguments and errors are those of ``inside``."""
        return Path(self.check(relative, where))

    def check(self, relative: str, where: str) -> str:
        """Join one path as text, which is quicker."""
        # Exports from Windows write backslashes; no data set has file names with them.
        plain = relative.replace("\\", "/")
        self._check_name(plain, relative, where)
        joined = os.path.join(self.root, plain)
        folder, name = os.path.split(joined)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        if name in ("", ".", "..") or os.path.islink(real):
            real = os.path.realpath(real)
        up = ".." in plain.split("/")
        if real != self._base and not real.startswith(self._base.rstrip(os.sep) + os.sep):
            linked = "" if up else f" through a symbolic link to {real}"
            raise DataError(
                f"{where}: the path {relative!r} leads out of {self.root}{linked}. Paths stay in that folder; give a "
                "root that holds all files."
            )
        # "../parts/a.png" of a root "parts" is "a.png": labels are looked for by that name.
        return os.path.normpath(os.path.join(self.root, os.path.relpath(real, self._base))) if up else joined

    def _check_name(self, plain: str, relative: str, where: str) -> None:
        if not plain.strip():
            raise DataError(f"{where}: expected the path of a file, got {relative!r}.")
        if (problem := name_problem(os.path.join(self.root, plain))) is not None:
            raise DataError(f"{where}: the path {shortened(relative)!r} {problem}.")
        if plain.startswith("/") or re.match("[A-Za-z]:/", plain):
            raise DataError(f"{where}: the path {relative!r} is absolute, expected one relative to {self.root}.")


def read_lines(path: Path, *, empty: bool = False) -> list[tuple[int, str]]:
    """Read a list file: UTF-8, with or without a byte order mark, any line ends; blank lines do not count.

    Args:
        path: The file.
        empty: Whether the file may hold nothing.

    Returns:
        Line numbers, from 1, and lines without white space around them.

    Raises:
        DataError: If the file is missing or not UTF-8, or holds nothing where it must.
    """
    try:
        text = read_text(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(path, error)) from None
    # Not splitlines: it also ends lines at characters that file names may hold.
    rows = enumerate(re.split("\r\n|\r|\n", text), 1)
    lines = [(number, line.strip()) for number, line in rows if line.strip()]
    if not lines and not empty:
        raise DataError(f"{path} lists nothing.")
    return lines


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """Say that a file is in another encoding."""
    return f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}. Save it as UTF-8."


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
    """List the images below a folder; symbolic links are followed, but never in a circle.

    Returns:
        Paths relative to the folder, with ``/`` between folders, sorted; without what systems leave behind.

    Raises:
        DataError: If a folder cannot be read.

    Warns:
        UserWarning: If images lie there in formats that are not read; counts them.
    """
    found = _scan(folder, (*SUFFIXES, *_NOT_READ))
    other = [name for name in found if name.lower().endswith(_NOT_READ)]
    if other:
        warnings.warn(
            f"{folder}: {len(other)} images are in formats that are not read and left out, e.g. {some(other)}. Convert "
            "them to PNG or JPEG.",
            stacklevel=3,
        )
    return [name for name in found if not name.lower().endswith(_NOT_READ)]


def scan_files(folder: Path, suffix: str) -> list[str]:
    """List the files with an ending, e.g. ``".txt"``, below a folder, as ``scan_images`` does."""
    return _scan(folder, (suffix,))


def _scan(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return sorted(_walk(str(folder), "", suffixes, (os.path.realpath(folder),)))


def _walk(folder: str, before: str, suffixes: tuple[str, ...], above: tuple[str, ...]) -> Iterator[str]:
    for name, is_folder in _entries(folder):
        path = os.path.join(folder, name)
        if not is_folder:
            if name.lower().endswith(suffixes):
                yield before + name
        # A link to a folder above would be followed for ever.
        elif (real := os.path.realpath(path)) not in above:
            yield from _walk(path, f"{before}{name}/", suffixes, (*above, real))


def by_stem(files: Iterable[str], folder: Path) -> dict[str, str]:
    """Key files by their paths without ending, to match images and labels.

    Args:
        files: Paths relative to the folder.
        folder: For messages.

    Raises:
        DataError: If two files differ in nothing but their ending.
    """
    found: dict[str, str] = {}
    for file in files:
        other = found.setdefault(os.path.splitext(file)[0], file)
        if other != file:
            raise DataError(
                f"{folder} holds both {other} and {file}, and labels go by the name without ending. Remove one."
            )
    return found


def some(names: Sequence[str], most: int = 3) -> str:
    """Write the first of some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def missing(root: Path, files: Iterable[str]) -> list[str]:
    """Return those of some files, relative to a folder, that do not exist."""
    start = os.path.join(root, "")
    return [file for file in files if not os.path.isfile(start + file)]


def subfolders(folder: Path) -> list[str]:
    """List the folders directly in a folder, sorted; without what systems leave behind.

    Raises:
        DataError: If the folder cannot be read.
    """
    return [name for name, is_folder in _entries(folder) if is_folder]


def _entries(folder: str | Path) -> list[tuple[str, bool]]:
    try:
        return sorted((entry.name, entry.is_dir()) for entry in os.scandir(folder) if not is_litter(entry.name))
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}.") from None


def find_tree(
    root: Path, wanted: Sequence[str], what: str, archives: Mapping[str, str] | None = None, *, depth: int = 1
) -> Path:
    """Find the folder that holds the parts of a data set: the root itself or, after a careless unzip, one below.

    Args:
        root: Where the user says the data are.
        wanted: Paths that must exist in it.
        what: Name of the data set, for messages.
        archives: Which archive brings which path, for messages.
        depth: How many folders below the root are looked into.

    Returns:
        The folder.

    Raises:
        DataError: If there is no such folder (says what was found, what was expected, and which archive brings it),
            or more than one beside each other.
    """
    if not root.is_dir():
        raise DataError(f"{what}: {root} {'is a file' if root.exists() else 'does not exist'}, expected a folder.")
    level, seen = [root], [root]
    for below in range(depth + 1):
        fitting = [folder for folder in level if all((folder / part).exists() for part in wanted)]
        if len(fitting) > 1:
            raise DataError(
                f"{what}: {root} holds {some([str(folder.relative_to(root)) for folder in fitting])}, each with "
                f"{', '.join(wanted)}. Give one of them as root."
            )
        if fitting:
            return fitting[0]
        if below < depth:
            level = [folder / name for folder in level for name in subfolders(folder)]
            seen += level
    nearest = max(seen, key=lambda folder: sum((folder / part).exists() for part in wanted))
    lacking = [part for part in wanted if not (nearest / part).exists()]
    here = some([name for name, _ in _entries(nearest)], 12)
    fetch = "".join(f" {part} comes with {archives[part]}." for part in lacking if archives and part in archives)
    raise DataError(
        f"{what}: {nearest} lacks {', '.join(lacking)} (expected {', '.join(wanted)}; "
        f"found {here or 'nothing'}).{fetch}"
    )


def hold_out(names: Sequence[str], number: int) -> Iterator[bool]:
    """Choose the images of a source that are tested on instead of trained on.

    The choice goes by a hash of each name: it does not depend on the order or on a seed, and another image more or
    less moves one other at most. Images of one name stay together, which may then be more than ``number``.

    Args:
        names: One name per image.
        number: How many are held out; all of them if there are fewer.

    Yields:
        For each name whether it is held out.
    """
    ranks = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in names]
    limit = sorted(ranks)[min(number, len(ranks)) - 1] if number > 0 and ranks else b""
    for rank in ranks:
        yield rank <= limit
