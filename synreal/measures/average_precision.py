"""COCO's average precisions of boxes, at 100 detections per image and class."""

from __future__ import annotations

from collections.abc import Sequence

from synreal.measures.base import MEASURES, Measure
from synreal.measures.collectors import Detections


class _AveragePrecision(Measure[Detections]):
    collector = Detections

    def compute(self, collected: Detections) -> float:
        """Return the average precision; NaN if there is no object of the kind."""
        return collected.scores().measures[self.name]


@MEASURES.register
class AP(_AveragePrecision):
    """Mean over classes and over IoU .50:.05:.95."""

    name = "ap"
    summary = "COCO's average precision, mean over IoU .50:.05:.95"
    heading = "AP"
    per_class_heading = "AP"

    def per_class(self, collected: Detections) -> Sequence[float]:
        """Return the average precision of each class."""
        return collected.scores().per_class


@MEASURES.register
class AP50(_AveragePrecision):
    """Of boxes that overlap by half."""

    name = "ap50"
    summary = "COCO's average precision at IoU .50"
    heading = "AP50"


@MEASURES.register
class AP75(_AveragePrecision):
    """Of boxes that overlap by three quarters."""

    name = "ap75"
    summary = "COCO's average precision at IoU .75"
    heading = "AP75"


@MEASURES.register
class SmallAP(_AveragePrecision):
    """Of small objects."""

    name = "ap_small"
    summary = "COCO's average precision of objects of up to 32² pixels"
    heading = "AP small"
    part = "area < 32²"


@MEASURES.register
class MediumAP(_AveragePrecision):
    """Of objects of medium size."""

    name = "ap_medium"
    summary = "COCO's average precision of objects of 32² to 96² pixels"
    heading = "AP medium"
    part = "32² to 96²"


@MEASURES.register
class LargeAP(_AveragePrecision):
    """Of large objects."""

    name = "ap_large"
    summary = "COCO's average precision of objects of more than 96² pixels"
    heading = "AP large"
    part = "area > 96²"
