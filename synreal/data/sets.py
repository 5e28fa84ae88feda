"""What every data set gives the rest of the library, whatever its kind of label; sets in memory; parts of sets."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import TypeVar

from synreal.data.labels.base import LabelKind
from synreal.data.labels.boxes import Boxes, Objects
from synreal.data.labels.classes import Classes
from synreal.data.labels.masks import Masks
from synreal.data.limits import MAX_PIXELS
from synreal.errors import DataError

Label = TypeVar("Label", default=Any)


def evenly(images: int, most: int) -> list[int]:
    """Return the indices of so many of some images at most, spread evenly: they are often ordered by class or drive."""
    few = min(most, images)
    return [place * images // few for place in range(few)]


class ImageSet(Dataset[tuple[Tensor, Label]], Generic[Label], ABC):
    """Images with a label each, and what every such set tells of itself.

    What a set does not say is that of a set in memory.

    Attributes:
        name: Name of the set, e.g. ``"mnist"``.
        split: Which part of it, e.g. ``"train"``.
        classes: Class names.
        fingerprint: SHA-256 over images and labels, written into every result.
        label_kind: The kind of its labels.
        labels: All labels, where they are known without reading an item; else None.
        dropped: What was left out while it was read, in words, and how often.
        root: The folder that its files lie in; None if it lies in none.
        max_pixels: Image files with more are refused before they are decoded.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    fingerprint: str
    label_kind: LabelKind[Label]
    labels: Sequence[Label] | Tensor | None = None
    dropped: Mapping[str, int] = MappingProxyType({})
    root: Path | None = None
    max_pixels: int = MAX_PIXELS

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        """Return one image (uint8, (3, H, W), RGB) and its label."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image, without decoding it."""

    def path(self, index: int) -> Path | None:
        """Return the file of an image; None if it lies in none."""
        return None

    def label_path(self, index: int) -> Path | None:
        """Return the file that holds the label of an image and of no other; None if there is none."""
        return None

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Return the files that are opened each time an item is read."""
        return tuple(file for file in (self.path(index), self.label_path(index)) if file is not None)

    def label_fault(self, index: int) -> str:
        """Name, in a few words, what keeps an item from being read whose image can be read."""
        return "bad label"

    def as_stored(self) -> ImageSet[Label]:
        """Return the set as it is stored: without what is done to images because of ``on_size_mismatch``."""
        return self

    def subset(self, kept: Sequence[int], dropped: Mapping[str, int] | None = None) -> Part[Label]:
        """Return the set of some of the images.

        Args:
            kept: Their indices.
            dropped: What was left out in all; default as before.

        Raises:
            DataError: If no image is left.
        """
        return Part(self, kept, dropped)


LabelledImages: TypeAlias = ImageSet[int]
"""Images with one class each."""

SegmentedImages: TypeAlias = ImageSet[Tensor]
"""Images with masks, uint8 (H, W): a class per pixel, or ``IGNORE``."""

BoxedImages: TypeAlias = ImageSet[Boxes]
"""Images with boxes around objects."""


class Part(ImageSet[Label]):
    """Some of the images of a set, with a fingerprint of its own.

    Args:
        images: The set.
        kept: Indices of the images.
        dropped: What was left out in all; default what ``images`` says.

    Raises:
        DataError: If no image is left.
    """

    dropped: dict[str, int]

    def __init__(self, images: ImageSet[Label], kept: Sequence[int], dropped: Mapping[str, int] | None = None) -> None:
        if not len(kept):
            raise DataError(f"{images.name} ({images.split}): no image is left.")
        self.images = images
        self.kept = kept
        self.name = images.name
        self.split = images.split
        self.classes = images.classes
        self.label_kind = images.label_kind
        self.dropped = dict(images.dropped if dropped is None else dropped)
        self.root = images.root
        self.max_pixels = images.max_pixels
        self.labels = _some(images.labels, kept)
        chosen = np.asarray(kept, dtype=np.int64).tobytes()
        self.fingerprint = hashlib.sha256(images.fingerprint.encode() + chosen).hexdigest()

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        return self.images[self.kept[index]]

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.size(self.kept[index])

    def path(self, index: int) -> Path | None:
        """Return the file of an image."""
        return self.images.path(self.kept[index])

    def label_path(self, index: int) -> Path | None:
        """Return the file of a label."""
        return self.images.label_path(self.kept[index])

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Return the files of an item."""
        return self.images.files_of(self.kept[index])

    def label_fault(self, index: int) -> str:
        """Name what keeps an item from being read."""
        return self.images.label_fault(self.kept[index])

    def as_stored(self) -> ImageSet[Label]:
        """Return the same images as they are stored."""
        stored = copy.copy(self)
        stored.images = self.images.as_stored()
        return stored


