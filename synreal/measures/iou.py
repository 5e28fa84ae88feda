"""Overlap of classes of pixels."""

from __future__ import annotations

from collections.abc import Sequence

from synreal.functional.confusion import class_iou, share_right
from synreal.measures.base import MEASURES, Measure
from synreal.measures.collectors import PixelConfusion


@MEASURES.register
class MeanIoU(Measure[PixelConfusion]):
    """Mean over classes of intersection over union, counted over the whole set in one confusion matrix."""

    name = "mean_iou"
    summary = "mean over classes of intersection over union, from one confusion matrix"
    heading = "mIoU"
    collector = PixelConfusion
    per_class_heading = "IoU"

    def compute(self, collected: PixelConfusion) -> float:
        """Return the mean over classes that occur or are predicted."""
        return float(class_iou(collected.confusion).nanmean())

    def per_class(self, collected: PixelConfusion) -> Sequence[float]:
        """Return each class's IoU."""
        iou: list[float] = class_iou(collected.confusion).tolist()
        return iou


@MEASURES.register
class PixelAccuracy(Measure[PixelConfusion]):
    """Share of pixels whose class was recognised."""

    name = "pixel_accuracy"
    summary = "share of pixels whose class was recognised"
    heading = "pixels"
    collector = PixelConfusion

    def compute(self, collected: PixelConfusion) -> float:
        """Return the share."""
        return float(share_right(collected.confusion))
