"""Gaussian blur: a lens that is out of focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from synreal.views.base import VIEWS, Draws, ImageChange, View
from synreal.views.ranges import uniform, within


@VIEWS.register
class BlurView(View):
    """Blur each view with a Gaussian.

    Attributes:
        sigma: Range of the Gaussian's standard deviation, as a share of the image's short side, in [0, 0.25]: images
            of every size lose the same detail.
    """

    name: ClassVar[str] = "blur"
    summary: ClassVar[str] = "Gaussian blur, drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = False

    sigma: Annotated[tuple[float, float], within(0, 0.25)] = (0.01, 0.02)

    def build(self, size: int | None) -> ImageChange:
        """Build the blur; it keeps the image's size."""
        return _Blur(self.sigma)


@dataclass(frozen=True)
class _Blur:
    sigma: tuple[float, float]

    def __call__(self, image: Tensor) -> Tensor:
        return blurred(image, min(image.shape[-2:]) * float(uniform(self.sigma)))


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur an image, uint8 (3, H, W), with a Gaussian of a standard deviation in pixels, cut at three of them."""
    reach = min(round(3 * sigma), min(image.shape[-2:]) - 1)  # the border is reflected: never over the whole image
    if reach < 1:
        return image
    changed: Tensor = F.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    return changed
