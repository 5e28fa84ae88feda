"""Hyperspherical energy: how evenly the directions of a network's features spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import torch
from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.distributed import all_reduce_sum, rank, world_size
from synreal.functional.energy import Energies, energy_of_tiles, energy_tiles
from synreal.measures.base import MEASURES, Glance, Looker, Measure, Rows, State

POWERS: Final = (0.0, 1.0, 2.0)


class FeatureRows(Looker):
    """Keeps the pooled features of the last stage, float32: 50,000 of 2,048 numbers take 410 MB.

    Attributes:
        labels: Index in the set and class of each image, int64; -1 where an image has no single class.
    """

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.labels = Rows(2, torch.int64)
        self._features: Rows | None = None
        self._last = ""

    @property
    def features(self) -> Rows:
        """The features, (N, D), in the order of ``labels``."""
        assert self._features is not None, "begin was not called"
        return self._features

    def state(self) -> Sequence[State]:
        """Return labels and features."""
        return [self.labels, self.features]

    def begin(self, widths: Mapping[str, int]) -> None:
        """Make room for the features of the last stage."""
        self._last = list(widths)[-1]
        self._features = Rows(widths[self._last], torch.float32)

    def see(self, glance: Glance) -> None:
        """Add the features of one batch."""
        targets = glance.targets
        single = isinstance(targets, Tensor) and targets.ndim == 1
        classes = targets if single else torch.full_like(glance.indices, -1)
        self.labels.add(torch.stack([glance.indices.cpu(), classes.cpu()], 1))
        self.features.add(glance.features[self._last])


class FeaturePairs(FeatureRows):
    """The same, and the energies of pairs of them."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self._energies: Energies | None = None

    def see(self, glance: Glance) -> None:
        """Add the features of one batch."""
        super().see(glance)
        self._energies = None

    def gather(self, device: torch.device) -> None:
        """Bring together the rows of all processes, which then share the work on their pairs."""
        super().gather(device)
        fast = device if device.type == "cuda" else torch.device("cpu")
        table = energy_tiles(self.features.value.to(fast), POWERS, part=rank(), parts=world_size())
        self._energies = energy_of_tiles(all_reduce_sum(table.to(fast)).cpu())

    def energies(self) -> Energies:
        """Return the energies of ``POWERS``, computed once for all measures."""
        if self._energies is None:
            self._energies = energy_of_tiles(energy_tiles(self.features.value, POWERS))
        return self._energies


class _Energy(Measure[FeaturePairs]):
    collector = FeaturePairs
    higher_is_better = False
    needs = "features"
    unit = ""
    power: ClassVar[int]

    def compute(self, collected: FeaturePairs) -> float:
        """Return the energy; NaN for fewer than two images, infinite if all features have one direction."""
        return float(collected.energies().values[self.power])

    def note(self, collected: FeaturePairs) -> str | None:
        """Say how many pairs were left out."""
        found = collected.energies()
        if not found.coincident:
            return None
        return f"{found.coincident:,} of {found.pairs:,} pairs of features coincide and were left out"


@MEASURES.register
class Energy0(_Energy):
    """Mean over pairs of the logarithm of one over the distance (Liu et al., NeurIPS 2018, eq. 1)."""

    name = "energy_0"
    summary = "hyperspherical energy of the last stage's features, power 0 (a logarithm); lower is more diverse"
    heading = "HSE s=0"
    power = 0


@MEASURES.register
class Energy1(_Energy):
    """Mean over pairs of one over the distance."""

    name = "energy_1"
    summary = "hyperspherical energy of the last stage's features, power 1; lower is more diverse"
    heading = "HSE s=1"
    power = 1


@MEASURES.register
class Energy2(_Energy):
    """Mean over pairs of one over the squared distance."""

    name = "energy_2"
    summary = "hyperspherical energy of the last stage's features, power 2; lower is more diverse"
    heading = "HSE s=2"
    power = 2
