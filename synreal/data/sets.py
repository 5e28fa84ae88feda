"""What every data set gives the rest of the library, by task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synreal.errors import DataError

IGNORE = 255
"""Label of the pixels of a mask that count nowhere: neither in a loss nor in a measure."""


class ImageSet(Protocol):
    """What every set of images tells of itself.

    Attributes:
        name: Name of the set, e.g. ``"mnist"``.
        split: Which part of it, e.g. ``"train"``.
        classes: Class names; a label is an index into them.
        fingerprint: SHA-256 over images and labels, written into every result.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image, without decoding it."""
        ...


class LabelledImages(ImageSet, Protocol):
    """Images with one class each: what the classification task reads.

    Attributes:
        labels: The classes of all images, int64 (N,).
    """

    labels: Tensor

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image (uint8, (3, H, W), RGB) and its label."""
        ...


class SegmentedImages(ImageSet, Protocol):
    """Images with a class a pixel, or ``IGNORE``: what the segmentation task reads."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one image (uint8, (3, H, W), RGB) and its mask (uint8, (H, W))."""
        ...


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one image.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels from the upper left corner, half-open (``x1 - x0`` is the width):
            float32, (M, 4); M may be 0.
        labels: Classes: int64, (M,).
        crowd: Whether a box stands for a group that nobody told apart (COCO's ``iscrowd``): bool, (M,).
        area: Pixels of the object's visible mask, or of the box where there is no mask: float32, (M,).
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    area: Tensor


class BoxedImages(ImageSet, Protocol):
    """Images with boxes around objects: what the detection task reads."""

    def __getitem__(self, index: int) -> tuple[Tensor, Boxes]:
        """Return one image (uint8, (3, H, W), RGB) and its objects."""
        ...


Images: TypeAlias = LabelledImages | SegmentedImages | BoxedImages


class ArrayImages(Dataset[tuple[Tensor, int]]):
    """Images of one size held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: uint8, (N, 3, H, W) RGB or (N, 1, H, W) grey; grey is repeated to three channels when read.
        labels: int64, (N,), in ``[0, len(classes))``.
        classes: Class names.

    Raises:
        DataError: If shapes, dtypes or labels do not fit, or the set is empty.
    """

    def __init__(self, name: str, split: str, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        where = f"{name} ({split})"
        _check_images(where, images, (3, 1))
        if labels.shape != images.shape[:1]:
            raise DataError(f"{where}: {len(images)} images but labels of shape {tuple(labels.shape)}.")
        check_classes(where, labels, classes)
        self.name = name
        self.split = split
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)
        self.fingerprint = _fingerprint((images, labels))

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.shape[2], self.images.shape[3]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].expand(3, -1, -1), int(self.labels[index])


class ArrayMasks(Dataset[tuple[Tensor, Tensor]]):
    """Images of one size with their masks, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: uint8, (N, 3, H, W), RGB.
        masks: uint8, (N, H, W), in ``[0, len(classes))`` or ``IGNORE``.
        classes: Class names, 255 at most.

    Raises:
        DataError: If shapes, dtypes or labels do not fit, or the set is empty.
    """

    def __init__(self, name: str, split: str, images: Tensor, masks: Tensor, classes: Sequence[str]) -> None:
        where = f"{name} ({split})"
        _check_images(where, images, (3,))
        shape = (len(images), *images.shape[2:])
        if masks.dtype != torch.uint8 or masks.shape != shape:
            raise DataError(f"{where}: expected uint8 masks of shape {shape}, got {masks.dtype} {tuple(masks.shape)}.")
        if len(classes) > IGNORE:
            raise DataError(f"{where}: {len(classes)} classes, but a mask can tell {IGNORE} apart.")
        check_classes(where, masks[masks != IGNORE], classes)
        self.name = name
        self.split = split
        self.images = images
        self.masks = masks
        self.classes = tuple(classes)
        self.fingerprint = _fingerprint((images, masks))

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.shape[2], self.images.shape[3]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.masks[index]


