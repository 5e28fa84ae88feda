"""Image files whose contents are the same, byte by byte."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from synreal.data.files.threads import in_threads
from synreal.data.inspection.store import Kept, Store, state_of
from synreal.data.sets import ImageSet
from synreal.reading import open_file, read_bytes

_CHUNK: Final = 16  # images that a thread takes at a time
_TAIL: Final = 4096  # bytes at the end of files that tell most of one size apart


class _Pairs(Kept):
    pairs: list[tuple[int, int]]


def duplicates(
    first: ImageSet[Any], second: ImageSet[Any], *, cache: str | Path | None = None, fresh: bool = False
) -> list[tuple[str, str]]:
    """Find the files of two sets whose contents are the same, byte by byte.

    Files of one size are compared by their ends, and those that agree there by a hash of everything.

    Args:
        first: A set of images; one that lies in no files shares none.
        second: Another.
        cache: Folder of what is kept; default ``cache_folder()``.
        fresh: Whether to compare again what was compared before.

    Returns:
        Pairs of paths, one for each image of ``second`` that is in ``first``.
    """
    mine, theirs = paths_of(first), paths_of(second)
    if not mine or not theirs:
        return []
    pairs = Store(cache, fresh).keep(
        f"{state_of(first)} {state_of(second)} duplicates", _Pairs, lambda: _Pairs(pairs=same(mine, theirs))
    )
    return [(str(mine[one]), str(theirs[other])) for one, other in pairs.pairs]


def paths_of(images: ImageSet[Any]) -> list[Path]:
    """Return the image files of a set; none of one of whose images some lie in no file."""
    paths = [images.path(index) for index in range(len(images))]
    found = [path for path in paths if path is not None]
    return found if len(found) == len(paths) else []


def same(first: Sequence[Path], second: Sequence[Path] | None) -> list[tuple[int, int]]:
    """Find files of one content: in two lists, or twice in one if there is no second.

    Returns:
        Pairs of indices, in the order of the second; of several in the first the earliest.
    """
    files = [*first, *(second or ())]
    groups = [list(range(len(files)))]
    for key in (_file_size, _end, _content):
        left = [group for group in groups if _spans(group, len(first), second is None)]
        flat = [index for group in left for index in group]
        chunks = [flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK)]
        keys = itertools.chain.from_iterable(in_threads(partial(_keys, files, key), chunks, None))
        groups = []
        for group in left:
            parts: dict[object, list[int]] = defaultdict(list)
            for index, found in zip(group, keys, strict=False):  # the keys go on with the next group
                if found is not None:
                    parts[found].append(index)
            groups += parts.values()
    pairs = []
    for group in groups:
        if _spans(group, len(first), second is None):
            others = group[1:] if second is None else [i - len(first) for i in group if i >= len(first)]
            pairs += [(group[0], other) for other in others]
    return sorted(pairs, key=lambda pair: pair[1])


def _spans(group: Sequence[int], border: int, alone: bool) -> bool:
    """Tell whether a group holds a pair that is looked for."""
    return len(group) > 1 and (alone or group[0] < border <= group[-1])


def _keys(files: Sequence[Path], key: Callable[[Path], object], chunk: Sequence[int]) -> list[object]:
    return [key(files[index]) for index in chunk]


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size or None  # files without content tell nothing by being alike
    except OSError:
        return None


def _end(path: Path) -> bytes | None:
    try:
        with open_file(path) as file:
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return None


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(read_bytes(path)).digest()
    except OSError:
        return None
