"""How many predictions survive a change of light and focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet
from synreal.measures.base import MEASURES, Looker, Measure, State, Sum
from synreal.views import View
from synreal.views.base import Draws, ImageChange
from synreal.views.blur import BlurView
from synreal.views.jitter import JitterView


class PhotometricView(View):
    """A Gaussian blur, then a colour jitter, with the defaults of these views; no pixel moves."""

    name: ClassVar[str] = "photometric"
    summary: ClassVar[str] = "blur, then colour jitter"
    draws: ClassVar[Draws] = "each"
    moves: ClassVar[bool] = False

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        return _Both(BlurView().build(size), JitterView().build(size))


@dataclass(frozen=True)
class _Both:
    first: ImageChange
    second: ImageChange

    def __call__(self, image: Tensor) -> Tensor:
        return self.second(self.first(image))


class Survivors(Looker):
    """Counts predictions, of images or of valid pixels, and those that stay the same when images are changed."""

    label = ("classes", "masks")
    change = PhotometricView()

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.counts = Sum(2)

    def state(self) -> Sequence[State]:
        """Return the counts: the same, and all."""
        return [self.counts]

    def see_changed(
        self,
        output: Tensor | Sequence[Tensor],
        changed: Tensor | Sequence[Tensor],
        targets: Tensor | Sequence[Tensor],
    ) -> None:
        """Add one batch.

        Args:
            output: Of images scores, (N, C); of pixels class ids, (H, W), or logits, (C, H, W), for each image.
            changed: The same for the changed images.
            targets: Class ids, (N,) or (H, W) for each image; pixels of ``IGNORE`` do not count.
        """
        for before, after, target in zip(output, changed, targets, strict=True):
            same = _ids(before, target.ndim) == _ids(after, target.ndim)
            if target.ndim:
                same = same[target.to(same.device) != IGNORE]
            self.counts.value += same.new_tensor([int(same.sum()), same.numel()], dtype=self.counts.value.dtype).cpu()


def _ids(predicted: Tensor, dimensions: int) -> Tensor:
    return predicted.argmax(0) if predicted.ndim > dimensions else predicted


@MEASURES.register
class MatchRate(Measure[Survivors]):
    """Share of predictions that survive a photometric change, which is a function of the image's index alone."""

    name = "match_rate"
    summary = "share of predictions, of images or pixels, that survive a blur and a colour jitter"
    heading = "match rate"
    collector = Survivors
    needs = "styled predictions"

    def compute(self, collected: Survivors) -> float:
        """Return the share; NaN if nothing counts."""
        return collected.counts.share()
