"""The layers of RobustNet: InstanceNorm without scale and shift (Choi et al., CVPR 2021)."""

from __future__ import annotations

from typing import ClassVar, Final

from torch import nn

from synreal.core.whitening import Whitening
from synreal.transforms.base import TRANSFORMS, Transform, check_free
from synreal.transforms.normalization import Sites, device, epsilon, exchanged, replaced, width

_STAGES: Final = ("1", "2")


@TRANSFORMS.register
class InstanceWhitening(Transform):
    """InstanceNorm without scale and shift in the stem and behind the last sum of stages 1 and 2.

    In the stem it takes the place of BatchNorm, whose scale and shift are lost; of a stem of three convolutions the
    first two are exchanged. RobustNet's whitening losses, the regularizer ``isw``, penalise what these layers give.
    """

    name: ClassVar[str] = "instance_whitening"
    summary: ClassVar[str] = "InstanceNorm without scale and shift in the first stages, for whitening losses"
    paper: ClassVar[str] = "RobustNet (Choi et al., CVPR 2021)"

    def apply(self, network: nn.Module) -> None:
        """Exchange and add layers of a network.

        Raises:
            ConfigError: If the network has no BatchNorm in its stem, or no residual sum.
            StageError: If its stages are not found.
        """
        check_free(network, self.name)
        sites = Sites(network, self.name)
        places = sites.sums(_STAGES)
        stem = sites.stem_norms()
        chosen = stem[:2] if len(stem) > 2 else [sites.stem_norm()]
        made = {}
        for path, layer in chosen:
            norm = Whitening(width(layer), eps=epsilon(layer)).to(device(layer))
            made[path] = exchanged(layer, norm)
        replaced(network, made)
        for place in places.values():
            sites.put_behind_sum(place, Whitening(place[2]))
