"""A target with the classes of the source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from synreal.data.class_names import Alignment
from synreal.data.sets import ImageSet, Part
from synreal.errors import DataError

Label = TypeVar("Label")


def aligned(images: ImageSet[Label], classes: Sequence[str], alignment: Alignment) -> ImageSet[Label]:
    """Give a target the classes of the source.

    What becomes of labels of classes that the source does not have is up to their kind: images are left out, pixels
    are ignored, boxes are left out and the images stay.

    Args:
        images: Images with labels of the target.
        classes: The classes of the source.
        alignment: Of ``classes`` and ``images.classes``.

    Returns:
        Images with labels of the source; the same object where nothing changes.

    Raises:
        DataError: If no image is left.
    """
    if tuple(classes) == images.classes:
        return images
    kind, table = images.label_kind, alignment.table
    if not kind.leaves_out:
        return _Aligned(images, range(len(images)), classes, table)
    given = (
        [item for _, item in map(images.__getitem__, range(len(images)))] if images.labels is None else images.labels
    )
    mapped = [kind.realign(label, table) for label in given]
    kept = [index for index, label in enumerate(mapped) if label is not None]
    if not kept:
        raise DataError(f"{images.name} ({images.split}) has no image of any of the source's classes.")
    moved = _Aligned(images, kept, classes, table)
    moved.labels = [label for label in mapped if label is not None]
    if len(kept) < len(images):
        moved.dropped["images of classes that the source does not have"] = len(images) - len(kept)
    return moved


class _Aligned(Part[Label]):
    def __init__(
        self, images: ImageSet[Label], kept: Sequence[int], classes: Sequence[str], table: tuple[int | None, ...]
    ) -> None:
        super().__init__(images, kept)
        self.labels = None
        self.classes = tuple(classes)
        self.table = table
        self.fingerprint = hashlib.sha256(f"{images.fingerprint} {self.classes} {table}".encode()).hexdigest()

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        image, label = super().__getitem__(index)
        moved = self.label_kind.realign(label, self.table)
        if moved is None:
            raise DataError(f"{self.name} ({self.split}): image {index} has no label with the classes of the source.")
        return image, moved
