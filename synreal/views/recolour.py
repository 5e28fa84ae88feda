"""Other light and other pigments: colour channels mixed at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from synreal.views.base import VIEWS, Draws, ImageChange, View
from synreal.views.ranges import uniform, within


@VIEWS.register
class RecolourView(View):
    """Mix the colour channels of each view, then bend its brightness.

    With an amount a, each new channel is ``(1 - a)`` of the old one and ``a`` of a random weighted mean of all three;
    a power of ``2^(-a)`` to ``2^a`` then makes it lighter or darker. Edges and their order of brightness within a
    channel stay.

    Attributes:
        amount: Range of a, in [0, 1]; at 0 nothing changes.
    """

    name: ClassVar[str] = "recolour"
    summary: ClassVar[str] = "colour channels mixed, lighter or darker, drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = False

    amount: Annotated[tuple[float, float], within(0, 1)] = (0.5, 1.0)

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        return _Recolour(self.amount)


@dataclass(frozen=True)
class _Recolour:
    amount: tuple[float, float]

    def __call__(self, image: Tensor) -> Tensor:
        amount = float(uniform(self.amount))
        mix = torch.rand(3, 3)
        mix = (1 - amount) * torch.eye(3) + amount * mix / mix.sum(1, keepdim=True)
        power = 2 ** (amount * uniform((-1, 1), 3, 1, 1))
        mixed = torch.einsum("oc,chw->ohw", mix, image / 255).pow(power)
        return (255 * mixed).round_().clamp_(0, 255).to(torch.uint8)
