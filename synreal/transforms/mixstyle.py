"""MixStyle: each image gets statistics between its own and another's (Zhou et al., ICLR 2021)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from synreal.core.noise import FeatureNoise
from synreal.core.stages import Stage
from synreal.functional.draws import fold_in, permutation, symmetric_beta
from synreal.functional.statistics import mix_statistics
from synreal.transforms.base import TRANSFORMS
from synreal.transforms.noise import NoiseTransform


class PairedNoise(FeatureNoise):
    """Noise that pairs the images of a batch and mixes each pair with a share of Beta(alpha, alpha)."""

    def __init__(self, name: str, stage: Stage, number: int, *, chance: float, alpha: float) -> None:
        super().__init__(name, stage, number, chance=chance, least=2)
        self.alpha = alpha

    def pairs(self, images: int, key: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which image each is mixed with, int64, and the share that it keeps of itself, float32, both (N,)."""
        share = symmetric_beta(fold_in(key, 0), self.alpha, images)
        return permutation(fold_in(key, 1), images), share

    def disturb(self, maps: Tensor, key: Tensor) -> Tensor:
        """Mix statistics."""
        return mix_statistics(maps, *self.pairs(maps.shape[0], key))


@TRANSFORMS.register
class MixStyle(NoiseTransform):
    """MixStyle, in training alone: mean and deviation of each channel are mixed with those of another image.

    Attributes:
        alpha: Of Beta(alpha, alpha), which the share that an image keeps is drawn from.
    """

    name: ClassVar[str] = "mixstyle"
    summary: ClassVar[str] = "mixes each image's feature statistics with another's, in training"
    paper: ClassVar[str] = "MixStyle (Zhou et al., ICLR 2021)"

    alpha: float = Field(default=0.1, gt=0)

    def noise(self, stage: Stage, number: int) -> FeatureNoise:
        """Build what acts at one place."""
        return PairedNoise(self.name, stage, number, chance=self.p, alpha=self.alpha)
