"""NP and NP+: each channel's mean and deviation are scaled at random (Fan et al., 2023)."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field
from torch import Tensor

from synreal.core.noise import FeatureNoise
from synreal.core.stages import Stage
from synreal.functional.draws import fold_in, normal
from synreal.functional.statistics import perturb_statistics, relative_spread
from synreal.transforms.base import TRANSFORMS
from synreal.transforms.noise import NoiseTransform
from synreal.transforms.places import STEM, Places

_WIDER: Final = 1.5  # NP+: how much more the mean of the channel varies that differs most


class _ScalingNoise(FeatureNoise):
    def __init__(self, stage: Stage, number: int, *, chance: float, std: float, plus: bool) -> None:
        super().__init__("np", stage, number, chance=chance, least=2 if plus else 1)
        self.std = std
        self.plus = plus

    def disturb(self, maps: Tensor, key: Tensor) -> Tensor:
        """Scale statistics."""
        deviation_noise, mean_noise = (self.std * normal(fold_in(key, number), maps.shape[:2]) for number in (0, 1))
        if self.plus:
            mean_noise = mean_noise * (_WIDER * relative_spread(maps))
        return perturb_statistics(maps, 1 + deviation_noise, 1 + mean_noise)


@TRANSFORMS.register
class NormalizationPerturbation(NoiseTransform):
    """NP, in training alone: ``a x + (b - a) mu`` with a and b of N(1, std) for each image and channel.

    Attributes:
        stages: Behind which stages, or module paths; ``"conv"`` is the first convolution, ``"stem"`` the pooling
            before stage 1 or, in a network without one, stage 0. Early ones, where features are of style.
        std: Deviation of both factors. A negative a inverts contrast, which at 0.75 happens to one channel in eleven.
        plus: NP+: the factor of the mean varies 1.5 times as much, times how much the means of the channel differ
            within the batch against the channel that differs most.
    """

    name: ClassVar[str] = "np"
    summary: ClassVar[str] = "scales feature statistics at random, in training"
    paper: ClassVar[str] = "NP (Fan et al., 2023)"
    last_stage: ClassVar[bool] = True

    stages: Places = (STEM, 1)
    std: float = Field(default=0.75, gt=0)
    plus: bool = False

    @property
    def least_images(self) -> int:
        """NP+ looks at the batch."""
        return 2 if self.plus else 1

    def noise(self, stage: Stage, number: int) -> FeatureNoise:
        """Build what acts at one place."""
        return _ScalingNoise(stage, number, chance=self.p, std=self.std, plus=self.plus)
