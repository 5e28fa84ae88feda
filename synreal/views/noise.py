"""Gaussian noise: a sensor in the dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from synreal.views.base import VIEWS, Draws, ImageChange, View
from synreal.views.ranges import uniform, within


@VIEWS.register
class NoiseView(View):
    """Add Gaussian noise to each view, independent for every pixel and channel.

    Attributes:
        std: Range of the noise's standard deviation, as a share of the range of pixel values, in [0, 1].
    """

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "Gaussian noise on every pixel, drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = False

    std: Annotated[tuple[float, float], within(0, 1)] = (0.05, 0.15)

    def build(self, size: int | None) -> ImageChange:
        """Build the noise; it keeps the image's size."""
        return _Noise(self.std)


@dataclass(frozen=True)
class _Noise:
    std: tuple[float, float]

    def __call__(self, image: Tensor) -> Tensor:
        noise = torch.randn(image.shape) * (255 * uniform(self.std))
        return (image + noise).round_().clamp_(0, 255).to(torch.uint8)
