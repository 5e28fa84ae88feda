"""IBN-Net: a part of BatchNorm becomes InstanceNorm (Pan et al., ECCV 2018)."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import torch
from torch import Tensor, nn

from synreal.core.whitening import InstanceNorm
from synreal.transforms.base import TRANSFORMS, Transform, check_free
from synreal.transforms.normalization import Sites, batch_norm, exchanged, instance_norm, replaced, width

_SPLIT_STAGES: Final = ("1", "2", "3")
_SUM_STAGES: Final = ("1", "2")


class SplitNorm(nn.Module):
    """Normalises some channels by image and the others by batch; its parts are named as in published IBN-Nets.

    Args:
        instance: For its own number of channels.
        batch: For the others.
        instance_first: Whether the first channels are normalised by image; else the last ones.
    """

    def __init__(self, instance: InstanceNorm, batch: nn.Module, *, instance_first: bool) -> None:
        super().__init__()
        self.IN = instance
        self.BN = batch
        self.instance_first = instance_first

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise, (N, C, H, W)."""
        count = self.IN.num_features
        sizes = [count, maps.shape[1] - count]
        if self.instance_first:
            first, rest = maps.split(sizes, 1)
            joined = torch.cat([self.IN(first), self.BN(rest)], 1)
        else:
            rest, last = maps.split(sizes[::-1], 1)
            joined = torch.cat([self.BN(rest), self.IN(last)], 1)
        channels_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
        return joined.contiguous(memory_format=torch.channels_last) if channels_last else joined


@TRANSFORMS.register
class IBN(Transform):
    """IBN-Net made of a pretrained network: InstanceNorm where features are of style, with BatchNorm's parameters.

    Attributes:
        variant: ``"a"``: the first BatchNorm of each block of stages 1 to 3 is split; half of the channels are
            normalised by image. ``"b"``: the stem's is exchanged, and InstanceNorm is added behind the last sum of
            stages 1 and 2, before the activation.
    """

    name: ClassVar[str] = "ibn"
    summary: ClassVar[str] = "InstanceNorm beside or in place of BatchNorm in the first stages"
    paper: ClassVar[str] = "IBN-Net (Pan et al., ECCV 2018)"

    variant: Literal["a", "b"] = "a"

    def apply(self, network: nn.Module) -> None:
        """Exchange layers of a network; those that learn or not, do so afterwards.

        Raises:
            ConfigError: If the network has no BatchNorm or none where the variant wants it.
            StageError: If its stages are not found.
        """
        check_free(network, self.name)
        sites = Sites(network, self.name)
        if self.variant == "b":
            self._add(network, sites)
        else:
            self._split(network, sites)

    def _split(self, network: nn.Module, sites: Sites) -> None:
        made = {}
        for stage in _SPLIT_STAGES:
            for number, (path, layer) in enumerate(sites.first_norms(stage)):
                dense = sites.dense(path)
                if dense and number % 3:
                    continue
                count = width(layer)
                # Of a dense layer the first 60 % stay: they are what earlier layers gave.
                cut = int(0.6 * count) if dense else count // 2
                first, rest = slice(0, cut), slice(cut, count)
                by_image, by_batch = (rest, first) if dense else (first, rest)
                split = SplitNorm(instance_norm(layer, by_image), batch_norm(layer, by_batch), instance_first=not dense)
                made[path] = exchanged(layer, split)
        replaced(network, made)

    def _add(self, network: nn.Module, sites: Sites) -> None:
        places = sites.sums(_SUM_STAGES)
        path, layer = sites.stem_norm()
        replaced(network, {path: exchanged(layer, instance_norm(layer, slice(None)))})
        for place in places.values():
            sites.put_behind_sum(place, InstanceNorm(place[2], affine=True))
