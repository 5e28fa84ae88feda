"""Colour jitter of every view but the first, as CSG trains segmentation (Chen et al., ICLR 2021, published code)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import nn
from torchvision.transforms import v2

from synreal.views.base import VIEWS, Draws, ImageChange, View


@VIEWS.register
class JitterView(View):
    """Change the colours of every view but the first; pixels stay where they are.

    Attributes:
        strength: Brightness, contrast and saturation change by a factor in [1 - strength, 1 + strength], hue by up to
            ``strength`` (at most half) of its circle; in [0, 1].
    """

    name: ClassVar[str] = "jitter"
    summary: ClassVar[str] = "colour jitter of every view but the first"
    draws: ClassVar[Draws] = "further"
    moves: ClassVar[bool] = False

    strength: float = Field(default=0.4, ge=0, le=1)

    def build(self, size: int | None) -> ImageChange:
        """Build the transform; it keeps the image's size."""
        strength = self.strength
        jitter = v2.ColorJitter(strength, strength, strength, min(strength, 0.5)) if strength else nn.Identity()
        transform: ImageChange = jitter
        return transform
