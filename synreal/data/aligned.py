"""A target with the classes of the source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synreal.data.class_names import Alignment
from synreal.data.sets import IGNORE, Boxes, Images
from synreal.errors import DataError

ImagesType = TypeVar("ImagesType", bound=Images)


def aligned(images: ImagesType, classes: Sequence[str], alignment: Alignment) -> ImagesType:
    """Give a target the classes of the source.

    Images of classes that the source does not have are left out in classification; their pixels become ``IGNORE`` in
    segmentation; their boxes are left out in detection, and the images stay.

    Args:
        images: Images with labels of the target.
        classes: The classes of the source.
        alignment: Of ``classes`` and ``images.classes``.

    Returns:
        Images with labels of the source; the same object where nothing changes.

    Raises:
        DataError: If no image is left.
    """
    if tuple(classes) == tuple(images.classes):
        return images
    # It stands for the set in everything that tasks ask for.
    return cast(ImagesType, _Aligned(images, tuple(classes), alignment.table))


class _Aligned(Dataset[tuple[Tensor, Any]]):
    def __init__(self, images: Any, classes: tuple[str, ...], table: tuple[int | None, ...]) -> None:
        self.images = images
        self.classes = classes
        self.name: str = images.name
        self.split: str = images.split
        self.dropped: dict[str, int] = dict(getattr(images, "dropped", {}))
        self.table = torch.tensor([-1 if number is None else number for number in table])
        # A mask has 255 classes at most.
        self.pixels = torch.full((max(256, len(table)),), IGNORE, dtype=torch.uint8)
        self.pixels[: len(table)] = torch.where(self.table < 0, IGNORE, self.table).to(torch.uint8)
        self.fingerprint = hashlib.sha256(f"{images.fingerprint} {classes} {table}".encode()).hexdigest()
        self.kept = torch.arange(len(images))
        labels = getattr(images, "labels", None)
        if labels is not None:
            mapped = self.table[labels]
            self.kept = (mapped >= 0).nonzero().flatten()
            self.labels = mapped[self.kept]
            if len(self.kept) < len(mapped):
                self.dropped["images of classes that the source does not have"] = len(mapped) - len(self.kept)
            if not len(self.kept):
                raise DataError(f"{self.name} ({self.split}) holds no image of a class of the source.")

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.images[int(self.kept[index])]
        return image, self._mapped(label)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        found: tuple[int, int] = self.images.size(int(self.kept[index]))
        return found

    def _mapped(self, label: Any) -> Any:
        if isinstance(label, Boxes):
            labels = self.table[label.labels]
            kept = labels >= 0
            return replace(
                label, boxes=label.boxes[kept], labels=labels[kept], crowd=label.crowd[kept], area=label.area[kept]
            )
        if isinstance(label, Tensor):
            return self.pixels[label.long()]
        return int(self.table[label])
