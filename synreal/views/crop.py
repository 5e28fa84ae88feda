"""Resize and crop to a square: what a classifier trains and is tested on."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn
from torchvision.transforms import v2

from synreal.errors import ConfigError
from synreal.views.base import VIEWS, Draws, ImageChange, View
from synreal.views.randaugment import RandAugment

Place = Literal["random", "center"]


@VIEWS.register
class CropView(View):
    """Resize the short side, bilinear with antialiasing, and crop a square; for classification.

    Attributes:
        place: Where the square lies: ``"random"``, or ``"center"`` as GCISG and ASG train.
    """

    name: ClassVar[str] = "crop"
    summary: ClassVar[str] = "short side resized, square crop, drawn anew for each view"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = True

    place: Place = "random"

    @property
    def fixed(self) -> bool:
        """Whether the square lies in the centre."""
        return self.place == "center"

    def build(self, size: int | None) -> ImageChange:
        """Build the transform.

        Raises:
            ConfigError: ``size`` is not a whole number >= 1.
        """
        transform: ImageChange = v2.Compose(self.steps(size))
        return transform

    def steps(self, size: int | None) -> list[nn.Module]:
        """Return the two steps, resize and crop; otherwise as ``build``."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"Image size is {size!r}; expected the side of a square in whole pixels >= 1, e.g. 224.")
        resize = v2.Resize(size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
        return [resize, v2.RandomCrop(size) if self.place == "random" else v2.CenterCrop(size)]


def classification_transform(
    size: int,
    *,
    train: bool,
    num_ops: int = 1,
    magnitude: float = 6,
    crop: Place = "random",
) -> nn.Module:
    """Build the image transform of CSG's classification runs (Chen et al., ICLR 2021); there is no flip.

    Training: :class:`RandAugment`, resize the short side to ``size``, random crop. Test: the same without
    RandAugment, centre crop. Resizing is bilinear with antialiasing.

    Args:
        size: Side of the square output in pixels, >= 1.
        train: Whether the transform is random.
        num_ops: RandAugment operations per image, >= 0; unused at test time.
        magnitude: RandAugment strength, in [0, 30]; unused at test time.
        crop: ``"random"``, or ``"center"`` as GCISG and ASG train; tests take the centre in any case.

    Returns:
        A module that maps a uint8 image (3, H, W) of any size to uint8 (3, size, size).

    Raises:
        ConfigError: An argument is out of its range.
    """
    chosen = VIEWS.build("crop", {"place": crop if train else "center"})
    assert isinstance(chosen, CropView)
    augment = [RandAugment(num_ops, magnitude)] if train else []
    transform: nn.Module = v2.Compose([*augment, *chosen.steps(size)])
    return transform