class ArrayBoxes(Dataset[tuple[Tensor, Boxes]]):
    """Images of one size with the boxes around their objects, held in memory.

    Args:
        name: Name of the set.
        split: Which part of it.
        images: uint8, (N, 3, H, W), RGB.
        boxes: The objects of each image, N of them; boxes lie inside the image and are not empty.
        classes: Class names.

    Raises:
        DataError: If shapes, dtypes, labels or boxes do not fit, or the set is empty.
    """

    def __init__(self, name: str, split: str, images: Tensor, boxes: Sequence[Boxes], classes: Sequence[str]) -> None:
        where = f"{name} ({split})"
        _check_images(where, images, (3,))
        if len(boxes) != len(images):
            raise DataError(f"{where}: {len(images)} images but the boxes of {len(boxes)}.")
        height, width = images.shape[2:]
        for index, objects in enumerate(boxes):
            check_boxes(f"{where}, image {index}", objects, width, height, classes)
        self.name = name
        self.split = split
        self.images = images
        self.boxes = tuple(boxes)
        self.classes = tuple(classes)
        self.fingerprint = _fingerprint((images, *_tensors(boxes)))

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        return self.images.shape[2], self.images.shape[3]

    def __getitem__(self, index: int) -> tuple[Tensor, Boxes]:
        return self.images[index], self.boxes[index]


def _check_images(where: str, images: Tensor, channels: tuple[int, ...]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in channels:
        raise DataError(
            f"{where}: expected uint8 images of shape (N, {' or '.join(map(str, channels))}, H, W), "
            f"got {images.dtype} {tuple(images.shape)}."
        )
    if len(images) == 0:
        raise DataError(f"{where} holds no image.")


def check_classes(where: str, labels: Tensor, classes: Sequence[str]) -> None:
    """Raise ``DataError`` unless labels stand for classes."""
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= len(classes)):
        raise DataError(
            f"{where}: labels span {int(labels.min())}..{int(labels.max())}, expected 0..{len(classes) - 1}."
        )


def check_boxes(where: str, objects: Boxes, width: int, height: int, classes: Sequence[str]) -> None:
    """Raise ``DataError`` unless the objects of an image fit together, and their boxes into the image."""
    count = len(objects.labels)
    expected = {
        "boxes": (objects.boxes, torch.float32, (count, 4)),
        "labels": (objects.labels, torch.int64, (count,)),
        "crowd": (objects.crowd, torch.bool, (count,)),
        "area": (objects.area, torch.float32, (count,)),
    }
    for field, (given, dtype, shape) in expected.items():
        if given.dtype != dtype or given.shape != shape:
            raise DataError(
                f"{where}: expected {field} as {dtype} of shape {shape}, got {given.dtype} {tuple(given.shape)}."
            )
    check_classes(where, objects.labels, classes)
    x0, y0, x1, y1 = objects.boxes.unbind(1)
    inside = (x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= width) & (y1 <= height)  # false for NaN
    if not inside.all():
        wrong = objects.boxes[~inside][0].tolist()
        raise DataError(
            f"{where}: the box {wrong} is empty or leaves the image, expected x0 < x1 within 0..{width} "
            f"and y0 < y1 within 0..{height}."
        )


def boxes_bytes(boxes: Sequence[Boxes]) -> bytes:
    """Return the objects of all images as bytes, for a fingerprint."""
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in _tensors(boxes))


def _tensors(boxes: Sequence[Boxes]) -> list[Tensor]:
    # Each image's tensors hold as many rows as its boxes, and the counts come first: no two sets run together.
    counts = torch.tensor([len(objects.boxes) for objects in boxes])
    return [counts, *(part for o in boxes for part in (o.boxes, o.labels, o.crowd, o.area))]


def _fingerprint(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
