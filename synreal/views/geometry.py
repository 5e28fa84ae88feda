"""Views of one image that share their geometry with the label: mirrored, resized and cropped once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Mask, TVTensor, wrap

from synreal.views.base import VIEWS, Draws, View

_NO_LABEL = 255  # of pixels that no image covers


def _ascending(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1]:
        raise ValueError("expected 0 < least <= greatest")
    return scale


@VIEWS.register
class GeometryView(View):
    """Mirror, resize and crop an image and its label, alike in all views, as CSG trains segmentation.

    What is too small for the crop is padded with black, and the mask there with 255. CSG: Chen et al., ICLR 2021,
    published code.

    Attributes:
        flip: How often the image is mirrored, in [0, 1].
        scale: Least and greatest factor by which it is resized first.
    """

    name: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "mirror, resize and crop, shared by all views and the label"
    draws: ClassVar[Draws] = "once"
    moves: ClassVar[bool] = True

    flip: float = Field(default=0.0, ge=0, le=1)
    scale: Annotated[tuple[float, float], AfterValidator(_ascending)] = (0.75, 1.25)

    def build(self, size: int | None) -> RandomScaledCrop:
        """Build what draws geometries; without a size the crop is as large as the image that came."""
        return RandomScaledCrop(self.flip, self.scale, size)


@dataclass(frozen=True)
class RandomScaledCrop:
    """Draws what ``GeometryView`` describes, always four numbers of torch's default CPU generator.

    Attributes:
        flip: As for ``GeometryView``.
        scale: As for ``GeometryView``.
        size: Side of the square crop in pixels; None: the image's own size.
    """

    flip: float
    scale: tuple[float, float]
    size: int | None

    def draw(self, height: int, width: int) -> ScaledCrop:
        """Draw the geometry of an image of this size, in pixels."""
        rows, columns = (self.size, self.size) if self.size is not None else (height, width)
        coin, factor, down, right = torch.rand(4, dtype=torch.float64).tolist()
        factor = self.scale[0] + factor * (self.scale[1] - self.scale[0])
        resized = (max(1, round(height * factor)), max(1, round(width * factor)))
        high, wide = max(0, rows - resized[0]), max(0, columns - resized[1])
        down_by, right_by = int(down * (high + 1)), int(right * (wide + 1))
        return ScaledCrop(
            before=(height, width),
            mirrored=coin < self.flip,
            resized=resized,
            padding=(right_by, down_by, wide - right_by, high - down_by),
            corner=(int(down * (max(0, resized[0] - rows) + 1)), int(right * (max(0, resized[1] - columns) + 1))),
            after=(rows, columns),
        )


@dataclass(frozen=True)
class ScaledCrop:
    """A drawn geometry: mirror, resize, pad, crop. Pairs are height and width, or row and column.

    Attributes:
        before: Size of the image that it is for.
        mirrored: Whether left and right change places.
        resized: Size to which the image is brought.
        padding: Pixels added then at the left, top, right and bottom.
        corner: Where the crop begins.
        after: Size of the crop.
    """

    before: tuple[int, int]
    mirrored: bool
    resized: tuple[int, int]
    padding: tuple[int, int, int, int]
    corner: tuple[int, int]
    after: tuple[int, int]

    def __call__(self, value: Any) -> Any:
        """Move an image or a label.

        Args:
            value: An image tensor (..., H, W), or an ``Image``, ``Mask`` (H, W) or ``BoundingBoxes`` of
                ``torchvision.tv_tensors``.

        Returns:
            The same kind of thing. Boxes are cut at the border; some may be left without an area.
        """
        if self.mirrored:
            value = F.horizontal_flip(value)
        if isinstance(value, Mask):
            return self._cut_mask(value)
        if self.resized != self.before:
            value = F.resize(value, list(self.resized), antialias=True)
        if any(self.padding):
            value = F.pad(value, list(self.padding), fill=0)
        moved = F.crop(value, *self.corner, *self.after)
        # What changes colours works channel by channel, and decoded images lie pixel by pixel.
        return wrap(moved.contiguous(), like=moved) if isinstance(moved, TVTensor) else moved.contiguous()

    def _cut_mask(self, mask: Mask) -> Mask:
        """Resize a mask and cut a part out, without making the rest; to the nearest pixel.

        torchvision's own way with masks is off by up to half a pixel.
        """
        ys, xs = (_nearest(had, wanted) for had, wanted in zip(mask.shape[-2:], self.resized, strict=True))
        (top, left), (rows, columns) = self.corner, self.after
        # NumPy takes bytes ten times as fast as torch does.
        part = mask.as_subclass(Tensor).numpy().take(ys[top : top + rows], 0).take(xs[left : left + columns], 1)
        found = Mask(torch.from_numpy(part))
        return F.pad(found, list(self.padding), fill=_NO_LABEL) if any(self.padding) else found


def _nearest(had: int, wanted: int) -> NDArray[np.int64]:
    """Return which of ``had`` pixels each of ``wanted`` takes."""
    places = torch.arange(had, dtype=torch.float32).view(1, 1, had)
    return nn.functional.interpolate(places, size=wanted, mode="nearest-exact").long().view(-1).numpy()
