"""Strong colour changes and erasing, as methods of unsupervised adaptation train on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from synreal.views.base import VIEWS, FurtherView, ImageChange
from synreal.views.blur import blurred
from synreal.views.ranges import uniform

# Shares of the image that each erasing covers, and its height over its width.
_ERASINGS: Final = (
    ((0.05, 0.2), (0.3, 3.3)),
    ((0.02, 0.2), (0.1, 6.0)),
    ((0.02, 0.2), (0.05, 8.0)),
)
_TRIES: Final = 10  # to find a rectangle that fits; a very long one may not


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("expected 0 <= low <= high")
    return value


Chance = Annotated[float, Field(ge=0, le=1)]


@VIEWS.register
class StrongView(FurtherView):
    """Change each view strongly: colour jitter, grey, blur, and three rectangles of noise, each by chance.

    Defaults are what ALDI trains on (Kay et al., TMLR 2025, published code); its blur, which also mixes channels, is a
    blur of pixels alone here. Noise is uniform. What DAFormer and DACS train on (Hoyer et al., CVPR 2022, published
    code) is ``strong(strength=0.2, hue=0.2, grey=0, sigma=(0.15, 1.15), erase=(0, 0, 0))``; there the jitter takes
    place with probability 0.8, though its setting is called a probability of 0.2. Labels stay: of an object that is
    erased, too.

    Attributes:
        jitter: Probability of the colour jitter.
        strength: Contrast, brightness and saturation, in this order, change by a factor in
            [1 - strength, 1 + strength]; in [0, 1].
        hue: With them, hue changes by up to this share of its circle, in [0, 0.5].
        grey: Probability of a grey image.
        blur: Probability of a Gaussian blur.
        sigma: Range of the blur's standard deviation in pixels.
        erase: Probabilities of three rectangles of noise; they cover 5 to 20 %, 2 to 20 % and 2 to 20 % of the image,
            with heights of 0.3 to 3.3, 0.1 to 6 and 0.05 to 8 widths.
    """

    name: ClassVar[str] = "strong"
    summary: ClassVar[str] = "colour jitter, grey, blur and erasing, each by chance (ALDI; DACS by its settings)"
    moves: ClassVar[bool] = False

    jitter: Chance = 0.8
    strength: float = Field(default=0.4, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    grey: Chance = 0.2
    blur: Chance = 0.5
    sigma: Annotated[tuple[float, float], AfterValidator(_ascending)] = (0.1, 2.0)
    erase: tuple[Chance, Chance, Chance] = (0.7, 0.5, 0.3)

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        return _Strong(self.jitter, self.strength, self.hue, self.grey, self.blur, self.sigma, self.erase)


@dataclass(frozen=True)
class _Strong:
    jitter: float
    strength: float
    hue: float
    grey: float
    blur: float
    sigma: tuple[float, float]
    erase: tuple[float, float, float]

    def __call__(self, image: Tensor) -> Tensor:
        jitter, grey, blur, *erase = torch.rand(6).tolist()
        if jitter < self.jitter:
            image = self._jittered(image)
        if grey < self.grey:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        if blur < self.blur:
            image = blurred(image, float(uniform(self.sigma)))
        for coin, often, (areas, aspects) in zip(erase, self.erase, _ERASINGS, strict=True):
            if coin < often:
                image = erased(image, areas, aspects)
        return image

    def _jittered(self, image: Tensor) -> Tensor:
        factors = uniform((1 - self.strength, 1 + self.strength), 3).tolist()
        for change, factor in zip((F.adjust_contrast, F.adjust_brightness, F.adjust_saturation), factors, strict=True):
            image = change(image, factor)
        return F.adjust_hue(image, float(uniform((-self.hue, self.hue)))) if self.hue else image


def erased(image: Tensor, areas: tuple[float, float], aspects: tuple[float, float]) -> Tensor:
    """Replace a rectangle by uniform noise (random erasing, Zhong et al., AAAI 2020, algorithm 1).

    Args:
        image: uint8, (3, H, W).
        areas: Range of the share of the image that it covers, uniform.
        aspects: Range of its height over its width, uniform as a logarithm.

    Returns:
        The image; as it is if no rectangle that was drawn fits into it.
    """
    height, width = image.shape[-2:]
    for _ in range(_TRIES):
        area = float(uniform(areas)) * height * width
        aspect = math.exp(float(uniform((math.log(aspects[0]), math.log(aspects[1])))))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 1 <= rows <= height and 1 <= columns <= width:
            top, left = (int(torch.randint(room + 1, ())) for room in (height - rows, width - columns))
            noise = torch.randint(256, (3, rows, columns), dtype=torch.uint8)
            image = image.clone(memory_format=torch.contiguous_format)
            image[:, top : top + rows, left : left + columns] = noise
            break
    return image
