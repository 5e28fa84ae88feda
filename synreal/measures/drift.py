"""How far the weights of a backbone are from those that it was pretrained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.functional.drift import weight_drift
from synreal.measures.base import MEASURES, Looker, Measure, State


class WeightDistances(Looker):
    """Holds how far groups of weights have moved; all processes have the same weights, so nothing is merged."""

    asks_frozen = True

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.found: dict[str, float] = {}

    def state(self) -> Sequence[State]:
        """Return nothing."""
        return []

    def weigh(
        self, weights: Mapping[str, Tensor], origin: Mapping[str, Tensor], groups: Mapping[str, Iterable[str]]
    ) -> None:
        """Compare the weights of both networks."""
        self.found = weight_drift(weights, origin, groups)


@MEASURES.register
class Drift(Measure[WeightDistances]):
    """Relative L2 distance of the backbone's parameters to the pretrained ones, of all and of each stage's."""

    name = "drift"
    summary = "relative L2 distance of the backbone's weights to the pretrained ones, whole and by stage"
    heading = "drift"
    collector = WeightDistances
    higher_is_better = False
    needs = "weights"

    def compute(self, collected: WeightDistances) -> float:
        """Return that of the whole backbone."""
        return collected.found["backbone"]

    def per_stage(self, collected: WeightDistances) -> Mapping[str, float]:
        """Return that of each stage: of what stands behind the stage before, up to its end."""
        return {name: value for name, value in collected.found.items() if name != "backbone"}
