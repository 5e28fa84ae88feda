"""RandAugment with the operations of CSG (Chen et al., ICLR 2021)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from synreal.errors import ConfigError, DataError
from synreal.views.base import VIEWS, Draws, ImageChange, View, described

# The 14 operations of CSG's RandAugment, each drawn with the same probability.
OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "posterize",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
# Operations without a magnitude take place only this often once they are drawn.
_PROBABILITY = {"autocontrast": 0.2, "equalize": 0.2}
_MAX_MAGNITUDE = 30
# The published 100 px belong to VisDA-17's renders, which are 384 px wide.
_TRANSLATE_SHARE = 100 / 384


class RandAugment(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """RandAugment (Cubuk et al., 2020) with the operations of CSG (Chen et al., ICLR 2021).

    Each image takes ``num_ops`` operations, drawn uniformly with replacement from :data:`OPERATIONS`.
    With m = magnitude / 30:

    - rotate by ± 30 m degrees about the centre;
    - posterize to int(8 - 4 m) bits; solarize, that is invert, pixels >= 256 - 256 m;
    - colour, contrast, brightness, sharpness by a factor 1 ± 0.9 m;
    - shear by a slope of ± 0.3 m about the top-left corner;
    - translate along either axis by ± 100/384 m of the image's width, rounded to whole pixels: 100 m pixels
      at the 384 px of VisDA-17's renders, as published;
    - identity, autocontrast and equalize have no magnitude; the last two, once drawn, take place with
      probability 0.2.

    Signs are random. Geometric operations pick the nearest pixel and fill with black.

    Draws from torch's default CPU generator only.

    Args:
        num_ops: Operations per image, >= 0.
        magnitude: Strength M, in [0, 30]; CSG's 6 is the default.
        translate_px: Largest translation (at M = 30) in pixels, >= 0, whatever the image's size; by
            default it follows the width as above.

    Raises:
        ConfigError: An argument is out of its range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> RandAugment(num_ops=2)(image).shape
        torch.Size([3, 48, 64])
    """

    def __init__(self, num_ops: int = 1, magnitude: float = 6, translate_px: float | None = None) -> None:
        super().__init__()
        if isinstance(num_ops, bool) or not isinstance(num_ops, int) or num_ops < 0:
            raise ConfigError(f"RandAugment: num_ops is {num_ops!r}; expected a whole number >= 0, e.g. 1.")
        if not _is_number(magnitude) or not 0 <= magnitude <= _MAX_MAGNITUDE:
            raise ConfigError(
                f"RandAugment: magnitude is {magnitude!r}; expected a number from 0 to {_MAX_MAGNITUDE}, e.g. 6."
            )
        if translate_px is not None and (
            not _is_number(translate_px) or not math.isfinite(translate_px) or translate_px < 0
        ):
            raise ConfigError(
                f"RandAugment: translate_px is {translate_px!r}; expected pixels >= 0, or None to follow the width."
            )
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.translate_px = translate_px

    def forward(self, image: Tensor) -> Tensor:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).

        Returns:
            uint8 (3, H, W).

        Raises:
            DataError: The image is not of this form.
        """
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            raise DataError(
                f"RandAugment got {described(image)}; expected one uint8 image tensor (3, H, W). "
                "Convert with torchvision.transforms.v2.functional.pil_to_tensor, and grey to RGB."
            )
        for _ in range(self.num_ops):
            name = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            chance, coin = torch.rand(2).tolist()
            if chance < _PROBABILITY.get(name, 1.0):
                image = self.apply_operation(image, name, sign=1 if coin < 0.5 else -1)
        return image

    def apply_operation(self, image: Tensor, name: str, sign: int = 1) -> Tensor:
        """Apply one operation at this magnitude, with no randomness.

        Args:
            image: uint8 (3, H, W).
            name: One of :data:`OPERATIONS`.
            sign: 1 or -1, the direction of rotations, shears, translations and factors; others ignore it.
                Positive is: clockwise, right, down, stronger. A positive shear moves what is further from the
                top-left corner.

        Returns:
            uint8 (3, H, W).
        """
        m = self.magnitude / _MAX_MAGNITUDE
        signed = sign * m
        result: Tensor
        match name:
            case "identity":
                result = image
            case "autocontrast":
                result = F.autocontrast(image)
            case "equalize":
                result = F.equalize(image)
            case "rotate":
                # torchvision's affine turns clockwise for positive angles, its rotate the other way round.
                result = F.rotate(image, -30.0 * signed, fill=0)
            case "posterize":
                result = F.posterize(image, int(8 - 4 * m))
            case "solarize":
                threshold = 256 * (1 - m)
                # Above 255 no pixel reaches it, and torchvision refuses it.
                result = F.solarize(image, threshold) if threshold <= 255 else image
            case "color":
                result = F.adjust_saturation(image, 1 + 0.9 * signed)
            case "contrast":
                result = F.adjust_contrast(image, 1 + 0.9 * signed)
            case "brightness":
                result = F.adjust_brightness(image, 1 + 0.9 * signed)
            case "sharpness":
                result = _sharpened(image, 1 + 0.9 * signed)
            case "shear_x" | "shear_y":
                # torchvision takes the angle of a slope, and shears left and up for positive ones.
                angle = -math.degrees(math.atan(0.3 * signed))
                shear = [angle, 0.0] if name == "shear_x" else [0.0, angle]
                result = F.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0.0, 0.0], fill=0)
            case "translate_x" | "translate_y":
                largest = _TRANSLATE_SHARE * image.shape[-1] if self.translate_px is None else self.translate_px
                pixels = round(signed * largest)
                shift = [pixels, 0] if name == "translate_x" else [0, pixels]
                result = F.affine(image, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0], fill=0)
            case _:
                raise ConfigError(f"Unknown RandAugment operation {name!r}. Known: {', '.join(OPERATIONS)}.")
        return result

    def extra_repr(self) -> str:
        """Return the arguments as the constructor takes them."""
        return f"num_ops={self.num_ops}, magnitude={self.magnitude}, translate_px={self.translate_px}"


