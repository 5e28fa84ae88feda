"""What every classification data set gives the rest of the library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synreal.errors import DataError


class LabelledImages(Protocol):
    """Images with one class each: what the classification task reads.

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

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image (uint8, (3, H, W), RGB) and its label."""
        ...


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
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise DataError(
                f"{name} ({split}): expected uint8 images of shape (N, 3 or 1, H, W), "
                f"got {images.dtype} {tuple(images.shape)}."
            )
        if labels.shape != images.shape[:1]:
            raise DataError(f"{name} ({split}): {len(images)} images but labels of shape {tuple(labels.shape)}.")
        if len(images) == 0:
            raise DataError(f"{name} ({split}) holds no image.")
        if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
            raise DataError(
                f"{name} ({split}): labels span {int(labels.min())}..{int(labels.max())}, "
                f"expected 0..{len(classes) - 1}."
            )
        self.name = name
        self.split = split
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)
        digest = hashlib.sha256(images.contiguous().numpy().tobytes())
        digest.update(labels.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].expand(3, -1, -1), int(self.labels[index])
