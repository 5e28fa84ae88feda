"""How alike a network's features are to those of the network as it was pretrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.functional.cka import cka_numbers, cka_of_sums, cka_sums
from synreal.measures.base import MEASURES, Glance, Looker, Measure, State, Sum

_ROWS: Final = 1024  # that are summed at once: their products are as wide as two features each, however few rows


class FeatureProducts(Looker):
    """Sums products of features of both networks, for each stage: memory does not grow with the images.

    float32 has 7 digits and float64 has 16, so sums about zero lose nothing that centred ones would keep.
    """

    asks_frozen = True

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.widths: dict[str, int] = {}
        self._sums: dict[str, Sum] = {}
        self._waiting: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = []
        self._rows = 0

    def state(self) -> Sequence[State]:
        """Return the sums of each stage."""
        self._flush()
        return list(self._sums.values())

    def begin(self, widths: Mapping[str, int]) -> None:
        """Make room for the sums."""
        self.widths = dict(widths)
        self._sums = {name: Sum(cka_numbers(width, width), dtype=torch.float64) for name, width in widths.items()}

    def see(self, glance: Glance) -> None:
        """Add the features of one batch."""
        self._waiting.append((glance.features, glance.frozen))
        self._rows += len(glance.indices)
        if self._rows >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        for name, total in self._sums.items() if self._waiting else ():
            x, y = (torch.cat([pair[side][name] for pair in self._waiting]) for side in (0, 1))
            total.add(cka_sums(x, y, x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1])))
        self._waiting, self._rows = [], 0

    def alignments(self) -> dict[str, float]:
        """Return the linear CKA of each stage; NaN where features do not vary, or for fewer than two images."""
        self._flush()
        return {
            name: float(cka_of_sums(total.value, self.widths[name], self.widths[name]))
            for name, total in self._sums.items()
        }


@MEASURES.register
class LinearCKA(Measure[FeatureProducts]):
    """Linear CKA (Kornblith et al., ICML 2019, eq. 4) to the pretrained network, of the last stage and of each."""

    name = "cka"
    summary = "linear CKA of features to those of the pretrained network, last stage and each; 1 is the same"
    heading = "CKA"
    collector = FeatureProducts
    needs = "features"
    unit = ""

    def compute(self, collected: FeatureProducts) -> float:
        """Return that of the last stage."""
        return list(collected.alignments().values())[-1]

    def per_stage(self, collected: FeatureProducts) -> Mapping[str, float]:
        """Return that of each stage."""
        return collected.alignments()
