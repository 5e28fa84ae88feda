"""What a trained backbone still knows of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.measures.base import MEASURES, Looker, Measure, State, Sum


class RightImages(Looker):
    """Counts images, and those whose class scores highest."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.counts = Sum(2)

    def state(self) -> Sequence[State]:
        """Return the counts: right, and all."""
        return [self.counts]

    def update(self, output: Any, targets: Tensor) -> None:
        """Add one batch: scores of ImageNet's 1,000 classes, (N, 1000), and labels, (N,)."""
        right = output.argmax(1) == targets.to(output.device)
        self.counts.add(targets.new_tensor([int(right.sum()), len(right)]))


@MEASURES.register
class ImageNetAccuracy(Measure[RightImages]):
    """Acc_IN: top-1 accuracy on ImageNet of the trained backbone under the classifier that it was pretrained with."""

    name = "acc_in"
    summary = "accuracy on ImageNet of the trained backbone under its original classifier"
    heading = "Acc_IN"
    collector = RightImages
    needs = "imagenet"

    def compute(self, collected: RightImages) -> float:
        """Return the share; NaN if there is no image."""
        return collected.counts.share()