def _some(labels: Sequence[Label] | Tensor | None, kept: Sequence[int]) -> Sequence[Label] | Tensor | None:
    if isinstance(labels, Tensor):
        return labels[torch.as_tensor(kept, dtype=torch.int64)]
    return None if labels is None else [labels[index] for index in kept]


class ArraySet(ImageSet[Label]):
    """Images of one size with their labels, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: uint8, (N, 3, H, W) RGB or (N, 1, H, W) grey; grey is repeated to three channels when read.
        labels: A label for each image, N of them.
        classes: Class names.
        label_kind: The kind of the labels.

    Raises:
        DataError: If shapes, dtypes or labels do not fit, or the set is empty.
    """

    labels: Sequence[Label] | Tensor

    def __init__(
        self,
        name: str,
        split: str,
        images: Tensor,
        labels: Sequence[Label] | Tensor,
        classes: Sequence[str],
        label_kind: LabelKind[Label],
    ) -> None:
        where = f"{name} ({split})"
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise DataError(
                f"{where}: expected uint8 images of shape (N, 3 or 1, H, W), got {images.dtype} {tuple(images.shape)}."
            )
        if len(images) == 0:
            raise DataError(f"{where} holds no image.")
        if len(labels) != len(images):
            raise DataError(f"{where}: {len(images)} images but {len(labels)} labels.")
        if (problem := label_kind.classes_problem(classes)) is not None:
            raise DataError(f"{where}: {problem}")
        height, width = images.shape[2:]
        for index, label in enumerate(labels):
            if (problem := label_kind.problem(label, (height, width), classes)) is not None:
                raise DataError(f"{where}, image {index}: {problem}")
        self.name = name
        self.split = split
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)
        self.label_kind = label_kind
        self.fingerprint = _fingerprint(images, labels, label_kind)

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.shape[2], self.images.shape[3]

    def __getitem__(self, index: int) -> tuple[Tensor, Label]:
        label: Any = self.labels[index]
        return self.images[index].expand(3, -1, -1), label


def _fingerprint(images: Tensor, labels: Sequence[Label] | Tensor, label_kind: LabelKind[Label]) -> str:
    digest = hashlib.sha256(images.contiguous().numpy().tobytes())
    for part in label_kind.digests(labels):
        digest.update(part)
    return digest.hexdigest()


class ArrayImages(ArraySet[int]):
    """Images of one size with one class each, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: As of ``ArraySet``.
        labels: int64, (N,), in ``[0, len(classes))``.
        classes: Class names.

    Raises:
        DataError: As ``ArraySet``.
    """

    labels: Tensor

    def __init__(self, name: str, split: str, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        if labels.ndim != 1:
            raise DataError(f"{name} ({split}): expected labels of shape (N,), got {tuple(labels.shape)}.")
        super().__init__(name, split, images, labels, classes, Classes())

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image, int(label)


class ArrayMasks(ArraySet[Tensor]):
    """Images of one size with their masks, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: As of ``ArraySet``.
        masks: uint8, (N, H, W), in ``[0, len(classes))`` or ``IGNORE``.
        classes: Class names, 255 at most.

    Raises:
        DataError: As ``ArraySet``.
    """

    def __init__(self, name: str, split: str, images: Tensor, masks: Tensor, classes: Sequence[str]) -> None:
        super().__init__(name, split, images, masks, classes, Masks())


class ArrayBoxes(ArraySet[Boxes]):
    """Images of one size with the boxes around their objects, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: As of ``ArraySet``.
        boxes: The objects of each image, N of them; boxes lie inside the image and are not empty.
        classes: Class names.

    Raises:
        DataError: As ``ArraySet``.
    """

    def __init__(self, name: str, split: str, images: Tensor, boxes: Sequence[Boxes], classes: Sequence[str]) -> None:
        super().__init__(name, split, images, tuple(boxes), classes, Objects())
