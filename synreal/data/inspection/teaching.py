"""Whether a part can teach anything: what ``synreal data check`` says of it, and what ends a run before it trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from synreal.data.files.paths import some
from synreal.data.inspection.scan import scan
from synreal.data.inspection.store import Store
from synreal.data.labels.base import Counts
from synreal.data.sets import ImageSet
from synreal.errors import ConfigError, DataError

_LOOKED_AT: Final = 64  # items, spread over a part, that are read before everything is


def check_teaches(images: ImageSet[Any], *, cache: str | Path | None = None) -> None:
    """Refuse a part from which nothing can be learnt.

    Labels are looked at until they suffice, which is after one item or two of nearly all data.

    Args:
        images: What will be trained on.
        cache: Folder of what is kept when everything had to be read; default ``cache_folder()``.

    Raises:
        DataError: If it can teach nothing; says why, and what was left out while it was read.
    """
    kind, total = images.label_kind, _nothing(images)
    if kind.teaches(total) is None:  # a kind that never says so
        return
    for label in _labels(images):
        total = _sum(total, kind.count(label, len(images.classes)))
        if kind.teaches(total) is None:
            return
    if images.labels is None:
        total = scan(images, Store(cache)).counts
    if (why := nothing_taught(images, total)) is not None:
        raise DataError(why)


def nothing_taught(images: ImageSet[Any], counts: Counts) -> str | None:
    """Say why a part can teach nothing, in sentences; None if it can.

    Args:
        images: The part.
        counts: Sums over all its labels.
    """
    why = images.label_kind.teaches(counts)
    if why is None:
        return None
    shown = [name for name, number in zip(images.classes, counts.labels, strict=True) if number]
    left_out = ", ".join(f"{number} {what.removesuffix(' left out')}" for what, number in images.dropped.items())
    return (
        f"{images.name} ({images.split}) can teach nothing: {why}. Classes found: {some(shown, 12) or 'none'}."
        f"{f' Left out while it was read: {left_out}.' if left_out else ''}"
    )


def _labels(images: ImageSet[Any]) -> Iterator[Any]:
    """Yield all labels where they are known, else those of some items; none of an item that cannot be read."""
    if images.labels is not None:
        yield from images.labels
        return
    for index in np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(np.int64)).tolist():
        try:
            _, label = images[index]
        except ConfigError:
            raise
        except Exception:  # that is told when it is its turn
            continue
        yield label


def _nothing(images: ImageSet[Any]) -> Counts:
    return Counts(np.zeros(len(images.classes), np.int64))


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(one.labels + other.labels, one.ignored + other.ignored, one.small + other.small)
