"""Images that lie in files, with what they are labelled with. Nothing is decoded before it is asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from typing_extensions import Self

from synreal.data.files.decoding import Orientation, read_image, read_upright, size_of, turned
from synreal.data.files.fingerprints import fingerprint_files
from synreal.data.files.paths import missing, some
from synreal.data.files.threads import in_threads
from synreal.data.labels.boxes import Boxes, Objects
from synreal.data.labels.classes import Classes
from synreal.data.labels.masks import Masks
from synreal.data.limits import MAX_PIXELS
from synreal.data.sets import ImageSet
from synreal.errors import DataError
from synreal.reading import is_text

Label = TypeVar("Label")

_THREADS = 16  # that read headers: they wait for the disk


class SizeMismatch(DataError):
    """An image and its mask differ in size."""


class ImageFiles(ImageSet[Label]):
    """What every set of image files shares; each kind of label has a class of its own, which reads the items.

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

    root: Path

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        classes: Sequence[str],
        *,
        labels: Iterable[bytes],
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if not files:
            raise DataError(f"{name} ({split}) holds no image: nothing that fits was found in {root}.")
        if (problem := self.label_kind.classes_problem(classes)) is not None:
            raise DataError(f"{name} ({split}): {problem}")
        if strange := [each for each in classes if not is_text(each)]:
            raise DataError(
                f"{name} ({split}): the class name {strange[0]!r} is no Unicode text, so it cannot be recorded. Rename "
                f"it where it is given, in {root}."
            )
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

    def _check(
        self, name: str, split: str, root: Path, files: Sequence[str], labels: Iterable[Label], classes: Sequence[str]
    ) -> None:
        """Raise ``DataError`` unless labels that are known before any image is read stand for classes."""
        for file, label in zip(files, labels, strict=True):
            if (problem := self.label_kind.problem(label, None, classes)) is not None:
                raise DataError(f"{name} ({split}): {root / file}: {problem}")


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

    label_kind = Classes()
    labels: Tensor

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
        self._check(name, split, root, files, labels, classes)
        self.labels = torch.tensor(list(labels), dtype=torch.int64)
        super().__init__(
            name,
            split,
            root,
            files,
            classes,
            labels=[b"".join(self.label_kind.digests(labels))],
            dropped=dropped,
            max_pixels=max_pixels,
        )

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.path(index), self.max_pixels), int(self.labels[index])


class MaskSource(Protocol):
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

    def path(self, index: int) -> Path | None:
        """Return the image file that holds the mask of an image; None if it is drawn."""
        ...

    def mask_file(self, index: int) -> Path | None:
        """Return the file that is opened each time the mask of an image is read; None if there is none."""
        ...

    def fault(self, index: int) -> str:
        """Name, in a few words, what keeps a mask from being read."""
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

    label_kind = Masks()

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        files: Sequence[str],
        masks: MaskSource,
        classes: Sequence[str],
        *,
        resize: bool = False,
        dropped: Mapping[str, int] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
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

    def label_path(self, index: int) -> Path | None:
        """Return the file of a mask."""
        return self.masks.path(index)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Return the files of an image and of its mask."""
        mask = self.masks.mask_file(index)
        return (self.path(index),) if mask is None else (self.path(index), mask)

    def label_fault(self, index: int) -> str:
        """Name what keeps a mask from being read."""
        return self.masks.fault(index)

    def as_stored(self) -> Self:
        """Return the set with images of the sizes that they have."""
        stored = copy.copy(self)
        stored.resize = False
        return stored


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

    label_kind = Objects()

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
        self._check(name, split, root, files, self.boxes, classes)
        super().__init__(
            name,
            split,
            root,
            files,
            classes,
            labels=[b"".join(self.label_kind.digests(self.boxes))],
            dropped=dropped,
            max_pixels=max_pixels,
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
        if (problem := self.label_kind.problem(objects, (height, width), self.classes)) is not None:
            raise DataError(f"{self.path(index)}: {problem}")
        return image, objects

    def label_fault(self, index: int) -> str:
        """Tell a box that does not fit from boxes of another image."""
        height, width = self.size(index)
        said = self.sizes[index]
        if said is not None and sorted(said) != sorted((height, width)):
            return "size mismatch"
        wrong = self.label_kind.problem(self.boxes[index], (height, width), self.classes)
        return "size mismatch" if wrong is None else "box outside or empty"


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


def sizes_of(
    paths: Sequence[Path], said: Sequence[tuple[int, int] | None], max_pixels: int = MAX_PIXELS, *, skip: bool
) -> list[tuple[int, int] | None]:
    """Return heights and widths of images.

    Args:
        paths: Their files.
        said: What labels say; None where it is read from the header of the image.
        max_pixels: Larger images are refused.
        skip: Whether None is returned for an image whose header cannot be read.

    Raises:
        DataError: If a header that is needed cannot be read, unless ``skip``.
    """

    def size(path: Path) -> tuple[int, int] | None:
        try:
            return size_of(path, max_pixels)
        except DataError:
            if not skip:
                raise
            return None

    read = iter(
        list(in_threads(size, [path for path, known in zip(paths, said, strict=True) if known is None], _THREADS))
    )
    return [next(read) if known is None else known for known in said]


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
