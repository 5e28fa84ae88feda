"""Images that lie in files, with what they are labelled for. Nothing is decoded before it is asked for."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F
from typing_extensions import Self

from synreal.data.files.decoding import MAX_PIXELS, Orientation, read_image, read_upright, size_of, turned
from synreal.data.files.paths import fingerprint_files, missing, some
from synreal.data.sets import IGNORE, Boxes, boxes_bytes, check_boxes, check_classes
from synreal.errors import DataError

Label = TypeVar("Label")


class SizeMismatch(DataError):
    """An image and its mask differ in size."""


class ImageFiles(Dataset[tuple[Tensor, Label]], Generic[Label], ABC):
    """What every set of image files shares.

    Args:
        name: Name of the set.
        split: Which part of it.
        root: The folder.
        files: The images, relative to the folder.
        classes: Class names.
        labels: Bytes that hold all labels, or names of label files, for the fingerprint.
        dropped: What was left out while labels were read, and how often.
        max_pixels: Larger images are refused before they are decoded.

    Raises:
        DataError: If the set is empty or a file is missing.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        classes: Sequence[str],
        *,
        labels: Sequence[bytes],
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not files:
            raise DataError(f"{name} ({split}) holds no image: nothing that fits was found in {root}.")
        self.name = name
        self.split = split
        self.root = root
        self.files = list(files)
        self.classes = tuple(classes)
        self.dropped = dict(dropped or {})
        self.max_pixels = max_pixels
        self.fingerprint = fingerprint_files(root, self.files, ["\0".join(self.classes).encode(), *labels])

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.root / self.files[index]

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an upright image; reads its header alone."""
        return size_of(self.path(index), self.max_pixels)

    def subset(self, kept: Sequence[int]) -> Self:
        """Return the set of some of the images, with a fingerprint of its own."""
        part = copy.copy(self)
        part.files = [self.files[index] for index in kept]
        if not part.files:
            raise DataError(f"{self.name} ({self.split}): no image is left.")
        part._select(kept)
        chosen = np.asarray(kept, dtype=np.int64).tobytes()
        part.fingerprint = hashlib.sha256(self.fingerprint.encode() + chosen).hexdigest()
        return part

    @abstractmethod
    def _select(self, kept: Sequence[int]) -> None:
        """Keep the labels of some of the images."""


class LabelFiles(ImageFiles[int]):
    """Image files with one class each.

    Args:
        name: Name of the set.
        split: Which part of it.
        root: The folder.
        files: The images, relative to the folder.
        labels: Their classes.
        classes: Class names.
        dropped: What was left out, and how often.
        max_pixels: Larger images are refused.

    Raises:
        DataError: If the set is empty, a file is missing, or a label stands for no class.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.labels = torch.tensor(list(labels), dtype=torch.int64)
        wrong = ((self.labels < 0) | (self.labels >= len(classes))).nonzero()
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"{name} ({split}): {root / files[first]} has label {int(self.labels[first])}, expected "
                f"0..{len(classes) - 1} for {len(classes)} classes."
            )
        super().__init__(
            name,
            split,
            root,
            files,
            classes,
            labels=[self.labels.numpy().tobytes()],
            dropped=dropped,
            max_pixels=max_pixels,
        )

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.path(index), self.max_pixels), int(self.labels[index])

    def _select(self, kept: Sequence[int]) -> None:
        self.labels = self.labels[torch.as_tensor(kept, dtype=torch.int64)]


class Masks(Protocol):
    """Where the masks of a set of images come from."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the mask of an image as it is stored: uint8 (H, W), classes or ``IGNORE``.

        Raises:
            DataError: If it is missing, damaged, or holds something else than its encoding allows; names the file.
        """
        ...

    def place(self, index: int) -> str:
        """Say where the mask of an image stands: a file, or a file and a key."""
        ...

    def digest(self) -> list[bytes]:
        """Return what decides the masks, for a fingerprint."""
        ...

    def subset(self, kept: Sequence[int]) -> Masks:
        """Return the masks of some of the images."""
        ...


