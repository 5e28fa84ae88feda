"""AugMix: an image mixed with chains of operations on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.distributions import Beta, Dirichlet
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from typing_extensions import Self

from synreal.views.base import VIEWS, FurtherView, ImageChange
from synreal.views.ranges import uniform

COLOURS: Final = ("autocontrast", "equalize", "posterize", "solarize")
"""Operations that leave pixels in their place."""

MOVEMENTS: Final = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
"""Operations that move them."""

_TOP: Final = 10  # the severity of the strongest operations
_LEAST: Final = 0.1  # severity of the weakest


def _lengths(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError("expected 1 <= least <= greatest")
    return value


@VIEWS.register
class AugMixView(FurtherView):
    """Mix each view with chains of random operations on it (AugMix, Hendrycks et al., ICLR 2020, algorithm 1).

    Each chain applies one to three operations, one after the other; the chains are averaged with weights
    ``w ~ Dirichlet(alpha)``, and the view is ``(1 - m) x + m sum_i w_i chain_i(x)``, ``m ~ Beta(alpha, alpha)``. The
    consistency term of the paper is no part of it; with ``further`` the task sees the clean image, as in the paper.

    In segmentation and detection the five operations that move pixels are left out, for labels would no longer fit;
    to ask for them by ``geometric=True`` is refused there unless ``further`` is set.

    Attributes:
        severity: How strong operations are, in [0.1, 10]: each draws its own from U(0.1, severity). The paper takes 1
            for ImageNet, which is the default, and 3 for CIFAR.
        width: Number of chains.
        depth: Least and greatest length of a chain.
        alpha: Concentration of both distributions, > 0.
        geometric: Whether rotations, shears and translations are among the operations.
    """

    name: ClassVar[str] = "augmix"
    summary: ClassVar[str] = "mixed with chains of random operations on it (AugMix)"
    moves: ClassVar[bool] = True

    severity: float = Field(default=1.0, ge=_LEAST, le=_TOP)
    width: int = Field(default=3, ge=1)
    depth: Annotated[tuple[int, int], AfterValidator(_lengths)] = (1, 3)
    alpha: float = Field(default=1.0, gt=0)
    geometric: bool = True

    @property
    def moving(self) -> bool:
        """Whether operations that move pixels are among them."""
        return self.geometric

    def dense(self) -> Self:
        """Return the view without operations that move pixels."""
        return self.with_defaults(geometric=False)

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        operations = (*COLOURS, *MOVEMENTS) if self.geometric else COLOURS
        return _AugMix(self.severity, self.width, self.depth, self.alpha, operations)


@dataclass(frozen=True)
class _AugMix:
    severity: float
    width: int
    depth: tuple[int, int]
    alpha: float
    operations: tuple[str, ...]

    def __call__(self, image: Tensor) -> Tensor:
        weights = Dirichlet(torch.full((self.width,), self.alpha)).sample().tolist()
        share = float(Beta(self.alpha, self.alpha).sample())
        mixed = (1 - share) * image
        for weight in weights:
            mixed.add_(self._chain(image), alpha=share * weight)
        return mixed.round_().clamp_(0, 255).to(torch.uint8)

    def _chain(self, image: Tensor) -> Tensor:
        for _ in range(int(torch.randint(self.depth[0], self.depth[1] + 1, ()))):
            name = self.operations[int(torch.randint(len(self.operations), ()))]
            level, coin = float(uniform((_LEAST, self.severity))), float(torch.rand(()))
            image = operated(image, name, level, 1 if coin < 0.5 else -1)
        return image


def operated(image: Tensor, name: str, level: float, sign: int) -> Tensor:
    """Apply one of AugMix's operations.

    With l = level / 10: rotate by 30 l degrees; shear by a slope of 0.3 l about the top-left corner; translate by a
    third of the side times l; posterize to 4 - 4 l bits; solarize, that is invert, pixels >= 256 - 256 l. Degrees,
    pixels, bits and thresholds are cut to whole numbers, as published. Pixels are interpolated, and what no pixel
    covers is black.

    Args:
        image: uint8, (3, H, W).
        name: One of ``COLOURS`` or ``MOVEMENTS``.
        level: In [0, 10].
        sign: 1 or -1, the direction of a movement.

    Returns:
        uint8, (3, H, W).
    """
    share = level / _TOP
    height, width = image.shape[-2:]
    changed: Tensor
    match name:
        case "autocontrast":
            changed = F.autocontrast(image)
        case "equalize":
            changed = F.equalize(image)
        case "posterize":
            changed = F.posterize(image, 4 - int(4 * share))
        case "solarize":
            threshold = 256 - int(256 * share)
            changed = F.solarize(image, threshold) if threshold <= 255 else image  # no pixel reaches 256
        case "rotate":
            changed = _moved(image, angle=sign * int(30 * share))
        case "shear_x" | "shear_y":
            slope = math.degrees(math.atan(sign * 0.3 * share))
            changed = _moved(image, shear=(slope, 0.0) if name == "shear_x" else (0.0, slope))
        case _:
            side = width if name == "translate_x" else height
            pixels = sign * int(side / 3 * share)
            changed = _moved(image, translate=(pixels, 0) if name == "translate_x" else (0, pixels))
    return changed


def _moved(
    image: Tensor,
    angle: float = 0.0,
    translate: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    moved: Tensor = F.affine(
        image,
        angle=angle,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        center=[0.0, 0.0] if any(shear) else None,
        interpolation=InterpolationMode.BILINEAR,
        fill=0,
    )
    return moved
