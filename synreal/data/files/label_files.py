"""Reading many label files, of which some may be damaged. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar

from synreal.errors import DataError

UNREADABLE: Final = "label files that cannot be read left out"
"""What those are called that were left out."""

Key = TypeVar("Key", bound=Hashable)
Read = TypeVar("Read")


def read_each(keys: Iterable[Key], read: Callable[[Key], Read], *, skip: bool) -> tuple[dict[Key, Read], int]:
    """Read label files.

    Args:
        keys: What each stands for, e.g. its path or its image.
        read: How one is read; raises ``DataError`` if it is damaged.
        skip: Whether damaged ones are left out.

    Returns:
        What was read, by key, in order; and how many were left out.

    Raises:
        DataError: If one is damaged and ``skip`` is false, or if all are.
    """
    found: dict[Key, Read] = {}
    lost: list[DataError] = []
    for key in keys:
        try:
            found[key] = read(key)
        except DataError as error:
            if not skip:
                raise DataError(f"{error} on_bad_image: skip leaves such files out and counts them.") from None
            lost.append(error)
    if lost and not found:
        raise lost[0] if len(lost) == 1 else DataError(f"None of {len(lost)} label files can be read, e.g. {lost[0]}")
    return found, len(lost)


def readable(keys: Iterable[Key], read: Callable[[Key], Read]) -> Iterable[Read]:
    """Read label files for the names in them alone: who reads them for their labels tells of damaged ones."""
    return read_each(keys, read, skip=True)[0].values()