class MaskFiles(ImageFiles[Tensor]):
    """Image files with a mask each.

    Args:
        name: Name of the set.
        split: Which part of it.
        root: The folder.
        files: The images, relative to the folder.
        masks: Their masks, in the same order.
        classes: Class names, 255 at most.
        resize: Whether an image of another size than its mask is brought to the mask's; else it is an error.
        dropped: What was left out, and how often.
        max_pixels: Larger images are refused.

    Raises:
        DataError: If the set is empty or a file is missing.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        masks: Masks,
        classes: Sequence[str],
        *,
        resize: bool = False,
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if len(classes) > IGNORE:
            raise DataError(f"{name} ({split}): {len(classes)} classes, but a mask can tell {IGNORE} apart.")
        super().__init__(
            name, split, root, files, classes, labels=masks.digest(), dropped=dropped, max_pixels=max_pixels
        )
        self.masks = masks
        self.resize = resize

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, stored = read_upright(self.path(index), self.max_pixels)
        mask = self.masks.read(index)
        if stored.turns(mask.shape[:2]):
            mask = turned(mask, stored.exif)
        if mask.shape != image.shape[1:]:
            if not self.resize:
                raise SizeMismatch(
                    f"{self.path(index)} has {image.shape[2]} x {image.shape[1]} pixels, but its mask "
                    f"{self.masks.place(index)} has {mask.shape[1]} x {mask.shape[0]}. Choose what happens with "
                    "on_size_mismatch: error, skip or resize."
                )
            image = F.resize(image, list(mask.shape), antialias=True)
        return image, torch.from_numpy(mask)

    def _select(self, kept: Sequence[int]) -> None:
        self.masks = self.masks.subset(kept)


class BoxFiles(ImageFiles[Boxes]):
    """Image files with boxes around objects.

    Args:
        name: Name of the set.
        split: Which part of it.
        root: The folder.
        files: The images, relative to the folder.
        boxes: The objects of each image, in pixels of the size that ``sizes`` gives.
        sizes: Height and width of each image as its labels say; None where they do not: then boxes are those of the
            upright image.
        classes: Class names.
        dropped: What was left out, and how often.
        max_pixels: Larger images are refused.

    Raises:
        DataError: If the set is empty, a file is missing, or a label stands for no class.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        boxes: Sequence[Boxes],
        sizes: Sequence[tuple[int, int] | None],
        classes: Sequence[str],
        *,
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.boxes = list(boxes)
        self.sizes = list(sizes)
        for file, objects in zip(files, self.boxes, strict=True):
            check_classes(f"{name} ({split}): {root / file}", objects.labels, classes)
        super().__init__(
            name, split, root, files, classes, labels=[boxes_bytes(self.boxes)], dropped=dropped, max_pixels=max_pixels
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Boxes]:
        image, stored = read_upright(self.path(index), self.max_pixels)
        objects, said = self.boxes[index], self.sizes[index]
        height, width = image.shape[1:]
        if said is not None and stored.turns(said):
            objects = turned_boxes(objects, stored)
        elif said is not None and said != (height, width):
            raise DataError(
                f"{self.path(index)} has {width} x {height} pixels, but its boxes were drawn on {said[1]} x {said[0]}. "
                "The annotations belong to other images, or the images were resized afterwards."
            )
        check_boxes(str(self.path(index)), objects, width, height, self.classes)
        return image, objects

    def _select(self, kept: Sequence[int]) -> None:
        self.boxes = [self.boxes[index] for index in kept]
        self.sizes = [self.sizes[index] for index in kept]


def existing(root: Path, files: Sequence[str], where: str, *, skip: bool) -> list[int]:
    """Choose the files that exist.

    Args:
        root: The folder.
        files: Relative names.
        where: What lists them, for the message.
        skip: Whether missing ones are left out.

    Returns:
        Indices, ascending.

    Raises:
        DataError: If files are missing and not to be left out, or none exists; names the first five.
    """
    gone = missing(root, files)
    if gone and not (skip and len(gone) < len(files)):
        raise DataError(
            f"{where}: {len(gone)} of {len(files)} images do not exist in {root}, e.g. {some(gone, 5)}. "
            "Fetch or unpack the rest, or leave them out with on_bad_image: skip."
        )
    left_out = set(gone)
    return [index for index, name in enumerate(files) if name not in left_out]


def usable_boxes(
    corners: ArrayLike,
    labels: Sequence[int] | NDArray[np.integer],
    size: tuple[int, int],
    *,
    crowd: Sequence[bool] | NDArray[np.bool_] | None = None,
    area: ArrayLike | None = None,
) -> tuple[Boxes, int]:
    """Bring boxes as annotations give them to what a detector can learn from.

    Boxes are clipped to the image; those without area afterwards, or with a corner that is not finite, are left out.

    Args:
        corners: x0, y0, x1, y1 in pixels from the upper left corner, half-open: real, (M, 4); M may be 0.
        labels: Classes: M of them.
        size: Height and width of the image in pixels.
        crowd: Whether a box stands for a group that nobody told apart: M of them; none does if not given.
        area: Pixels of the object's visible mask: M of them; where not finite and positive, the area of the clipped
            box.

    Returns:
        The objects, and how many were left out.
    """
    height, width = size
    raw = np.asarray(corners, dtype=np.float64).reshape(len(labels), 4)
    # Rounded to float32 before areas are looked at: a sliver may vanish in it.
    boxes = np.clip(raw, 0, [width, height, width, height]).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = np.isfinite(raw).all(1) & (sides > 0).all(1)
    areas = sides.prod(1)
    if area is not None:
        with np.errstate(over="ignore"):
            said = np.asarray(area, dtype=np.float64).astype(np.float32)
        areas = np.where(np.isfinite(said) & (said > 0), said, areas)
    groups = np.zeros(len(labels), dtype=np.bool_) if crowd is None else np.asarray(crowd, dtype=np.bool_)
    objects = Boxes(
        torch.from_numpy(boxes[kept]),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)[kept]),
        torch.from_numpy(groups[kept]),
        torch.from_numpy(areas[kept]),
    )
    return objects, int((~kept).sum())


def turned_boxes(objects: Boxes, stored: Orientation) -> Boxes:
    """Turn boxes as an image's EXIF orientation turns it."""
    height, width = stored.stored
    x0, y0, x1, y1 = objects.boxes.unbind(1)
    if stored.exif in (5, 6, 7, 8):
        x0, y0, x1, y1, height, width = y0, x0, y1, x1, width, height
    if stored.exif in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    if stored.exif in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    return replace(objects, boxes=torch.stack([x0, y0, x1, y1], 1))
