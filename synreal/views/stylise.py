"""A painter's hand: flat areas in the colours of another palette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from synreal.views.base import VIEWS, Draws, ImageChange, View
from synreal.views.ranges import uniform, within

_STROKE = 1 / 56  # short sides that a stroke is wide: 4 pixels of 224


@VIEWS.register
class StyliseView(View):
    """Redraw each view in flat strokes and give its channels the mean and spread of a palette drawn at random.

    Pixels are averaged over strokes of 1/56 of the short side, each channel keeps some levels of brightness alone, and
    its mean and standard deviation become those of the palette: ``(x - mean) / std * std' + mean'``, adaptive instance
    normalization (Huang and Belongie, ICCV 2017) on pixels. No other image is needed.

    Attributes:
        levels: Levels of brightness that are left of each channel, at least 2.
        mean: Range of the palette's means, as a share of the range of pixel values, in [0, 1].
        std: Range of its standard deviations, likewise.
    """

    name: ClassVar[str] = "stylise"
    summary: ClassVar[str] = "flat strokes in a palette drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = False

    levels: int = Field(default=6, ge=2, le=256)
    mean: Annotated[tuple[float, float], within(0, 1)] = (0.3, 0.7)
    std: Annotated[tuple[float, float], within(0, 1)] = (0.1, 0.3)

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        return _Stylise(self.levels, self.mean, self.std)


@dataclass(frozen=True)
class _Stylise:
    levels: int
    mean: tuple[float, float]
    std: tuple[float, float]

    def __call__(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        stroke = max(1, round(min(height, width) * _STROKE))
        small = [max(1, height // stroke), max(1, width // stroke)]
        coarse = F.resize(F.resize(image, small, antialias=True), [height, width])
        flat = (coarse / 255 * (self.levels - 1)).round() / (self.levels - 1)
        std, mean = torch.std_mean(flat, (1, 2), correction=0, keepdim=True)
        mean_there, std_there = uniform(self.mean, 3, 1, 1), uniform(self.std, 3, 1, 1)
        # A channel of one brightness has no spread that could be stretched: its mean alone moves.
        drawn = torch.where(std > 0, (flat - mean) / std.clamp_min(1e-6) * std_there, flat - mean) + mean_there
        return (255 * drawn).round_().clamp_(0, 255).to(torch.uint8)
