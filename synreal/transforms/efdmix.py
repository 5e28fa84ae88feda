"""EFDMix: each image's values go towards those of the same rank in another (Zhang et al., CVPR 2022)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from synreal.core.noise import FeatureNoise
from synreal.core.stages import Stage
from synreal.functional.statistics import match_distributions
from synreal.transforms.base import TRANSFORMS
from synreal.transforms.mixstyle import MixStyle, PairedNoise


class _SortedNoise(PairedNoise):
    def disturb(self, maps: Tensor, key: Tensor) -> Tensor:
        """Mix sorted values."""
        return match_distributions(maps, *self.pairs(maps.shape[0], key))


@TRANSFORMS.register
class EFDMix(MixStyle):
    """EFDMix, in training alone: the whole distribution of each channel is mixed with another image's, by sorting."""

    name: ClassVar[str] = "efdmix"
    summary: ClassVar[str] = "mixes each image's sorted feature values with another's, in training"
    paper: ClassVar[str] = "EFDM (Zhang et al., CVPR 2022)"

    def noise(self, stage: Stage, number: int) -> FeatureNoise:
        """Build what acts at one place."""
        return _SortedNoise(self.name, stage, number, chance=self.p, alpha=self.alpha)
