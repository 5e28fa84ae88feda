"""What the transforms share that put noise on feature statistics: places, a chance, and a seed."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from synreal.core.noise import FeatureNoise
from synreal.core.stages import Stage
from synreal.transforms.base import Transform, check_free
from synreal.transforms.places import Places, find_places


class NoiseTransform(Transform):
    """A transform that changes feature maps in training alone: modules, state dict and eval mode stay as they are.

    The noise belongs to the network, ``attach`` and ``detach`` leave it on; ``synreal.transforms.remove_noise`` takes
    it off. Its seed is drawn from torch's generator, as fresh weights are.

    Attributes:
        stages: Behind which stages, or module paths; ``"conv"`` is the first convolution, ``"stem"`` the pooling
            before stage 1 or, in a network without one, stage 0.
        p: How likely the batch is changed, drawn for each place by itself; above 0.
    """

    changes_state: ClassVar[bool] = False
    last_stage: ClassVar[bool] = False

    stages: Places = (1, 2)
    p: float = Field(default=0.5, gt=0, le=1)

    @property
    def least_images(self) -> int:
        """Statistics of others in the batch are what most of them draw from."""
        return 2

    @abstractmethod
    def noise(self, stage: Stage, number: int) -> FeatureNoise:
        """Build what acts at one place.

        Args:
            stage: The place.
            number: Its number among the transform's.
        """

    def apply(self, network: nn.Module) -> None:
        """Put the noise on a network.

        Raises:
            ConfigError: If noise of this name is there already, a stage is the last and may not be, or the network is
                attached, compiled or wrapped.
            StageError: If there is no such stage.
        """
        check_free(network, self.name)
        places = find_places(network, self.stages, but_last=None if self.last_stage else self.name)
        noises = [self.noise(place, number) for number, place in enumerate(places)]
        for each in noises:
            each.check(network)
        seed = int(torch.randint(2**31, ()))
        for each in noises:
            each.put_on(network, seed)
