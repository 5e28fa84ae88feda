"""DSU: each image's statistics are drawn as widely as they differ within the batch (Li et al., ICLR 2022)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from synreal.core.noise import FeatureNoise
from synreal.core.stages import Stage
from synreal.functional.draws import fold_in, normal
from synreal.functional.statistics import shift_statistics
from synreal.transforms.base import TRANSFORMS
from synreal.transforms.noise import NoiseTransform
from synreal.transforms.places import FIRST, STEM, Places


class _UncertainNoise(FeatureNoise):
    def disturb(self, maps: Tensor, key: Tensor) -> Tensor:
        """Draw statistics."""
        mean_noise, deviation_noise = (normal(fold_in(key, number), maps.shape[:2]) for number in (0, 1))
        return shift_statistics(maps, mean_noise, deviation_noise)


@TRANSFORMS.register
class DSU(NoiseTransform):
    """DSU, in training alone: mean and deviation of each channel become normal, with the batch's own spread.

    Attributes:
        stages: Behind which stages, or module paths; ``"conv"`` is the first convolution, ``"stem"`` the pooling
            before stage 1 or, in a network without one, stage 0. The paper's six places.
    """

    name: ClassVar[str] = "dsu"
    summary: ClassVar[str] = "draws feature statistics with the batch's own spread, in training"
    paper: ClassVar[str] = "DSU (Li et al., ICLR 2022)"
    last_stage: ClassVar[bool] = True

    stages: Places = (FIRST, STEM, 1, 2, 3, 4)

    def noise(self, stage: Stage, number: int) -> FeatureNoise:
        """Build what acts at one place."""
        return _UncertainNoise(self.name, stage, number, chance=self.p, least=2)
