"""A class per pixel."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask

from synreal.data.labels.base import LABELS, Counts, Geometry, LabelKind, Table, span_problem

IGNORE: Final = 255
"""Label of the pixels of a mask that are ignored, in losses and in measures."""


@LABELS.register
class Masks(LabelKind[Tensor]):
    """A class per pixel, or ``IGNORE``: uint8, (H, W)."""

    name: ClassVar[str] = "masks"
    summary: ClassVar[str] = "A class per pixel."
    unit: ClassVar[str] = "pixels"
    background: ClassVar[bool] = True

    def realign(self, label: Tensor, table: Table) -> Tensor:
        """Look classes up; pixels of classes that the source does not have are ignored."""
        pixels = torch.full((IGNORE + 1,), IGNORE, dtype=torch.uint8)
        pixels[: len(table)] = torch.tensor([IGNORE if number is None else number for number in table]).to(torch.uint8)
        moved: Tensor = pixels[label.long()]
        return moved

    def resize(self, label: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        """Take the class of the nearest pixel."""
        nearest = v2.InterpolationMode.NEAREST_EXACT
        resized: Tensor = F.resize_image(label[None], list(after), interpolation=nearest)[0]
        return resized

    def transform(self, label: Tensor, geometry: Geometry) -> Tensor:
        """Move the mask."""
        moved: Tensor = geometry(Mask(label)).as_subclass(Tensor)
        return moved

    def count(self, label: Tensor, classes: int) -> Counts:
        """Count pixels; small is a single pixel that is not of the image's most frequent class."""
        counts = np.bincount(label.numpy().ravel(), minlength=IGNORE + 1)
        pixels = counts[:classes]
        rest = int(pixels.sum() - pixels.max(initial=0))
        return Counts(pixels, int(counts[IGNORE]), rest if rest == 1 else 0)

    def problem(self, label: Tensor, image_size: tuple[int, int] | None, classes: Sequence[str]) -> str | None:
        """Say what does not fit: dtype, shape or classes."""
        if label.dtype != torch.uint8 or label.ndim != 2 or (image_size is not None and label.shape != image_size):
            size = "(H, W)" if image_size is None else tuple(image_size)
            return f"expected a uint8 mask of shape {size}, got {label.dtype} {tuple(label.shape)}."
        return span_problem(label[label != IGNORE], classes)

    def classes_problem(self, classes: Sequence[str]) -> str | None:
        """Say that there are more classes than a mask has numbers for."""
        return f"{len(classes)} classes, but a mask can tell {IGNORE} apart." if len(classes) > IGNORE else None

    def remark(self, label: Tensor, classes: int, place: str) -> tuple[str, str] | None:
        """Say that a mask is ignored everywhere."""
        if self.count(label, classes).ignored < label.numel():
            return None
        return "mask ignored", f"All pixels of {place} are ignored."

    def teaches(self, counts: Counts) -> str | None:
        """Say that every pixel is ignored, that there is one class only, or that no object has more than a pixel."""
        if not counts.labels.any():
            return "all pixels are ignored"
        if np.count_nonzero(counts.labels) == 1:
            return "all pixels are of one class"
        if counts.small == counts.labels.sum() - counts.labels.max():
            return "no image shows more than one pixel of an object, as where shares of its size are drawn as pixels"
        return None

    def encode(self, label: Tensor) -> dict[str, NDArray[Any]]:
        """Return the mask as a PNG."""
        file = io.BytesIO()
        Image.fromarray(label.contiguous().numpy()).save(file, format="PNG", compress_level=1)
        return {"mask": np.frombuffer(file.getvalue(), dtype=np.uint8)}

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> Tensor:
        """Decode the PNG."""
        with Image.open(io.BytesIO(arrays["mask"].tobytes()), formats=["PNG"]) as image:
            return torch.from_numpy(np.array(image))