def _sharpened(image: Tensor, factor: float) -> Tensor:
    """Adjust sharpness as torchvision does, to the bit, in a fifteenth of the time: sums instead of a convolution.

    The blurred image weighs a pixel 5 and its eight neighbours 1, over 13; the border stays.

    Args:
        image: uint8 (3, H, W).
        factor: 0 is blurred, 1 unchanged, >= 0.
    """
    if min(image.shape[-2:]) <= 2:
        return image
    wide = image.to(torch.int16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    inner = wide[:, 1:-1, 1:-1]
    blurred = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner).float().div_(13).round_()
    sharp = inner.float()
    sharp.add_(blurred.sub_(sharp), alpha=1 - factor)
    result = image.clone()
    result[:, 1:-1, 1:-1] = sharp.clamp_(0, 255).to(torch.uint8)
    return result


def _is_number(value: object) -> bool:
    """Tell whether a value is an int or a float; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@VIEWS.register
class RandAugmentView(View):
    """RandAugment (Cubuk et al., 2020) with the operations of CSG (Chen et al., ICLR 2021); see ``RandAugment``.

    Attributes:
        ops: Operations per image.
        magnitude: Strength M, in [0, 30]; CSG's 6 is the default.
    """

    name: ClassVar[str] = "randaugment"
    summary: ClassVar[str] = "random operations on colours and geometry, drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = True

    ops: int = Field(default=1, ge=0)
    magnitude: float = Field(default=6, ge=0, le=_MAX_MAGNITUDE)

    def build(self, size: int | None) -> ImageChange:
        """Build the transform; it keeps the image's size."""
        return RandAugment(self.ops, self.magnitude)
